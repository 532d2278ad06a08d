"""The threads that access the disk, so that a slow disk never stalls the network."""

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
"""Delay of writing: a killed process loses at most this much sound, if the disk keeps up."""
_POLL_S = 0.04
_CLOSE_S = 0.5
_HANGS_S = 2.0


class DiskThread:
    """Runs calls one after another: urgent ones first, the others after `WRITE_INTERVAL_S`.

    Waking the thread for each packet of each stream would cost more than the work itself. Doing
    all work together now and then would hold up the event loop.
    """

    def __init__(self) -> None:
        self._urgent: deque[Callable[[], None]] = deque()
        self._later: deque[tuple[float, Callable[[], None]]] = deque()  # with the time to run at
        self._wake = threading.Event()
        self._closed = False
        self._done = 0  # number of finished calls
        self._thread = threading.Thread(target=self._run, name="gapless-disk", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Calls that have not been started."""
        return len(self._urgent) + len(self._later)

    def submit(self, call: Callable[[], None], *, at_once: bool = False) -> None:
        """Queue a call, which must not raise; returns at once.

        It runs soon when `at_once` is set, and otherwise after `WRITE_INTERVAL_S`.
        """
        if at_once:
            self._urgent.append(call)
            self._wake.set()
        else:
            self._later.append((time.monotonic() + WRITE_INTERVAL_S, call))

    def close(self) -> bool:
        """Finish the queued calls and end the thread; return False if the disk hangs.

        The disk counts as hanging if one call takes longer than `_HANGS_S`.
        """
        self._closed = True
        self._wake.set()
        done = -1
        while self._thread.is_alive() and done != self._done:
            done = self._done
            self._thread.join(_HANGS_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closed or self._urgent or self._later:
            if self._urgent:
                self._urgent.popleft()()
                self._done += 1
            elif self._later and (self._closed or self._later[0][0] <= time.monotonic()):
                self._later.popleft()[1]()
                self._done += 1
            else:
                self._wake.wait(_POLL_S if self._later else WRITE_INTERVAL_S)
                self._wake.clear()


class SyncThread:
    """Syncs the file system and measures its free space, once a second.

    It has its own thread, so that writing continues while the disk syncs. One call syncs the whole
    file system. Syncing each file would make the file system write its journal once for each
    recording, which cost as much as all other work on the packets.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self.free_bytes = 0
        """Free space at the last successful measurement, usually less than a second ago."""
        self.is_usable = False
        """Whether the free space could be measured and the folder can be written."""
        self._measure()
        self._syncfs = ctypes.CDLL(None).syncfs
        self._thread = threading.Thread(target=self._run, name="gapless-sync", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._stop.wait(SYNC_INTERVAL_S):
            self._measure()
            with contextlib.suppress(OSError):  # the writing thread meets the same error
                descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._syncfs(descriptor)
                os.close(descriptor)

    def _measure(self) -> None:
        # recordings continue while the folder cannot be measured: if it cannot be written either,
        # each of them fails with the true reason
        try:
            stats = os.statvfs(self._folder)
        except OSError:
            self.is_usable = False
            return
        self.free_bytes = stats.f_bavail * stats.f_frsize
        self.is_usable = os.access(self._folder, os.W_OK | os.X_OK)


def sync_folder(folder: pathlib.Path) -> None:
    """Sync the names of files that were made or renamed in a folder. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        with contextlib.suppress(OSError):  # the folder is synced
            os.close(descriptor)
