"""Maps RTP timestamps to positions in a recording."""

from __future__ import annotations

from dataclasses import dataclass

from domain.rtp.counters import Unwrapper

MAX_LEAD_S = 2.0
"""How far timestamps may run ahead of the wall clock since their anchor, to allow for jitter.
Beyond that they claim time that has not passed."""
MAX_SKEW = 0.001
"""Additional lead, as a fraction of the time since the anchor: no sound card's clock is worse."""


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
    A gap at a break is the time that really elapsed, and never more than `max_gap_s`.
    """

    def __init__(self, *, clock_rate_hz: int, sample_rate_hz: int, max_gap_s: float) -> None:
        self._clock_rate_hz = clock_rate_hz
        self._sample_rate_hz = sample_rate_hz
        self._max_gap = round(max_gap_s * sample_rate_hz)
        self._unwrapper = Unwrapper(bits=32)
        self._anchor_timestamp = 0
        self._anchor_position = 0
        self._broken = True
        self._last_now: float | None = None
        self._anchor_lead_s = 0.0
        self._anchored_at = 0.0
        self._sound = 0  # samples placed since the anchor, gaps excluded
        self.position = 0
        """Samples placed so far, gaps included: the length of the recording."""

    def resume(self, *, position: int, timestamp: int | None, ended_at: float) -> None:
        """Resume a recording whose process was killed.

        It is `position` samples long, and its last sample arrived at `ended_at`. `timestamp` is
        the RTP timestamp of its end; None if the stream cannot be the same.
        """
        self.position = position
        self._last_now = ended_at
        self._anchor_position = position
        self._anchor_lead_s = self._lead_s(position, ended_at)
        self._anchored_at = ended_at
        if timestamp is not None:
            self._anchor_timestamp = self._unwrapper.unwrap(timestamp)
            self._broken = False

    def restart(self) -> None:
        """Expect a restarted sender, whose next timestamp is unrelated to the previous ones."""
        self._broken = True

    def place(self, timestamp: int, length: int, *, now: float) -> Placement:
        """Place `length` samples that begin at `timestamp` (32 bits) and arrived at `now`."""
        if self._broken:
            self._unwrapper = Unwrapper(bits=32)
        extended = self._unwrapper.unwrap(timestamp)
        offset = self._sample_of(extended) - self.position
        first = self._last_now is None
        # runs come in order of sending, so a run that lies entirely in the past means that the
        # timestamps have stepped back
        broken = self._broken or -offset >= length or not self._is_plausible(offset, now)
        if broken:
            offset = self._real_gap(length, now)
            self._anchor_timestamp = extended
            self._anchor_position = self.position + offset
            self._broken = False
        gap, overlap = max(offset, 0), max(-offset, 0)
        self.position += gap + length - overlap
        self._last_now = now
        self._sound += length - overlap
        if broken:
            lead = self._lead_s(self.position, now)
            if not first:
                # Only received sound may raise the lead, never gaps: otherwise a peer could claim
                # more time with each pair of a jump and a step back.
                passed = now - self._anchored_at
                ahead = max(0.0, self._sound / self._sample_rate_hz - passed)
                lead = min(lead, self._anchor_lead_s + ahead + MAX_SKEW * passed)
            self._anchor_lead_s, self._anchored_at, self._sound = lead, now, 0
        return Placement(gap, overlap, discontinuity=broken and not first)

    def _is_plausible(self, offset: int, now: float) -> bool:
        if offset <= 0:
            return True
        lead = self._lead_s(self.position + offset, now)
        allowed = MAX_LEAD_S + MAX_SKEW * (now - self._anchored_at)
        return offset <= self._max_gap and lead <= self._anchor_lead_s + allowed

    def _lead_s(self, position: int, now: float) -> float:
        """Return how far the recording is ahead of the wall clock, up to a constant."""
        return position / self._sample_rate_hz - now

    def _sample_of(self, extended: int) -> int:
        elapsed = (extended - self._anchor_timestamp) * self._sample_rate_hz
        return self._anchor_position + elapsed // self._clock_rate_hz

    def _real_gap(self, length: int, now: float) -> int:
        """Return the real time, in samples, between the end of the last run and the start of this.

        A run ends approximately when it arrives.
        """
        if self._last_now is None:
            return 0
        elapsed = round((now - self._last_now) * self._sample_rate_hz)
        return min(max(0, elapsed - length), self._max_gap)
