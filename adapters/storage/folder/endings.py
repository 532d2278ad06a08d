"""The threads that complete recordings, so that endings do not hold up the writing of others."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

from adapters.storage.folder.disk import HANGS_S, DiskThread

THREADS = 4
"""Recordings that are completed at the same time: a file system joins their syncs."""
_LATE_S = 0.2
"""Endings wait while writing is behind by more than this."""
_MAX_PAUSE_S = 1.0
"""An ending waits at most so long for writing, so that it also comes on a busy disk."""
_POLL_S = 0.02
_IDLE_S = 0.5
"""A thread that has had nothing to do for so long ends."""
_log = logging.getLogger("gapless")


class EndingThreads:
    """Runs the calls that complete recordings, a few at a time; live recordings go first.

    Completing a recording syncs four times. When hundreds end at once on a slow disk, their syncs
    would keep the writing thread waiting. So a thread pauses before each ending while the writing
    thread is late.
    """

    def __init__(self, disk: DiskThread) -> None:
        self._disk = disk
        self._condition = threading.Condition()
        self._calls: list[tuple[float, int, Callable[[], None]]] = []  # a heap, by due time
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._done = 0  # number of finished calls
        self._closed = False

    def submit(self, call: Callable[[], None], *, delay_s: float = 0.0) -> None:
        """Queue a call to run after a delay; returns at once."""
        with self._condition:
            if self._closed and delay_s:
                return
            due = time.monotonic() + delay_s
            heapq.heappush(self._calls, (due, next(self._numbers), call))
            if self._idle < len(self._calls) and len(self._threads) < THREADS:
                thread = threading.Thread(target=self._run, name="gapless-end", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._condition.notify()

    def close(self) -> bool:
        """Finish the calls that are due and drop the others; return False if the disk hangs."""
        with self._condition:
            self._closed = True
            now = time.monotonic()
            self._calls = [entry for entry in self._calls if entry[0] <= now]
            heapq.heapify(self._calls)
            self._condition.notify_all()
        done = -1
        while self._alive() and done != self._done:
            done = self._done
            deadline = time.monotonic() + HANGS_S
            for thread in self._alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not self._alive()

    def _alive(self) -> list[threading.Thread]:
        return [thread for thread in self._threads if thread.is_alive()]

    def _run(self) -> None:
        while (call := self._next()) is not None:
            self._let_writing_go_first()
            try:
                call()
            except Exception:  # others have to be completed, too
                _log.exception("a recording could not be completed")
            del call  # an idle thread would keep the recording in memory
            with self._condition:
                self._done += 1

    def _next(self) -> Callable[[], None] | None:
        """Wait for a call that is due; None when there will be no more."""
        with self._condition:
            while True:
                now = time.monotonic()
                if self._calls and self._calls[0][0] <= now:
                    return heapq.heappop(self._calls)[2]
                if self._closed and not self._calls:
                    return None
                self._idle += 1
                is_awake = self._condition.wait(self._calls[0][0] - now if self._calls else _IDLE_S)
                self._idle -= 1
                if not (is_awake or self._calls or self._closed):
                    self._threads.remove(threading.current_thread())
                    return None

    def _let_writing_go_first(self) -> None:
        deadline = time.monotonic() + _MAX_PAUSE_S
        while self._disk.delay_s > _LATE_S and not self._closed and time.monotonic() < deadline:
            time.sleep(_POLL_S)
