"""How far a recording may be ahead of the wall clock.

The rule: *a recording may be longer than the time since its first sound arrived by a burst, plus an
eighth of that time, whatever its sender says and however often it breaks off, restarts or
reconnects*. What is beyond that is left out. A clock that is fast by some per cent stays within it
for good (48 kHz taken for 44.1 kHz are 9 %), and so does a network that delivers what it has held:
that time has passed. Twice real time is no clock.
"""

from __future__ import annotations

import math

MAX_FAST = 1.125
"""How fast a sender's clock may be, relative to ours."""
RECOVERED = 0.5
"""Sound is recorded again when the recording is ahead by no more than this share of the burst."""


class PaceLimit:
    """Decides how much sound may be recorded by now. Times are monotonic seconds."""

    __slots__ = ("_began_at", "_max_burst_s", "_resumes_at", "admitted_s")

    def __init__(self, *, max_burst_s: float) -> None:
        self._max_burst_s = max_burst_s
        self._began_at: float | None = None
        self.admitted_s = max_burst_s
        """A length that was within the limit earlier, and so is now; none while sound is left out.

        Compare with it before calling `admits`, which costs more.
        """
        self._resumes_at = -math.inf

    @property
    def has_begun(self) -> bool:
        return self._began_at is not None

    def begin(self, at: float) -> None:
        """Note when the first sound of the recording arrived."""
        self._began_at = at

    def resume(self, *, recorded_s: float, took_s: float, ended_at: float) -> None:
        """Continue a recording of another process, which is `recorded_s` seconds long.

        It took `took_s` seconds until `ended_at`. What was recorded was within the limit.
        """
        took_s = max(took_s, (recorded_s - self._max_burst_s) / MAX_FAST)
        self._began_at = ended_at - took_s

    def passed(self, seconds: float) -> None:
        """Note time that has passed although the clock does not say so: it was set back."""
        if self._began_at is not None:
            self._began_at -= seconds

    def admits(self, end_s: float, *, now: float) -> bool:
        """Return whether a recording may be `end_s` seconds long with what has arrived by `now`."""
        if end_s <= self.admitted_s:
            return True
        if now < self._resumes_at:
            return False
        limit_s = self.limit_s(now)
        if end_s > limit_s:
            return False
        self.admitted_s = limit_s
        return True

    def left_out(self, *, recorded_s: float) -> None:
        """Note that sound was left out: the recording has to wait for the wall clock.

        Otherwise one packet of many would be recorded, and the next ones left out.
        """
        if self._began_at is not None:
            self.admitted_s = -math.inf
            ahead_s = recorded_s - RECOVERED * self._max_burst_s
            self._resumes_at = self._began_at + ahead_s / MAX_FAST

    def limit_s(self, now: float) -> float:
        """Return how long a recording may be at most with what has arrived by `now`."""
        passed_s = 0.0 if self._began_at is None else max(0.0, now - self._began_at)
        return self._max_burst_s + MAX_FAST * passed_s
