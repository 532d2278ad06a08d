"""Faults of the disk that may pass: who waits for their end, and what has to be told."""

from __future__ import annotations

import errno
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from adapters.storage.folder.disk import NotSynced, describe, reason_of
from domain.events.server import (
    ServerEvent,
    StorageDelayed,
    StorageWritable,
)

_LASTING = {errno.EBADF, errno.EEXIST, errno.EFBIG, errno.EINVAL, errno.ENAMETOOLONG, errno.ELOOP}


def may_pass(error: BaseException) -> TypeGuard[OSError]:
    """Return whether it makes sense to repeat a call that raised this error."""
    if isinstance(error, NotSynced) or not isinstance(error, OSError):
        return False
    return error.errno is not None and error.errno not in _LASTING


@dataclass(frozen=True, slots=True)
class DiskFault:
    """A fault that a recording has met."""

    reason: str
    since: float
    """Monotonic seconds."""

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return time.monotonic() - self.since


class DiskFaults:
    """The faults that recordings of a store have met, and the events about them.

    When hundreds of recordings meet the same fault, one event tells that the disk cannot be
    written, and one that it can. Threads share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._present: dict[object, DiskFault] = {}
        self._began_at = 0.0
        self._events: deque[ServerEvent] = deque()

    def met(self, who: object, error: OSError) -> DiskFault:
        """Note that a recording has met a fault; return it with the time of its beginning."""
        with self._lock:
            found = self._present.get(who)
            if found is None:
                found = DiskFault(reason_of(error), time.monotonic())
                if not self._present:
                    self._began_at = found.since
                    self._events.append(StorageDelayed(describe(error)))
                self._present[who] = found
            return found

    def passed(self, who: object, *, is_over: bool = True) -> DiskFault | None:
        """Note that a recording waits no more; return the fault it had met, if any.

        `is_over` tells whether the fault is over, or the recording has given up.
        """
        if not self._present:  # the usual case, without taking the lock
            return None
        with self._lock:
            found = self._present.pop(who, None)
            if found is not None and not self._present and is_over:
                self._events.append(StorageWritable(time.monotonic() - self._began_at))
            return found

    def tell(self, event: ServerEvent) -> None:
        """Add an event."""
        self._events.append(event)

    def poll(self) -> Sequence[ServerEvent]:
        """Return the events since the last call."""
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events
