"""Sources without a device that still deliver in real time: a file, a test tone."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from adapters.capture.threads import deliver_in_thread
from adapters.sound_file import SoundFile
from domain.errors import InputUnreadable
from domain.ports.capture import AudioSource, BlockConsumer, CaptureRequest, InputDevice
from domain.sound.formats import AudioFormat, AudioFrame, Samples

BLOCK_S = 0.02
_TONE_HZ = (262, 294, 330, 349, 392, 440, 494, 523)
_TONE_AMPLITUDE = 0.25


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
    """Plays a file."""

    def __init__(self, path: str) -> None:
        self._file = SoundFile(path)
        super().__init__(self._file.format)

    async def close(self) -> None:
        await super().close()
        self._file.close()

    def _next(self, position: int, length: int) -> Samples:
        return self._file.read(length)


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
    """Return one cycle of the tone, eight seconds long; shape (n, channels)."""
    rate = audio_format.sample_rate_hz
    turns = np.outer(_TONE_HZ, np.arange(rate)) / rate
    wave = _TONE_AMPLITUDE * np.sin(2 * np.pi * turns)
    sample_format = audio_format.sample_format
    peak = (1 << (sample_format.bits - 1)) - 1
    mono = np.rint(wave * peak).astype(sample_format.dtype).reshape(-1, 1)
    return np.repeat(mono, audio_format.channels, axis=1)


class FileCapture:
    """Opens a file as a source that delivers in real time."""

    def devices(self) -> Sequence[InputDevice]:
        return []

    def rates(self, device: InputDevice) -> Sequence[int]:
        return []

    async def open(self, request: CaptureRequest) -> AudioSource:
        if request.path is None:
            raise InputUnreadable("no input file was given")
        return FileSource(request.path)


class ToneCapture:
    """Opens the test tone as a source."""

    def devices(self) -> Sequence[InputDevice]:
        return []

    def rates(self, device: InputDevice) -> Sequence[int]:
        return []

    async def open(self, request: CaptureRequest) -> AudioSource:
        return ToneSource(request.format)
