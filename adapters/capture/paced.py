"""Sources without a device that still deliver in real time: a file, a test tone."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Sequence

import numpy as np
import soundfile

from adapters.capture.threads import deliver_in_thread
from domain.errors import InputUnreadable
from domain.ports.capture import AudioSource, BlockConsumer, CaptureRequest, InputDevice
from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat, Samples

BLOCK_S = 0.02
_TONE_HZ = (262, 294, 330, 349, 392, 440, 494, 523)
_TONE_AMPLITUDE = 0.25
_INTEGER_SUBTYPES = frozenset({"PCM_16", "PCM_U8", "PCM_S8"})


class _PacedSource:
    """Delivers each block no earlier than a microphone would."""

    device = None

    def __init__(self, audio_format: AudioFormat) -> None:
        self.format = audio_format
        self.overrun_samples = 0  # blocks are made on demand, so none is ever lost
        self._block = round(BLOCK_S * audio_format.sample_rate_hz)
        self._position = 0
        self._started: float | None = None
        self._is_stopped = False

    async def deliver(self, consume: BlockConsumer) -> None:
        await deliver_in_thread(self._wait, consume, interrupt=self.stop)

    def _wait(self) -> AudioFrame | None:
        """Wait until the next block is due and return it; None at the end."""
        if self._started is None:
            self._started = time.monotonic()
        position = self._position
        samples = self._next(position, self._block)
        block, end = AudioFrame(self.format, samples, position), position + len(samples)
        if (left := self._started + end / self.format.sample_rate_hz - time.monotonic()) > 0:
            time.sleep(left)  # at most one block, so `stop` need not interrupt it
        if self._is_stopped or end == position:
            return None
        self._position = end
        return block

    def stop(self) -> None:
        self._is_stopped = True

    async def close(self) -> None:
        self._is_stopped = True

    def _next(self, position: int, length: int) -> Samples:
        """Return at most `length` samples from `position` on; none at the end."""
        raise NotImplementedError


class FileSource(_PacedSource):
    """Plays any file that libsndfile can read."""

    def __init__(self, path: str) -> None:
        try:
            with pathlib.Path(path).open("rb"):
                pass  # gives the reason, where libsndfile only says "system error"
            self._file = soundfile.SoundFile(path)
        except (soundfile.LibsndfileError, OSError, TypeError) as error:
            raise InputUnreadable(f"cannot read {path} as audio: {_reason(error)}") from error
        self._path = path
        exact = self._file.subtype in _INTEGER_SUBTYPES
        super().__init__(
            AudioFormat(
                self._file.samplerate,
                self._file.channels,
                SampleFormat.S16 if exact else SampleFormat.F32,
            )
        )

    async def close(self) -> None:
        await super().close()
        self._file.close()

    def _next(self, position: int, length: int) -> Samples:
        dtype = "int16" if self.format.sample_format is SampleFormat.S16 else "float32"
        try:
            samples: Samples = self._file.read(length, dtype=dtype, always_2d=True)
        except soundfile.LibsndfileError as error:
            at = position / self.format.sample_rate_hz
            raise InputUnreadable(f"{self._path} is damaged at {at:.1f} s") from error
        return samples


class ToneSource(_PacedSource):
    """Plays a tone whose pitch changes every second, so that a recording shows its own time."""

    def __init__(self, audio_format: AudioFormat) -> None:
        super().__init__(audio_format)
        cycle = tone(audio_format)
        self._period = len(cycle)
        self._cycle = np.concatenate([cycle, cycle[: self._block]])  # so every block is one slice

    def _next(self, position: int, length: int) -> Samples:
        start = position % self._period
        return self._cycle[start : start + length]


def tone(audio_format: AudioFormat) -> Samples:
    """Return one cycle of the tone, eight seconds long; shape (n, channels), s16."""
    rate = audio_format.sample_rate_hz
    turns = np.outer(_TONE_HZ, np.arange(rate)) / rate
    wave = _TONE_AMPLITUDE * np.sin(2 * np.pi * turns)
    mono = np.rint(wave * 32767).astype("<i2").reshape(-1, 1)
    return np.repeat(mono, audio_format.channels, axis=1)


class FileCapture:
    """Opens a file as a source that delivers in real time."""

    def devices(self) -> Sequence[InputDevice]:
        return []

    async def open(self, request: CaptureRequest) -> AudioSource:
        if request.path is None:
            raise InputUnreadable("no input file was given")
        return FileSource(request.path)


class ToneCapture:
    """Opens the test tone as a source."""

    def devices(self) -> Sequence[InputDevice]:
        return []

    async def open(self, request: CaptureRequest) -> AudioSource:
        return ToneSource(AudioFormat(request.sample_rate_hz, request.channels))


def _reason(error: Exception) -> str:
    if isinstance(error, soundfile.LibsndfileError):
        return str(error.error_string).rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
