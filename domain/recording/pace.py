"""The pace at which runs arrive: whether a lead that has dropped is recovering."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from domain.recording.ledger import SampleKind
from domain.recording.reconstruction import Run
from domain.rtp.reports import SenderReport

TOLERANCE_S = 0.05
"""A lead that is lower by less has recovered."""
RISE = 0.12
"""A lead that rises by this much per second is recovering: sound comes faster than real time."""
MIN_BURST_S = 0.2
"""A lead that rises by this much, and by half a second per second, is recovering in any case, even
if jitter makes it fall again meanwhile."""
PACKET_S = 0.02
"""The usual length of a packet."""
BUCKET_S = 0.5
"""The best lead of each such time is compared with that of the one before."""
_LEVEL_S = 1.2
"""A lead that has risen may be level for so long, and still be recovering."""
UNKNOWN = float("-inf")


@dataclass(slots=True, eq=False)
class Segment:
    """Runs without a pause between them, which are held back."""

    runs: list[Run]
    leads_s: list[float]
    sample_rate_hz: int

    def extend(self, other: Segment) -> None:
        self.runs += other.runs
        self.leads_s += other.leads_s

    @property
    def best_s(self) -> float:
        return max(self.leads_s)

    @property
    def duration_s(self) -> float:
        """The time in which its packets arrived."""
        return max(run.completed for run in self.runs) - self.runs[0].arrived

    @property
    def is_rising(self) -> bool:
        """Whether its sound came faster than real time until its end (a short one cannot tell)."""
        third_s, begin = self.duration_s / 3, self.runs[0].arrived
        thirds = [UNKNOWN] * 3
        for arrived, lead_s in self._points():
            index = max(0, min(2, int((arrived - begin) / third_s)))
            thirds[index] = max(thirds[index], lead_s)
        first, middle, last = thirds
        if first == UNKNOWN:
            return False
        if max(middle, last) - first >= max(MIN_BURST_S, self.duration_s / 2):
            return True
        # sound that was delayed may come at once, and the lead is level afterwards
        return last - first >= RISE * 2 * third_s and last - middle >= RISE / 2 * third_s

    def _points(self) -> Iterator[tuple[float, float]]:
        """The leads at the beginning and the end of each run, with their times.

        Packets that waited for one before them are one run.
        """
        for run, lead_s in zip(self.runs, self.leads_s, strict=True):
            if run.kind is not SampleKind.RECEIVED:
                continue  # it has the time of the packet behind it
            length_s, passed_s = run.length / self.sample_rate_hz, run.completed - run.arrived
            if length_s > PACKET_S:
                yield run.arrived, lead_s + passed_s - length_s + PACKET_S
            yield run.completed, lead_s


@dataclass(frozen=True, slots=True)
class Doubt:
    """A drop of the lead that was too small for a stall: further ones are added to it.

    It is forgotten when the lead rises again, and after a while.
    """

    left_s: float
    level_s: float
    """The lead after the drop."""
    since: float

    def before(self, lead_s: float) -> float:
        """Return the lead before the drop, if the usual lead is `lead_s` now.

        The usual lead is still that before the drop if little has arrived since.
        """
        before_s = self.level_s + self.left_s
        return min(lead_s + self.left_s, max(lead_s, before_s))

    def is_dispelled(self, run: Run, lead_s: float) -> bool:
        """Return whether the lead of a run shows that the drop was a delay."""
        return run.completed > self.since and lead_s > self.level_s + TOLERANCE_S


class Recovery:
    """Follows a lead that may be recovering from a delay of the network."""

    def __init__(self, now: float, report: SenderReport | None) -> None:
        self.report = report
        """The latest sender report before the pause."""
        self.has_risen = False
        self.level_s = UNKNOWN
        self._risen_at = now

    def goes_on(self, lead_s: float, now: float) -> bool:
        """Return whether the lead still rises. Because of jitter it may be level for a while."""
        if lead_s - self.level_s >= RISE * BUCKET_S:
            self.has_risen |= self.level_s > UNKNOWN
            self.level_s, self._risen_at = lead_s, now
            return True
        return self.has_risen and now - self._risen_at < _LEVEL_S

    def is_known(self, lead_s: float, now: float) -> bool:
        """Return whether the lead has risen before, and still rises."""
        return self.has_risen and self.goes_on(lead_s, now)
