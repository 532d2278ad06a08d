"""What a session, and all sessions of a day, may cost a server."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

DAY_S = 86_400.0
_SLOT_S = 600.0
GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Limits that no session of a microphone reaches. Who reaches one is told which."""

    max_burst_s: float = 30.0
    """How far a recording may be ahead of the wall clock, see `domain/recording/pace_limit.py`. A
    session that sends as much again beyond that is ended."""
    max_packets_per_s: float = 1000.0
    """Packets a second of each track; `max_burst_s` of them may come at once. Packets of 2.5 ms are
    400 a second, and each may be sent again. All tracks of a session together may send four times
    as many, and 2,000 in any case: 16 tracks with packets of 10 ms are 1,600."""
    max_session_h: float = 168.0
    """A session that lasts longer is ended."""
    max_session_gb: float = 200.0
    """A session that has written more is ended."""
    max_day_gb: float = 1000.0
    """When all sessions together have written more within 24 hours, no new one begins."""

    @property
    def session_packets_per_s(self) -> float:
        """Packets a second of all tracks of a session together."""
        return max(2000.0, 4 * self.max_packets_per_s)

    def passed(self, *, lasted_s: float, written: int) -> str | None:
        """Return which limit a session has passed that `lasted_s` and has `written` bytes."""
        if lasted_s > self.max_session_h * 3600:
            return f"it lasted for {self.max_session_h:g} h, as long as this server allows"
        if written > self.max_session_gb * GB:
            return f"it filled {self.max_session_gb:g} GB, as much as this server allows"
        return None


class WrittenInADay:
    """Bytes that were written within the last 24 hours, to ten minutes."""

    def __init__(self) -> None:
        self._slots: deque[list[int]] = deque()  # number of the ten minutes, and bytes

    def add(self, count: int, *, now: float) -> None:
        """Add bytes that were written just before `now` (monotonic seconds)."""
        slot = int(now // _SLOT_S)
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append([slot, 0])
        self._slots[-1][1] += count

    def total(self, *, now: float) -> int:
        """Return the bytes of the 24 hours before `now`."""
        oldest = int((now - DAY_S) // _SLOT_S)
        while self._slots and self._slots[0][0] < oldest:
            self._slots.popleft()
        return sum(count for _, count in self._slots)
