"""The interface of a file that holds the sound of a part."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from adapters.storage.digest import Digest
from domain.sound.pieces import Sound


class MediaFile(Protocol):
    """A file being written in the disk's thread; it is a valid file after every call.

    The descriptor belongs to the caller.
    """

    @property
    def data_offset(self) -> int:
        """Offset of the sound in bytes."""

    @property
    def reading(self) -> threading.Thread | None:
        """The thread that hashes the data of a reopened file; None when it is done."""

    def write(self, pieces: Sequence[Sound]) -> None:
        """Append sound. Raises `OSError`, or errors of the library that writes."""

    def write_silence(self, length: int) -> None:
        """Append `length` samples of silence per channel."""

    def complete(self, length: int) -> Digest:
        """End the file after `length` samples; the rest of a failed write is cut off."""

    def close(self) -> None:
        """Release everything; the file stays as it is."""
