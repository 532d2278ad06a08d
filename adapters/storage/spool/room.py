"""How much room spools may take."""

from __future__ import annotations

import os
import pathlib
import threading
from dataclasses import dataclass

from adapters.storage.spool.files import size_of
from domain.errors import SpoolFailed

_MB, _GB = 1e6, 1e9


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """How spools are written."""

    max_bytes: int | None = None
    """Of all spools together; None for no limit."""
    min_free_bytes: int = 64 << 20
    """What other programs need on the disk."""
    chunk_s: float = 10.0
    """Sound in one file: so much is stored as PCM before it becomes FLAC."""
    waiting_s: float = 30.0
    """Sound that waits for a disk that does not answer."""


class Room:
    """The room that a spool has. Threads share it."""

    def __init__(self, spool: pathlib.Path, options: SpoolOptions) -> None:
        """Raises `OSError`."""
        self._spool = spool
        self._options = options
        self._lock = threading.Lock()
        self._own = 0
        self._others = 0
        self.measure()

    def measure(self) -> None:
        """Measure what other spools take. Raises `OSError`."""
        if self._options.max_bytes is not None:
            self._others = size_of(self._spool.parent, without=self._spool)

    def require(self, size: int) -> None:
        """Check that there is room for `size` bytes. Raises `SpoolFailed` or `OSError`."""
        limit = self._options.max_bytes
        if limit is not None and self._own + self._others + size > limit:
            raise SpoolFailed(f"{self._spool.parent}: the limit of {_size(limit)} is reached")
        stats = os.statvfs(self._spool)  # also notices that the folder is gone
        if stats.f_bavail * stats.f_frsize < self._options.min_free_bytes + size:
            kept = _size(self._options.min_free_bytes)
            raise SpoolFailed(f"{self._spool.parent}: less than {kept} are free on the disk")

    def take(self, size: int) -> None:
        """Note that files have grown by `size` bytes, or shrunk if it is negative."""
        with self._lock:
            self._own += size


def _size(count: int) -> str:
    return f"{count / _GB:.3g} GB" if count >= _GB else f"{count / _MB:.3g} MB"
