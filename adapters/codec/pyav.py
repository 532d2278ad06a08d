"""Decodes G.711 and G.722, and resamples, with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

from adapters.codec.pyav_frames import from_av
from domain.errors import PayloadInvalid
from domain.sound.conversion import convert_frame
from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat
from domain.sound.pieces import Sound

_FFMPEG_NAMES = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw", "g722": "g722"}


class TelephoneDecoder:
    """Decodes PCMU, PCMA or G.722 to s16 mono."""

    def __init__(self, name: str, audio_format: AudioFormat) -> None:
        codec = av.CodecContext.create(_FFMPEG_NAMES[name], "r")
        assert isinstance(codec, av.AudioCodecContext)
        codec.sample_rate = audio_format.sample_rate_hz
        codec.layout = "mono"
        self._codec = codec
        self._format = audio_format
        self._gathered: list[Sound] = []

    def decode(self, payload: bytes) -> int:
        if not payload:
            # an empty packet would flush FFmpeg's decoder, and every later packet would fail
            raise PayloadInvalid("the packet is empty")
        try:
            decoded = self._codec.decode(av.Packet(payload))
        except av.FFmpegError as error:
            raise PayloadInvalid(str(error)) from error
        frames = [convert_frame(from_av(frame), self._format) for frame in decoded]
        if not frames:
            raise PayloadInvalid(f"{len(payload)} bytes contain no sound")
        self._gathered += [frame.samples for frame in frames]
        return sum(map(len, frames))

    def recoverable(self, payload: bytes) -> int:
        return 0

    def recover(self, payload: bytes) -> int:
        raise PayloadInvalid("this codec carries no FEC")

    def conceal(self, length: int) -> int:
        return 0

    def collect(self) -> list[Sound]:
        gathered, self._gathered = self._gathered, []
        return gathered


class PyAvResampler:
    """Converts blocks of any rate, format and channel count to s16 at one rate.

    If the rate is right already, there is no filter: only format and channels are converted.
    """

    def __init__(self, source: AudioFormat, target: AudioFormat) -> None:
        assert target.sample_format is SampleFormat.S16
        self._source = source
        self._target = target
        self._same_rate = AudioFormat(source.sample_rate_hz, target.channels, target.sample_format)
        self._is_idle = source == target
        self._filter: av.AudioResampler | None = None
        self._expected = 0
        self._position = 0

    def push(self, block: AudioFrame) -> Sequence[AudioFrame]:
        if self._is_idle:
            return (block,)
        converted = convert_frame(block, self._same_rate)
        if self._source.sample_rate_hz == self._target.sample_rate_hz:
            return (converted,)
        before: Sequence[AudioFrame] = ()
        if self._filter is None or block.position != self._expected:
            before = self.flush()
            self._begin(block.position)
        assert self._filter is not None
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(converted.samples.reshape(1, -1)),
            format="s16",
            layout=self._layout,
        )
        frame.sample_rate = self._source.sample_rate_hz
        frame.time_base = Fraction(1, self._source.sample_rate_hz)
        self._expected = block.end
        return (*before, *self._collect(self._filter.resample(frame)))

    def flush(self) -> Sequence[AudioFrame]:
        if self._filter is None:
            return ()
        rest = self._collect(self._filter.resample(None))
        self._filter = None
        return rest

    @property
    def _layout(self) -> str:
        return "mono" if self._target.channels == 1 else "stereo"

    def _begin(self, position: int) -> None:
        """Create a filter without history, for sound that begins at `position`."""
        self._filter = av.AudioResampler(
            format="s16", layout=self._layout, rate=self._target.sample_rate_hz
        )
        scaled = position * self._target.sample_rate_hz // self._source.sample_rate_hz
        self._position = max(self._position, scaled)

    def _collect(self, frames: list[av.AudioFrame]) -> Sequence[AudioFrame]:
        collected: list[AudioFrame] = []
        for frame in frames:
            if frame.samples:
                resampled = from_av(frame, position=self._position)
                self._position = resampled.end
                collected.append(resampled)
        return collected
