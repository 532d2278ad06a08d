"""FLAC files in memory, by libsndfile (RFC 9639)."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import soundfile

from adapters.storage.flac_header import read_info
from domain.errors import SpoolFailed
from domain.sound.conversion import Bytes, pack
from domain.sound.formats import AudioFormat, SampleFormat, Samples

_SUBTYPES = {
    SampleFormat.U8: "PCM_S8",
    SampleFormat.S16: "PCM_16",
    SampleFormat.S24: "PCM_24",
}


class FlacDamaged(Exception):
    """The file is not a whole FLAC file of the expected format."""


def encode(samples: Samples, audio_format: AudioFormat) -> bytes:
    """Return samples of shape (n, channels) as a FLAC file: 86 bytes, and the frames.

    Raises `SpoolFailed` for formats other than u8, s16 and s24, more than eight channels, and rates
    that FLAC does not have.
    """
    subtype = _SUBTYPES.get(audio_format.sample_format)
    if subtype is None:
        raise SpoolFailed(f"FLAC has no {audio_format.sample_format.value} samples")
    file = io.BytesIO()
    try:
        with soundfile.SoundFile(
            file, "w", samplerate=audio_format.sample_rate_hz, channels=audio_format.channels,
            subtype=subtype, format="FLAC",
        ) as flac:  # fmt: skip
            flac.write(_widened(samples, audio_format.sample_format))
    except soundfile.SoundFileError as error:
        raise SpoolFailed(f"FLAC cannot hold {audio_format}") from error
    return file.getvalue()


def decode(data: Bytes, audio_format: AudioFormat) -> Samples:
    """Return the samples of a FLAC file, shape (n, channels), checked by its MD5.

    Raises `FlacDamaged` if it is damaged, or has another format.
    """
    info = read_info(data)
    if info is None or not info.fits(audio_format):
        raise FlacDamaged("it does not begin as it should")
    dtype = "int32" if audio_format.sample_format is SampleFormat.S24 else "int16"
    try:
        wide, _ = soundfile.read(io.BytesIO(data), dtype=dtype, always_2d=True)
    except soundfile.SoundFileError as error:
        raise FlacDamaged(str(error)) from error
    samples = _narrowed(wide, audio_format.sample_format)
    if hashlib.md5(_signed(samples, audio_format), usedforsecurity=False).digest() != info.md5:
        raise FlacDamaged("its MD5 differs")
    return samples


def _widened(samples: Samples, sample_format: SampleFormat) -> Samples:
    """Bring samples to int16 or int32, of which libsndfile keeps the upper bits."""
    if sample_format is SampleFormat.U8:
        return (samples.astype(np.int16) - 128) << 8
    return samples << 8 if sample_format is SampleFormat.S24 else samples


def _narrowed(samples: Samples, sample_format: SampleFormat) -> Samples:
    if sample_format is SampleFormat.U8:
        return ((samples >> 8) + 128).astype(np.uint8)
    return samples >> 8 if sample_format is SampleFormat.S24 else samples


def _signed(samples: Samples, audio_format: AudioFormat) -> bytes:
    if audio_format.sample_format is SampleFormat.U8:
        return (samples ^ 0x80).tobytes()
    return pack(samples, audio_format.sample_format)
