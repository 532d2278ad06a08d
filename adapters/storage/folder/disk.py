"""The threads that touch the disk, so that a slow disk never stalls the network."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import threading
import time
from collections import deque
from collections.abc import Callable

SYNC_INTERVAL_S = 1.0
WRITE_INTERVAL_S = 0.65
"""What a killed process loses at most of what it has read, the disk keeping up."""
_ROUND_S = 0.04
_CLOSE_S = 0.5


class DiskThread:
    """Runs calls one after another: those that somebody waits for first, others in a while.

    To wake it for each packet of each stream would cost more than what there is to do; to have it
    do everything at once, now and then, would hold up the event loop.
    """

    def __init__(self) -> None:
        self._urgent: deque[Callable[[], None]] = deque()
        self._later: deque[tuple[float, Callable[[], None]]] = deque()  # with the time to run at
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="gapless-disk", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], None], *, at_once: bool = False) -> None:
        """Queue a call, which must not raise; returns at once.

        It runs soon if it is wanted `at_once`, and otherwise after `WRITE_INTERVAL_S`.
        """
        if at_once:
            self._urgent.append(call)
            self._wake.set()
        else:
            self._later.append((time.monotonic() + WRITE_INTERVAL_S, call))

    def close(self) -> None:
        """Let the queued calls finish and end the thread; a disk that hangs is not waited for."""
        self._closed = True
        self._wake.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._closed or self._urgent or self._later:
            if self._urgent:
                self._urgent.popleft()()
            elif self._later and (self._closed or self._later[0][0] <= time.monotonic()):
                self._later.popleft()[1]()
            else:
                self._wake.wait(_ROUND_S if self._later else WRITE_INTERVAL_S)
                self._wake.clear()


class SyncThread:
    """Once a second: brings what was written to the disk itself, and measures what is free.

    A thread of its own, so that writing goes on while the disk syncs. The whole file system is
    synced by one call: to sync each file by itself has a file system's journal written once for
    every recording, which cost as much as all else that was done with its packets.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self.free_bytes = _free_bytes(folder)
        """As of at most a second ago."""
        self._syncfs = ctypes.CDLL(None).syncfs
        self._thread = threading.Thread(target=self._run, name="gapless-sync", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._stop.wait(SYNC_INTERVAL_S):
            self.free_bytes = _free_bytes(self._folder)
            with contextlib.suppress(OSError):  # whoever writes meets the same error
                descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._syncfs(descriptor)
                os.close(descriptor)


def _free_bytes(folder: pathlib.Path) -> int:
    """0 when the folder is not there or cannot be written."""
    try:
        stats = os.statvfs(folder)
    except OSError:
        return 0
    return stats.f_bavail * stats.f_frsize if os.access(folder, os.W_OK | os.X_OK) else 0


def sync_folder(folder: pathlib.Path) -> None:
    """Make what was renamed or made in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
