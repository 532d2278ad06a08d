"""Maps RTP timestamps to positions in a recording."""

from __future__ import annotations

import math
from dataclasses import dataclass

from domain.recording.pace_limit import PaceLimit
from domain.rtp.counters import Unwrapper

MAX_LEAD_S = 2.0
"""How far timestamps may run ahead of the wall clock since their anchor, to allow for jitter.
Beyond that they claim time that has not passed."""
MAX_SKEW = 0.001
"""Additional lead, as a fraction of the time since the anchor: no sound card's clock is worse."""

MAX_OVERLAP_S = 1.0
"""How long two connections of one client send the same sound at most."""


@dataclass(slots=True)
class Placement:
    """How to add a run of samples to the recording, in samples per channel."""

    gap: int
    """Samples missing before the run."""
    overlap: int
    """Samples at the start of the run that are recorded already."""
    discontinuity: bool = False
    """The timestamps were interrupted, so the gap comes from the wall clock."""


class Timeline:
    """Places runs of samples by their RTP timestamps, exact to the sample.

    RTP time is the master: a recording is as long as its timestamps say. They are anchored to the
    wall clock (`now`, monotonic seconds) at the start and after every break. A break is a
    `restart`, a step back, or a jump by more than `max_gap_s` or by more than the elapsed time.
    A gap at a break is the time that really elapsed, and never more than `max_fill_s`.
    """

    def __init__(
        self,
        *,
        clock_rate_hz: int,
        sample_rate_hz: int,
        max_gap_s: float,
        max_fill_s: float | None = None,
        pace: PaceLimit | None = None,
    ) -> None:
        """`max_fill_s` is `max_gap_s` if it is None. `pace` limits what timestamps can claim."""
        self._clock_rate_hz = clock_rate_hz
        self._sample_rate_hz = sample_rate_hz
        self._pace = pace or PaceLimit(max_burst_s=math.inf)
        self._max_gap = round(max_gap_s * sample_rate_hz)
        fill_s = max_gap_s if max_fill_s is None else max_fill_s
        self._max_fill = self._fill_limit = round(fill_s * sample_rate_hz)
        self._unwrapper = Unwrapper(bits=32)
        self._anchor_timestamp = 0
        self._anchor_position = 0
        self._broken = True
        self._may_overlap = False
        self._last_now: float | None = None
        self._anchor_lead_s = 0.0
        self._anchored_at = 0.0
        self._sound = 0  # samples placed since the anchor, gaps excluded
        self._was_resumed = False  # and nothing was placed since
        self.position = 0
        """Samples placed so far, gaps included: the length of the recording."""

    def resume(self, *, position: int, timestamp: int | None, ended_at: float) -> None:
        """Resume a recording whose process was killed.

        It is `position` samples long, and its last sample arrived at `ended_at`. `timestamp` is
        the RTP timestamp of its end; None if the stream cannot be the same.
        """
        self.position = position
        self._last_now = ended_at
        self._fill_limit = self._max_gap  # the clocks of two processes are compared: they may err
        self._anchor_position = position
        self._anchor_lead_s = self._lead_s(position, ended_at)
        self._anchored_at = ended_at
        self._was_resumed = True
        if timestamp is not None:
            self._anchor_timestamp = self._unwrapper.unwrap(timestamp)
            self._broken = False

    def restart(self, *, may_overlap: bool = False) -> None:
        """Expect a restarted sender, whose next timestamp is unrelated to the previous ones.

        With `may_overlap` it may have begun before the previous one ended, and what both sent is
        placed once.
        """
        self._broken = True
        self._may_overlap = may_overlap

    def leave_out(self, *, now: float) -> None:
        """Leave out sound that arrived at `now`: what follows is placed right behind the last run.

        The time of that sound is not missing, because the recording is ahead of the wall clock.
        """
        self.restart()
        if self._last_now is not None:
            self._last_now = max(self._last_now, now)

    def lead_s(self, timestamp: int, length: int, *, now: float) -> float | None:
        """Return the lead over the wall clock (up to a constant) that a run would have at its end.

        None if its timestamp does not continue the previous ones.
        """
        if self._broken:
            return None
        start = self._sample_of(self._unwrapper.unwrap(timestamp))
        offset = start - self.position
        if -offset >= max(length, 1) or not self._is_plausible(offset, length, now):
            return None
        return self._lead_s(start + length, now)

    def insert(self, samples: int) -> None:
        """Add `samples` of time that the sender's timestamps do not count."""
        self.position += samples
        self._anchor_position += samples

    def place(self, timestamp: int, length: int, *, now: float) -> Placement:
        """Place `length` samples that begin at `timestamp` (32 bits) and arrived at `now`."""
        if self._broken:
            self._unwrapper = Unwrapper(bits=32)
        extended = self._unwrapper.unwrap(timestamp)
        offset = self._sample_of(extended) - self.position
        first = self._last_now is None
        # runs come in order of sending, so a run that lies entirely in the past means that the
        # timestamps have stepped back
        steps_back = -offset >= length and not self._may_overlap
        broken = self._broken or steps_back or not self._is_plausible(offset, length, now)
        if broken:
            offset = self._within_pace(self._real_gap(length, now), length, now)
            self._anchor_timestamp = extended
            self._anchor_position = self.position + offset
            self._broken = False
        gap, overlap = max(offset, 0), min(max(-offset, 0), length)
        self._may_overlap = self._may_overlap and overlap == length
        self.position += gap + length - overlap
        is_set_back, self._was_resumed = self._is_set_back(now), False
        if is_set_back and not broken:
            self._pace.passed(gap / self._sample_rate_hz)
        if self._last_now is None or is_set_back or now > self._last_now:
            # of two connections that overlap, the later packet tells how far the sound has got
            self._last_now = now
        self._fill_limit = self._max_fill
        self._sound += length - overlap
        if broken or is_set_back:
            lead = self._lead_s(self.position, now)
            if not first and not is_set_back:
                # Only received sound may raise the lead, never gaps: otherwise a peer could claim
                # more time with each pair of a jump and a step back.
                passed = now - self._anchored_at
                ahead = max(0.0, self._sound / self._sample_rate_hz - passed)
                lead = min(lead, self._anchor_lead_s + ahead + MAX_SKEW * passed)
            self._anchor_lead_s, self._anchored_at, self._sound = lead, now, 0
        return Placement(gap, overlap, discontinuity=broken and not first)

    def _is_plausible(self, offset: int, length: int, now: float) -> bool:
        if offset <= 0:
            return True
        if self._is_set_back(now):
            return offset <= self._max_gap
        end_s = (self.position + offset + length) / self._sample_rate_hz
        if not self._pace.admits(end_s, now=now):
            return False
        lead = self._lead_s(self.position + offset, now)
        allowed = MAX_LEAD_S + MAX_SKEW * (now - self._anchored_at)
        return offset <= self._max_gap and lead <= self._anchor_lead_s + allowed

    def _within_pace(self, gap: int, length: int, now: float) -> int:
        """Return how much of a gap there is room for: a stall may have told of its time already."""
        room = self._pace.limit_s(now) * self._sample_rate_hz - self.position - length
        return min(gap, max(0, int(room))) if room < gap else gap

    def _is_set_back(self, now: float) -> bool:
        """Whether the clock was set back before the process that resumes here began."""
        return self._was_resumed and self._last_now is not None and now < self._last_now

    def _lead_s(self, position: int, now: float) -> float:
        """Return how far the recording is ahead of the wall clock, up to a constant."""
        return position / self._sample_rate_hz - now

    def _sample_of(self, extended: int) -> int:
        elapsed = (extended - self._anchor_timestamp) * self._sample_rate_hz
        return self._anchor_position + elapsed // self._clock_rate_hz

    def _real_gap(self, length: int, now: float) -> int:
        """Return the real time, in samples, between the end of the last run and the start of this.

        A run ends approximately when it arrives. The time is negative if they may overlap, and do.
        """
        if self._last_now is None:
            return 0
        elapsed = round((now - self._last_now) * self._sample_rate_hz)
        earliest = -round(MAX_OVERLAP_S * self._sample_rate_hz) if self._may_overlap else 0
        return min(max(earliest, elapsed - length), self._fill_limit)
