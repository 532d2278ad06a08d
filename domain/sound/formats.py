"""Audio formats, and frames of samples."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[Any]
"""Samples as an array of shape (samples per channel, channels), in `SampleFormat.dtype`."""


_DTYPES = {"u8": "u1", "s16": "<i2", "s24": "<i4", "s32": "<i4", "f32": "<f4", "f64": "<f8"}


class SampleFormat(enum.Enum):
    """How one sample is stored: integers are linear PCM, floats have full scale at ±1.0.

    U8 is offset binary (silence is 128), as in WAV. S24 takes three bytes when packed; in memory
    it is an int32 array with values within ±2^23.
    """

    U8 = "u8"
    S16 = "s16"
    S24 = "s24"
    S32 = "s32"
    F32 = "f32"
    F64 = "f64"

    def __init__(self, name: str) -> None:
        self.dtype: np.dtype[Any] = np.dtype(_DTYPES[name])
        """The little-endian array type for samples of this format."""

    @property
    def bytes_per_sample(self) -> int:
        """Bytes per packed sample of one channel."""
        return 3 if self is SampleFormat.S24 else self.dtype.itemsize

    @property
    def is_float(self) -> bool:
        return self in (SampleFormat.F32, SampleFormat.F64)

    @property
    def bits(self) -> int:
        return self.bytes_per_sample * 8


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The format of a stream or a recording."""

    sample_rate_hz: int
    channels: int
    sample_format: SampleFormat = SampleFormat.S16

    def __post_init__(self) -> None:
        if self.sample_rate_hz <= 0:
            raise ValueError(f"sample_rate_hz is {self.sample_rate_hz}, not positive")
        if self.channels <= 0:
            raise ValueError(f"channels is {self.channels}, not positive")

    def as_json(self) -> dict[str, Any]:
        """Return the fields that state a format in ledgers, journals and requests."""
        return {
            "sample_rate_hz": self.sample_rate_hz,
            "channels": self.channels,
            "sample_format": self.sample_format.value,
        }

    @property
    def bytes_per_frame(self) -> int:
        """Bytes per packed sample of all channels."""
        return self.channels * self.sample_format.bytes_per_sample

    def __str__(self) -> str:
        layout = {1: "mono", 2: "stereo"}.get(self.channels, f"{self.channels} channels")
        return f"{self.sample_rate_hz} Hz, {self.sample_format.bits} bit, {layout}"


@dataclass(slots=True, eq=False)
class AudioFrame:
    """A run of samples with its position in the stream.

    `samples` has shape (n, channels) and the dtype of `format.sample_format`. `position` counts
    samples per channel since the stream began, including lost ones. The dataclass is not frozen
    because one is made for each packet.
    """

    format: AudioFormat
    samples: Samples
    position: int = 0

    def __post_init__(self) -> None:
        shape, dtype = self.samples.shape, self.samples.dtype
        if len(shape) != 2 or shape[1] != self.format.channels:
            raise ValueError(f"samples have shape {shape}, not (n, {self.format.channels})")
        if dtype != self.format.sample_format.dtype:
            raise ValueError(f"samples are {dtype}, not {self.format.sample_format.dtype}")

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def end(self) -> int:
        """The position after the last sample."""
        return self.position + len(self.samples)


def silence(audio_format: AudioFormat, length: int) -> Samples:
    """Return `length` samples of silence, shape (length, channels)."""
    value = 128 if audio_format.sample_format is SampleFormat.U8 else 0
    return np.full((length, audio_format.channels), value, dtype=audio_format.sample_format.dtype)
