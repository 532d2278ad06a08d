"""Decodes a piece of captured sound, which comes from outside: nothing that it says is believed."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import numpy.typing as npt
import soundfile

from adapters.storage.flac_header import FlacInfo, read_info
from domain.errors import PieceInvalid
from domain.ports.spool import MAX_PIECE_SAMPLES
from domain.sound.formats import AudioFormat, SampleFormat, Samples

_TOTAL = slice(21, 26)
"""Where the number of samples is, in the last 36 bits of these bytes."""
_NOT_HASHED = bytes(16)


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read once, from its beginning to its end."""

    def seekable(self) -> bool:
        """Return False: soundfile would seek after each read, also beyond the last sample."""
        return False


def decode_piece(flac: bytes, audio_format: AudioFormat) -> bytes:
    """Return the sound of a FLAC file in the format of a spool, packed as in a WAV.

    Raises `PieceInvalid` if it is not a whole file, if it has another format, or if it is longer
    than `MAX_PIECE_SAMPLES`. At most one sample more than its header says is decoded.
    """
    info = read_info(flac)
    if info is None:
        raise PieceInvalid("the piece is not a FLAC file")
    found = f"{info.sample_rate_hz} Hz, {info.bits} bit, {info.channels} channels"
    if not info.fits(audio_format):
        raise PieceInvalid(f"the piece is {found}; the spool is {audio_format}")
    if not info.length:
        raise PieceInvalid("the header of the piece does not tell its length")
    if info.length > MAX_PIECE_SAMPLES:
        raise PieceInvalid(f"the piece has {info.length} samples, more than {MAX_PIECE_SAMPLES}")
    signed = _signed(_decode(flac, info, audio_format), audio_format.sample_format)
    md5 = hashlib.md5(signed.data, usedforsecurity=False).digest()
    if info.md5 not in (_NOT_HASHED, md5):
        raise PieceInvalid("the piece does not hold the sound that its header says (MD5)")
    if audio_format.sample_format is SampleFormat.U8:
        signed = signed ^ np.uint8(0x80)
    return signed.tobytes()


def _decode(flac: bytes, info: FlacInfo, audio_format: AudioFormat) -> Samples:
    """Return the samples, with the bits of each at the top. Raises `PieceInvalid`."""
    # a decoder that is told of one sample more than there are reads on to the end of the file
    longer = int.from_bytes(flac[_TOTAL], "big") + 1
    descriptor = os.memfd_create("piece", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(flac[: _TOTAL.start])
        file.write(longer.to_bytes(5, "big"))
        file.write(memoryview(flac)[_TOTAL.stop :])
    os.lseek(descriptor, 0, os.SEEK_SET)
    dtype = "int32" if audio_format.sample_format is SampleFormat.S24 else "int16"
    try:
        # closes the descriptor, also if it raises; calls of a Python file object need the GIL
        with _Stream(descriptor) as stream:
            if (stream.channels, stream.format) != (audio_format.channels, "FLAC"):
                raise PieceInvalid("the piece is not a FLAC file")
            samples: Samples = stream.read(info.length, dtype=dtype, always_2d=True)
            if len(samples) < info.length:
                raise PieceInvalid(f"the piece ends after {len(samples)} of {info.length} samples")
            if len(stream.read(1, dtype=dtype, always_2d=True)):
                raise PieceInvalid(f"the piece goes on after its {info.length} samples")
    except soundfile.LibsndfileError as error:
        raise PieceInvalid(
            f"the piece is damaged, or more or less than one whole FLAC file: {error.error_string}"
        ) from error
    return samples


def _signed(samples: Samples, sample_format: SampleFormat) -> npt.NDArray[np.uint8]:
    """Return the bytes of packed signed samples; FLAC's hash is of these, too."""
    width = samples.dtype.itemsize
    octets = np.ascontiguousarray(samples).view("u1").reshape(-1, width)
    return np.ascontiguousarray(octets[:, width - sample_format.bytes_per_sample :])
