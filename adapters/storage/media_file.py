"""What a part of a recording needs of the file that holds its sound."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from adapters.storage.digest import Digest
from domain.sound.pieces import Sound


class MediaFile(Protocol):
    """A file being written, from the disk's thread; it is valid after every call.

    The descriptor belongs to whoever has opened it.
    """

    @property
    def data_offset(self) -> int:
        """Where the sound begins, in bytes."""

    @property
    def reading(self) -> threading.Thread | None:
        """What is still being read of what was there when the file was reopened."""

    def write(self, pieces: Sequence[Sound]) -> None:
        """Sound that comes next. Raises `OSError`, and more."""

    def write_silence(self, length: int) -> None:
        """Time without sound; in samples per channel."""

    def complete(self, length: int) -> Digest:
        """End the file with the `length`th sample: what a failed write has left is cut off."""

    def close(self) -> None:
        """Release everything; the file stays as it is."""
