"""Makes FLAC, Opus and MP3 files of sound with PyAV, and WAVs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from adapters.storage.wav.header import whole_header
from domain.errors import InputUnreadable
from domain.ports.conversion import FileEncoder, FileFormat
from domain.sound.conversion import convert, mix_channels, pack
from domain.sound.formats import AudioFormat, SampleFormat, Samples

_OPUS_RATE_HZ = 48_000
_MP3_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_FLAC_CHANNELS = 8
_OPUS_BITRATES = {1: 64_000, 2: 112_000}
_MP3_BITRATES = {1: 96_000, 2: 160_000}
_FLAC_TOTAL = slice(21, 26)
"""Where the number of samples is in a FLAC file, in the last 36 bits of these bytes."""
_FLAC_HEAD = 42
"""Bytes of a FLAC file up to the end of STREAMINFO."""
_NAMES = {SampleFormat.S16: "s16", SampleFormat.S32: "s32", SampleFormat.F32: "flt"}


def begin_file(file_format: FileFormat, audio_format: AudioFormat, length: int) -> FileEncoder:
    """Begin a file, as `FileEncoderFactory`."""
    if file_format is FileFormat.WAV:
        return WavEncoder(audio_format, length)
    return AvEncoder(file_format, audio_format, length)


class WavEncoder:
    """Makes a WAV, or an RF64 beyond 4 GiB, in the format of its samples."""

    def __init__(self, audio_format: AudioFormat, length: int) -> None:
        self._format = audio_format
        self._left = length
        data_size = length * audio_format.bytes_per_frame
        self._header = whole_header(audio_format, data_size)
        self._padding = b"\0" * (data_size % 2)
        self.size = len(self._header) + data_size + data_size % 2

    def encode(self, samples: Samples) -> bytes:
        header, self._header = self._header, b""
        self._left = _counted(self._left, samples)
        return header + pack(samples, self._format.sample_format)

    def finish(self) -> bytes:
        _check_all(self._left)
        return self._header + self._padding

    def close(self) -> None:
        """Nothing to release."""


class _Output:
    """A file that cannot be rewound, as PyAV wants it; it hands on what was written."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken


class AvEncoder:
    """Makes a file with FFmpeg, which works without the GIL."""

    size = None

    def __init__(self, file_format: FileFormat, audio_format: AudioFormat, length: int) -> None:
        self._source = audio_format
        self._left = length
        self._total = length if file_format is FileFormat.FLAC else 0
        self._target, codec, container, bitrate = _target(file_format, audio_format)
        self._output = _Output()
        self._position = 0
        # without the option each packet would be a call of `write`, which needs the GIL
        self._container = av.open(
            self._output, "w", format=container, container_options={"flush_packets": "0"}
        )
        layout = _layout(self._target.channels)
        stream: Any = self._container.add_stream(codec, rate=self._target.sample_rate_hz)
        stream.layout = layout
        stream.time_base = Fraction(1, self._target.sample_rate_hz)
        stream.codec_context.thread_count = 1
        if bitrate is not None:
            stream.bit_rate = bitrate
        name = _NAMES[self._target.sample_format]
        self._stream = stream
        stream.format = {"libmp3lame": f"{name}p"}.get(codec, name)
        self._resampler = av.AudioResampler(
            format=stream.format, layout=layout, rate=self._target.sample_rate_hz
        )

    def encode(self, samples: Samples) -> bytes:
        self._left = _counted(self._left, samples)
        if not len(samples):
            return b""
        source, target = self._source, self._target
        mixed = mix_channels(samples, source.sample_format, target.channels)
        converted = convert(mixed, source.sample_format, target.sample_format)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(converted).reshape(1, -1),
            format=_NAMES[target.sample_format],
            layout=_layout(target.channels),
        )
        frame.sample_rate = source.sample_rate_hz
        frame.time_base = Fraction(1, source.sample_rate_hz)
        frame.pts = self._position
        self._position += len(samples)
        with _errors_translated():
            for ready in self._resampler.resample(frame):
                self._container.mux(self._stream.encode(ready))
        return self._taken()

    def finish(self) -> bytes:
        _check_all(self._left)
        with _errors_translated():
            if self._position:
                for ready in self._resampler.resample(None):
                    self._container.mux(self._stream.encode(ready))
            self._container.mux(self._stream.encode(None))
            self._container.close()
        return self._taken()

    def close(self) -> None:
        self._container.close()

    def _taken(self) -> bytes:
        taken = self._output.take()
        if self._total and len(taken) >= _FLAC_HEAD:
            # FFmpeg would go back and write it at the end
            head = bytearray(taken)
            total = int.from_bytes(head[_FLAC_TOTAL], "big") | (self._total & (2**36 - 1))
            head[_FLAC_TOTAL] = total.to_bytes(5, "big")
            taken, self._total = bytes(head), 0
        return taken


@contextlib.contextmanager
def _errors_translated() -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise InputUnreadable(f"the sound cannot be encoded: {error}") from error


def _target(
    file_format: FileFormat, source: AudioFormat
) -> tuple[AudioFormat, str, str, int | None]:
    """Return what is encoded, FFmpeg's names of codec and container, and the bit rate."""
    rate, two = source.sample_rate_hz, min(source.channels, 2)
    if file_format is FileFormat.FLAC:
        is_short = source.sample_format in (SampleFormat.U8, SampleFormat.S16)
        sample_format = SampleFormat.S16 if is_short else SampleFormat.S32
        channels = min(source.channels, _FLAC_CHANNELS)
        return AudioFormat(rate, channels, sample_format), "flac", "flac", None
    if file_format is FileFormat.OPUS:
        target = AudioFormat(_OPUS_RATE_HZ, two, SampleFormat.F32)
        return target, "libopus", "ogg", _OPUS_BITRATES[two]
    fitting = [known for known in _MP3_RATES_HZ if known >= rate]
    target = AudioFormat(fitting[0] if fitting else _MP3_RATES_HZ[-1], two, SampleFormat.F32)
    return target, "libmp3lame", "mp3", _MP3_BITRATES[two]


def _layout(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels}c")


def _counted(left: int, samples: Samples) -> int:
    """Return how many samples are left. Raises `InputUnreadable` if there are too many."""
    if len(samples) > left:
        raise InputUnreadable("the recording has more samples than its ledger says")
    return left - len(samples)


def _check_all(left: int) -> None:
    if left:
        raise InputUnreadable("the recording has fewer samples than its ledger says")
