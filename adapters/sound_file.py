"""Reads files of sound with libsndfile, for every adapter that needs one."""

from __future__ import annotations

import pathlib

import soundfile

from adapters.opening import open_sound
from domain.errors import InputUnreadable
from domain.sound.conversion import convert
from domain.sound.formats import AudioFormat, SampleFormat, Samples

_SUBTYPES_OF_16_BITS = frozenset({"PCM_16", "PCM_U8", "PCM_S8", "ALAC_16", "ULAW", "ALAW"})
_SUBTYPES_OF_INTEGERS = frozenset({"PCM_24", "PCM_32", "ALAC_20", "ALAC_24", "ALAC_32"})


class SoundFile:
    """A file of any format that libsndfile can read, as integers.

    Sound of at most 16 bits is read as S16, any other as S24. More than 24 bits and floats are
    rounded; up to 24 bits, the samples are those of the file. Raises `InputUnreadable`.
    """

    def __init__(self, path: str) -> None:
        try:
            # it closes the descriptor, also if it raises
            self._file = soundfile.SoundFile(open_sound(pathlib.Path(path), follow=True))
        except (soundfile.LibsndfileError, OSError, TypeError) as error:
            raise InputUnreadable(f"cannot read {path} as audio: {_reason(error)}") from error
        self._path = path
        self._position = 0
        if self._file.subtype in _SUBTYPES_OF_16_BITS:
            self._read_as, delivered = SampleFormat.S16, SampleFormat.S16
        elif self._file.subtype in _SUBTYPES_OF_INTEGERS:
            self._read_as, delivered = SampleFormat.S32, SampleFormat.S24
        else:
            self._read_as, delivered = SampleFormat.F64, SampleFormat.S24
        self.format = AudioFormat(self._file.samplerate, self._file.channels, delivered)
        """The format of the samples that `read` returns."""

    @property
    def length(self) -> int:
        """Samples per channel."""
        return int(self._file.frames)

    def seek(self, position: int) -> None:
        """Let `read` go on at a position, in samples per channel."""
        try:
            self._file.seek(position)
        except soundfile.LibsndfileError as error:
            raise self._damaged(position) from error
        self._position = position

    def read(self, length: int) -> Samples:
        """Return the next samples; fewer than `length` at the end only."""
        try:
            samples = self._file.read(length, dtype=self._read_as.dtype.name, always_2d=True)
        except soundfile.LibsndfileError as error:
            raise self._damaged(self._position) from error
        self._position += len(samples)
        # libsndfile puts integers of 24 bits into the upper bits of 32, and this takes them back
        return convert(samples, self._read_as, self.format.sample_format)

    def close(self) -> None:
        self._file.close()

    def _damaged(self, position: int) -> InputUnreadable:
        return InputUnreadable(
            f"{self._path} is damaged at {position / self.format.sample_rate_hz:.1f} s"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, soundfile.LibsndfileError):
        return str(error.error_string).rstrip(".")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
