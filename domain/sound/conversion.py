"""Converts sample formats, layouts and channel counts.

Integers share one scale: full scale is 2^(bits-1), so widening is a shift, and narrowing rounds to
nearest and saturates. Floats have full scale at ±1.0. The laws (round trips, error bounds in LSB)
are in `tests/property/test_conversion_laws.py`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat, Samples

Bytes: TypeAlias = bytes | bytearray | memoryview


def unpack(data: Bytes, audio_format: AudioFormat, *, planar: bool = False) -> Samples:
    """Read packed (interleaved) or planar bytes as samples of shape (n, channels).

    Raises `ValueError` when `data` does not hold a whole number of samples of every channel.
    """
    width = audio_format.bytes_per_frame
    if len(data) % width:
        raise ValueError(f"{len(data)} bytes are not a multiple of {width} ({audio_format})")
    if audio_format.sample_format is SampleFormat.S24:
        flat = _unpack_s24(data)
    else:
        flat = np.frombuffer(data, dtype=audio_format.sample_format.dtype)
    if planar:
        return np.ascontiguousarray(flat.reshape(audio_format.channels, -1).T)
    return flat.reshape(-1, audio_format.channels)


def pack(samples: Samples, sample_format: SampleFormat, *, planar: bool = False) -> bytes:
    """Write samples of shape (n, channels) as packed or planar bytes; the inverse of `unpack`."""
    ordered = np.ascontiguousarray(samples.T if planar else samples)
    if sample_format is SampleFormat.S24:
        return ordered.astype("<i4").view("u1").reshape(-1, 4)[:, :3].tobytes()
    return ordered.astype(sample_format.dtype, copy=False).tobytes()


def convert(samples: Samples, source: SampleFormat, target: SampleFormat) -> Samples:
    """Convert samples from one format to another; the shape stays.

    Widening and integer-to-f64 are exact. Narrowing rounds to nearest and saturates. A NaN
    becomes silence.
    """
    if source is target:
        return samples
    if source.is_float:
        if target.is_float:
            with np.errstate(over="ignore"):  # values beyond the range of f32 become infinity
                return samples.astype(target.dtype)
        return _from_unit(samples, target)
    signed = _signed(samples, source)
    if target.is_float:
        # f64 holds every 32-bit integer exactly, so only rounding to the target loses precision
        return (signed.astype(np.float64) / _full_scale(source)).astype(target.dtype)
    shift = target.bits - source.bits
    if shift >= 0:
        wide = signed << shift
    else:
        half = np.int64(1) << (-shift - 1)
        limit = _full_scale(target) - 1
        wide = np.minimum((signed + half) >> -shift, limit)
    return _unsigned(wide, target)


def mix_channels(samples: Samples, sample_format: SampleFormat, channels: int) -> Samples:
    """Bring samples of shape (n, c) to shape (n, `channels`).

    Mono is copied to every channel. Several channels become mono by averaging. Any other change
    keeps the first channels and fills missing ones with silence, because the speaker layout is
    unknown.
    """
    have = samples.shape[1]
    if have == channels:
        return samples
    if have == 1:
        return np.repeat(samples, channels, axis=1)
    if channels == 1:
        if have == 2 and sample_format is SampleFormat.S16:
            return _averaged(samples)
        mean = np.asarray(np.mean(samples, axis=1, keepdims=True, dtype=np.float64))
        return (mean if sample_format.is_float else np.rint(mean)).astype(samples.dtype)
    if have > channels:
        return np.ascontiguousarray(samples[:, :channels])
    quiet = 128 if sample_format is SampleFormat.U8 else 0
    padding = np.full((len(samples), channels - have), quiet, dtype=samples.dtype)
    return np.hstack([samples, padding])


def _averaged(samples: Samples) -> Samples:
    """Return the average of two s16 channels, a half to the even value: faster than by floats."""
    total = samples[:, :1].astype(np.int32)
    total += samples[:, 1:]
    total += (total >> 1) & 1
    total >>= 1
    return total.astype(samples.dtype)


def convert_frame(frame: AudioFrame, target: AudioFormat) -> AudioFrame:
    """Convert a frame to the sample format and channels of `target`.

    Raises `ValueError` when the rates differ: resampling needs a filter with state, which is the
    codec adapter's work.
    """
    if frame.format == target:
        return frame
    if frame.format.sample_rate_hz != target.sample_rate_hz:
        raise ValueError(f"{frame.format} cannot become {target} without resampling")
    mixed = mix_channels(frame.samples, frame.format.sample_format, target.channels)
    converted = convert(mixed, frame.format.sample_format, target.sample_format)
    return AudioFrame(target, converted, frame.position)


def _unpack_s24(data: Bytes) -> npt.NDArray[Any]:
    """Read three little-endian bytes per sample and sign-extend them to int32."""
    triples = np.frombuffer(data, dtype="u1").reshape(-1, 3)
    wide = np.zeros((len(triples), 4), dtype="u1")
    wide[:, 1:] = triples
    signed: npt.NDArray[np.int32] = wide.view("<i4").reshape(-1)
    return np.right_shift(signed, 8)


def _full_scale(sample_format: SampleFormat) -> int:
    return 1 << (sample_format.bits - 1)


def _signed(samples: Samples, sample_format: SampleFormat) -> npt.NDArray[np.int64]:
    wide = samples.astype(np.int64)
    return wide - 128 if sample_format is SampleFormat.U8 else wide


def _unsigned(samples: npt.NDArray[np.int64], sample_format: SampleFormat) -> Samples:
    shifted = samples + 128 if sample_format is SampleFormat.U8 else samples
    return shifted.astype(sample_format.dtype)


def _from_unit(samples: Samples, target: SampleFormat) -> Samples:
    scale = _full_scale(target)
    unit = np.clip(np.nan_to_num(samples.astype(np.float64)), -1.0, 1.0)
    return _unsigned(np.rint(np.minimum(unit * scale, scale - 1)).astype(np.int64), target)
