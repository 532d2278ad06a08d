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

from adapters.descriptors import RESERVE
from adapters.opening import open_folder

SYNC_INTERVAL_S = 1.0
WRITE_INTERVAL_S = 0.65
"""Delay of writing: a killed process loses at most this much sound, if the disk keeps up."""
_POLL_S = 0.04
_CLOSE_S = 0.5
HANGS_S = 2.0


class DiskThread:
    """Runs calls one after another: urgent ones first, the others after `WRITE_INTERVAL_S`.

    Waking the thread for each packet of each stream would cost more than the work itself. Doing
    all work together now and then would hold up the event loop.
    """

    def __init__(self) -> None:
        # calls with the times when they are due
        self._urgent: deque[tuple[float, Callable[[], None]]] = deque()
        self._later: deque[tuple[float, Callable[[], None]]] = deque()
        self._running: float | None = None  # when the call that runs was due
        self._wake = threading.Event()
        self._closed = False
        self._done = 0  # number of finished calls
        self._thread = threading.Thread(target=self._run, name="gapless-disk", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Calls that have not been started."""
        return len(self._urgent) + len(self._later)

    @property
    def is_closing(self) -> bool:
        """Whether `close` was called: the queued calls are the last."""
        return self._closed

    @property
    def delay_s(self) -> float:
        """How long the oldest call is overdue."""
        due = [] if (running := self._running) is None else [running]
        for queue in (self._urgent, self._later):
            with contextlib.suppress(IndexError):
                due.append(queue[0][0])
        return max(0.0, time.monotonic() - min(due)) if due else 0.0

    def submit(self, call: Callable[[], None], *, at_once: bool = False) -> None:
        """Queue a call, which must not raise; returns at once.

        It runs soon when `at_once` is set, and otherwise after `WRITE_INTERVAL_S`.
        """
        if at_once:
            self._urgent.append((time.monotonic(), call))
            self._wake.set()
        else:
            self._later.append((time.monotonic() + WRITE_INTERVAL_S, call))

    def close(self) -> bool:
        """Finish the queued calls and end the thread; return False if the disk hangs.

        The disk counts as hanging if one call takes longer than `HANGS_S`.
        """
        self._closed = True
        self._wake.set()
        done = -1
        while self._thread.is_alive() and done != self._done:
            done = self._done
            self._thread.join(HANGS_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closed or self._urgent or self._later:
            if self._urgent:
                self._call(*self._urgent.popleft())
            elif self._later and (self._closed or self._later[0][0] <= time.monotonic()):
                self._call(*self._later.popleft())
            else:
                self._wake.wait(_POLL_S if self._later else WRITE_INTERVAL_S)
                self._wake.clear()

    def _call(self, due: float, call: Callable[[], None]) -> None:
        self._running = due
        call()
        self._running = None
        self._done += 1


class SyncThread:
    """Syncs the file system and measures its free space, once a second.

    It has its own thread, so that writing continues while the disk syncs. One call syncs the whole
    file system. Syncing each file would make the file system write its journal once for each
    recording, which cost as much as all other work on the packets.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self.free_bytes: int | None = None
        """Free space, measured less than a second ago; None if it could not be measured."""
        self.problem = ""
        """Why the folder cannot be written; empty if it can."""
        self._measure()
        self._syncfs = ctypes.CDLL(None).syncfs
        self._thread = threading.Thread(target=self._run, name="gapless-sync", daemon=True)
        self._thread.start()

    @property
    def is_usable(self) -> bool:
        """Whether the free space could be measured and the folder can be written."""
        return not self.problem

    def close(self) -> None:
        self._stop.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._stop.wait(SYNC_INTERVAL_S):
            self._measure()
            with contextlib.suppress(OSError):  # the writing thread meets the same error
                descriptor = open_folder(self._folder)
                self._syncfs(descriptor)
                RESERVE.close(descriptor)

    def _measure(self) -> None:
        # recordings continue while the folder cannot be measured: if it cannot be written either,
        # they wait, and each of them knows the true reason
        try:
            stats = os.statvfs(self._folder)
        except OSError as error:
            self.free_bytes = None
            add_path(error, self._folder)
            self.problem = describe(error)
            return
        self.free_bytes = stats.f_bavail * stats.f_frsize
        is_writable = os.access(self._folder, os.W_OK | os.X_OK)
        self.problem = "" if is_writable else f"{self._folder}: no permission to write"


class NotSynced(OSError):
    """The system could not write data to the disk.

    Do not sync again: the system reports an error once and forgets what it could not write, so a
    second call succeeds although the data are lost.
    """


def add_path(error: OSError, path: pathlib.Path) -> None:
    """Add the path of its file to an error: calls on descriptors do not state it."""
    if error.filename is None and error.errno is not None:
        error.filename = str(path)


def reason_of(error: BaseException) -> str:
    """Return what an error says, without number and path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def describe(error: BaseException) -> str:
    """Return what an error says, and about which file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fspath(error.filename)}: {reason_of(error)}"
    return reason_of(error)


def sync_folder(folder: pathlib.Path) -> None:
    """Sync the names of files that were made or renamed in a folder. Raises `OSError`."""
    descriptor = open_folder(folder)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise NotSynced(error.errno, error.strerror, str(folder)) from error
    finally:
        with contextlib.suppress(OSError):  # the folder is synced
            RESERVE.close(descriptor)
