"""The interface of a file that holds the sound of a part."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from typing import Protocol

from adapters.storage.digest import Digest
from domain.sound.pieces import Sound


class CutOff(Exception):
    """Another program has truncated a file while it was being written."""

    def __init__(self, missing: int) -> None:
        super().__init__(f"another program has cut off its last {missing} bytes")


class MediaFile(Protocol):
    """A file being written in the disk's thread; it is a valid file after every call.

    A call that raises `OSError` can be repeated: the file then goes on where it was. The
    descriptor belongs to the caller.
    """

    @property
    def data_offset(self) -> int:
        """Offset of the sound in bytes."""

    @property
    def end(self) -> int:
        """Size in bytes of what was written."""

    @property
    def reading(self) -> threading.Thread | None:
        """The thread that hashes the data of a reopened file; None when it is done."""

    @property
    def intact(self) -> int:
        """Samples per channel before the end of the file, which may have been cut off."""

    def write(self, pieces: Sequence[Sound]) -> None:
        """Append sound. Raises `OSError` or `CutOff`."""

    def write_silence(self, length: int) -> None:
        """Append `length` samples of silence per channel. Raises `OSError` or `CutOff`."""

    def complete(self, length: int) -> Digest:
        """End the file after `length` samples; the rest of a failed write is cut off."""

    def close(self) -> None:
        """Release everything; the file stays as it is."""


def write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write data at an offset. Raises `OSError`."""
    written = 0
    while written < len(data):  # an almost full disk may write only a part
        count = os.pwrite(descriptor, data[written:] if written else data, offset + written)
        if not count:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        written += count
