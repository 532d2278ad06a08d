"""Port of the conversion of recordings to other file formats."""

from __future__ import annotations

import enum
from typing import Protocol

from domain.sound.formats import AudioFormat, Samples


class FileFormat(enum.Enum):
    """A format that recordings are sent in; the value is the file name extension."""

    WAV = "wav"
    OPUS = "opus"
    """Opus in Ogg: 48 kHz, at most two channels."""
    FLAC = "flac"
    """Without loss up to 24 bits."""
    MP3 = "mp3"
    """At most 48 kHz and two channels."""


class FileEncoder(Protocol):
    """Makes a file from sound, from the first byte to the last.

    The calls compute, so make them in a thread; most of their work lets other threads run.
    """

    @property
    def size(self) -> int | None:
        """Bytes of the whole file; None if only encoding can tell."""

    def encode(self, samples: Samples) -> bytes:
        """Return the next bytes of the file; there may be none yet."""

    def finish(self) -> bytes:
        """Return the last bytes. Raises `InputUnreadable` if there were more or fewer samples."""

    def close(self) -> None:
        """Release what the encoder holds, whether it has finished or not."""


class FileEncoderFactory(Protocol):
    def __call__(
        self, file_format: FileFormat, audio_format: AudioFormat, length: int
    ) -> FileEncoder:
        """Begin a file for `length` samples per channel of a format."""
