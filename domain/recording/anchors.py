"""Chooses the anchors of a recording, which tie its RTP timestamps to the wall clock."""

from __future__ import annotations

from dataclasses import dataclass

from domain.recording.wall_clock import BEGINNING_S

INTERVAL_S = 60.0
"""Interval between anchors."""
BETTER_S = 0.1
"""In the beginning there is another anchor when packets are delayed by so much less."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Ties a sender's RTP timestamp to a position in the recording."""

    position: int
    rtp_timestamp: int
    ssrc: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recording had got when its process was killed."""

    length: int
    """Samples per channel."""
    ended_at: float
    """When its last sample arrived, on this process's monotonic clock (seconds)."""
    anchor: Anchor | None
    """The latest anchor; timestamps continued from it without a break."""
    took_s: float = 0.0
    """The time from its first sound to its last."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A packet at a position of the recording."""

    position: int
    rtp_timestamp: int
    """As it was sent."""
    arrived: float
    """Monotonic seconds."""


class AnchorChooser:
    """Chooses which packets become anchors.

    There is one each `INTERVAL_S`, one after each break, and one at the end. The first packets may
    have been delayed. So there are more at the beginning of each process, each less delayed than
    the one before.
    """

    def __init__(self, *, sample_rate_hz: int) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._is_due = True
        self._begin: int | None = None  # the position of the first packet
        self._chosen: Observed | None = None  # the latest anchor
        self._best: Observed | None = None  # the least delayed packet of the last second

    def break_off(self) -> None:
        """Choose the next packet: timestamps belong to other positions from now on."""
        self._is_due = True

    def choose(self, first: Observed, last: Observed) -> Observed | None:
        """Return the next anchor, if one is due; `first` and `last` are packets of a run."""
        chosen: Observed | None = None
        self._begin = first.position if self._begin is None else self._begin
        former = self._chosen
        if self._is_due or former is None or first.arrived - former.arrived >= INTERVAL_S:
            chosen = first
        elif (
            first.position < self._begin + BEGINNING_S * self._sample_rate_hz and self._is_better()
        ):
            chosen = self._best
        if chosen is not None:
            self._chosen, self._is_due = chosen, False
        best = self._best
        # the last packet of a run that was delayed may be in time
        if best is None or last.arrived - best.arrived >= 1.0 or self._gain_s(best, last) >= 0:
            self._best = last
        return chosen

    def at_end(self) -> Observed | None:
        """Return the least delayed packet of the end, unless it is an anchor already."""
        best, chosen = self._best, self._chosen
        if best is None or (not self._is_due and chosen and best.arrived <= chosen.arrived):
            return None
        self._chosen, self._is_due = best, False
        return best

    def _is_better(self) -> bool:
        best, chosen = self._best, self._chosen
        if best is None or chosen is None or best.arrived - chosen.arrived < 1.0:
            return False
        return self._gain_s(chosen, best) >= BETTER_S

    def _gain_s(self, earlier: Observed, later: Observed) -> float:
        """By how much less the later packet was delayed."""
        ahead_s = (later.position - earlier.position) / self._sample_rate_hz
        return ahead_s - (later.arrived - earlier.arrived)
