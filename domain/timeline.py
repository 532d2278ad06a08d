"""Where samples belong: RTP timestamps to positions in a recording."""

from __future__ import annotations

from dataclasses import dataclass

from domain.rtp import Unwrapper


@dataclass(frozen=True, slots=True)
class Placement:
    """How a run of samples goes into the recording, in samples per channel."""

    gap: int
    """Samples that are missing before the run."""
    overlap: int
    """Samples at the front of the run for which there is audio already."""
    discontinuity: bool = False
    """The timestamps broke off; the gap is what the wall clock says."""


class Timeline:
    """Places runs of samples by their RTP timestamps, exact to the sample.

    RTP time is the master: a recording is as long as its timestamps say. They are anchored to
    the wall clock (`now`, seconds, monotonic) at the start, and again when they break off: after
    `restart`, or when they jump by more than `max_gap_s` or back by more than `max_overlap_s`.
    A gap after a break is the time that really went by, and never more than `max_gap_s`.
    """

    def __init__(
        self,
        *,
        clock_rate_hz: int,
        sample_rate_hz: int,
        max_gap_s: float,
        max_overlap_s: float = 1.0,
    ) -> None:
        self._clock_rate_hz = clock_rate_hz
        self._sample_rate_hz = sample_rate_hz
        self._max_gap = round(max_gap_s * sample_rate_hz)
        self._max_overlap = round(max_overlap_s * sample_rate_hz)
        self._unwrapper = Unwrapper(bits=32)
        self._anchor_timestamp = 0
        self._anchor_position = 0
        self._broken = True
        self._last_now: float | None = None
        self.position = 0
        """Samples placed so far, gaps included: the length of the recording."""

    def restart(self) -> None:
        """The sender began anew: the next timestamp says nothing about the ones before it."""
        self._broken = True
        self._unwrapper = Unwrapper(bits=32)

    def place(self, timestamp: int, length: int, *, now: float) -> Placement:
        """Place `length` samples that begin at `timestamp` (32 bits) and arrived at `now`."""
        extended = self._unwrapper.unwrap(timestamp)
        offset = self._sample_of(extended) - self.position
        broken = self._broken or not -self._max_overlap <= offset <= self._max_gap
        first = self._last_now is None
        if broken:
            offset = self._real_gap(now)
            self._anchor_timestamp = extended
            self._anchor_position = self.position + offset
            self._broken = False
        gap, overlap = max(offset, 0), min(max(-offset, 0), length)
        self.position += gap + length - overlap
        self._last_now = now
        return Placement(gap, overlap, discontinuity=broken and not first)

    def _sample_of(self, extended: int) -> int:
        elapsed = (extended - self._anchor_timestamp) * self._sample_rate_hz
        return self._anchor_position + elapsed // self._clock_rate_hz

    def _real_gap(self, now: float) -> int:
        """Samples of real time since the last run arrived, which ended about then."""
        if self._last_now is None:
            return 0
        return min(max(0, round((now - self._last_now) * self._sample_rate_hz)), self._max_gap)
