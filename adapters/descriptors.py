"""Descriptors that are kept for recordings, whatever else takes all the others.

A recording that is being written needs descriptors to go on: for its next part and the journal of
that, and for a moment to check, rename and sync what is complete. If connections have taken all of
them by then, sound would be lost. So they are opened before the recording begins, and given up one
by one when the system has no other. `entrypoints/file_limit.py` sees to it that this seldom
happens.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable

_NONE_LEFT = (errno.EMFILE, errno.ENFILE)
_libc = ctypes.PyDLL(None)


class DescriptorReserve:
    """The descriptors that a process keeps; threads share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._held: list[int] = []

    def keep(self, count: int) -> bool:
        """Keep so many more; return whether all that are to be kept are there."""
        with self._lock:
            self._wanted += count
            return self._fill()

    def give_back(self, count: int) -> None:
        """Keep so many fewer."""
        with self._lock:
            self._wanted -= count
            while len(self._held) > self._wanted:
                os.close(self._held.pop())

    def is_whole(self) -> bool:
        """Return whether all are there; those that were given up are opened again if possible."""
        with self._lock:
            return self._fill()

    def open(self, call: Callable[[], int]) -> int:
        """Return the descriptor that a call opens, giving up others if there is none left.

        Raises what the call raises. Another thread may be faster in taking what was given up; then
        the next one is given up.
        """
        while True:
            try:
                return call()
            except OSError as error:
                if error.errno not in _NONE_LEFT or not self._give_up():
                    raise

    def close(self, descriptor: int) -> None:
        """Close a descriptor, or keep its place if any was given up. Raises `OSError`."""
        with self._lock:
            if self._held and len(self._held) < self._wanted:
                os.dup2(self._held[0], descriptor, inheritable=False)
                self._held.append(descriptor)
                return
        os.close(descriptor)

    def _give_up(self) -> bool:
        with self._lock:
            if len(self._held) < 2:  # `close` needs one to keep the places of others
                return False
            # `os.close` would let another thread run, and take it
            _libc.close(self._held.pop())
            return True

    def _fill(self) -> bool:
        with contextlib.suppress(OSError):
            while len(self._held) < self._wanted:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return len(self._held) >= self._wanted


RESERVE = DescriptorReserve()
"""The reserve of this process: its descriptors are one table, whoever opens them."""
