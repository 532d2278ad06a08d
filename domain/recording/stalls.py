"""Tells a sender that stalled from a network that delayed its packets.

A sender whose capture stalls (a suspended tab, a busy phone, an exchanged microphone) continues its
sequence and timestamps without a gap. Only clocks show that time has passed. The lead is how far
the recording is ahead of the wall clock, up to a constant. A stall lowers it for good. A network
that held packets back delivers them faster than real time afterwards, and the lead recovers.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from domain.recording.capture_times import MIN_PROVEN_S, CaptureTimes
from domain.recording.pace import BUCKET_S, TOLERANCE_S, UNKNOWN, Doubt, Recovery, Segment
from domain.recording.reconstruction import MAX_SPACING_S, Run
from domain.rtp.counters import signed
from domain.rtp.reports import SenderReport

MIN_STALL_S = 0.15
"""The shortest stall that the pace of arrival alone can show; networks vary their delay, too."""
MIN_EARLY_S = 0.19
"""The shortest one in the first seconds: it is not known yet how much the delay varies."""
MIN_REPORTED_S = 0.1
"""The shortest one that sender reports show: senders that get too little time report late."""
WINDOW_S = 0.9
"""Sound that is held back until the pace after a pause is clear. A killed process loses it."""
MAX_DELAY_S = 1.0
"""The longest delay of the last packets of a stream; a longer one is a stall."""
MIN_LATE_S = 0.5
"""The shortest stall that is inserted after its sound was recorded: its place is not exact."""
MAX_SLOPE = 0.03
"""A lead that falls by more per second without a pause is that of a clock which is wrong."""
_MAX_WAIT_S = 0.5
_BUCKETS = 4
_MIN_SEGMENT_S, _MIN_WAITED_S = 0.2, 0.45
_DOUBT_S = 5.0
_SMALL_DROP_S = 0.3


class Evidence(enum.Enum):
    """What shows that the sender stalled; the value is that in the ledger."""

    CAPTURE_TIME = "capture time"
    """The capture times in the packets (RTP header extension abs-capture-time)."""
    SENDER_REPORT = "sender report"
    """The sender's reports, which tie its timestamps to its clock (RFC 3550 § 6.4.1)."""
    PACE = "pace of arrival"
    """Packets paused, and then came at the pace of real time."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Time that passed at the sender without being captured, before the next run."""

    length_s: float
    evidence: Evidence
    arrived: float
    """When the first packet after it arrived (monotonic seconds)."""


Judged: TypeAlias = Run | Stall
"""What to record next."""


class StallDetector:
    """Holds back the sound after a pause until it is clear whether the sender stalled.

    `passes` is asked about each run. Runs that pass are recorded at once, and reported to
    `observe`. All others go to `add`, which returns what to record, in order.
    """

    def __init__(self, *, clock_rate_hz: int, sample_rate_hz: int) -> None:
        self._clock_rate_hz = clock_rate_hz
        self._sample_rate_hz = sample_rate_hz
        self._capture_times = CaptureTimes(
            clock_rate_hz=clock_rate_hz, sample_rate_hz=sample_rate_hz
        )
        self.restart()

    def restart(self) -> None:
        """Forget everything: an unrelated stream follows. Nothing may be held."""
        self._held: list[Segment] = []
        self._reference_s = UNKNOWN  # the lead before the pause, while runs are held
        self._arrived = float("inf")  # when the latest packet arrived; the first follows no pause
        self.heard_at = UNKNOWN
        """When the latest packet arrived, be it one that waits for others before it."""
        self._lead_s = UNKNOWN  # the best lead of the latest complete bucket
        self._bucket_s = UNKNOWN  # the best lead of the current bucket
        self._bucket_ends_at = 0.0
        self._slope = 0.0  # how the lead changes, per second, because the sender's clock is slow
        self._doubt: Doubt | None = None
        self._worst_s = float("inf")  # the worst lead of the current bucket
        self._bests_s: deque[float] = deque(maxlen=_BUCKETS)  # those of the latest buckets
        self._spreads_s: deque[float] = deque(maxlen=_BUCKETS)  # best minus worst of each
        self._is_recovering = False  # a pause was taken for a delay, and the lead is still low
        self._usual_s = UNKNOWN  # the lead before a delay that is certain
        self._recovery = Recovery(0.0, None)
        self._reference: SenderReport | None = None  # the latest report before the pause
        self._earlier: SenderReport | None = None  # the one before it
        self._waiting_report: SenderReport | None = None  # a later one; nothing was held then
        self._capture_times.restart()

    def passes(self, run: Run) -> bool:
        """Return whether a run can be recorded at once: nothing shows that the sender stalled."""
        is_paused = run.arrived - self._arrived >= MAX_SPACING_S
        return not (is_paused or self._held or run.captured_s is not None)

    def observe(self, run: Run, lead_s: float) -> Stall | None:
        """Note the lead at the end of a recorded run; return a stall to insert behind it, if any.

        There is one if it was taken for a delay of the network at first.
        """
        completed = run.completed
        if self._waiting_report is not None:
            self._adopt_report(self._waiting_report, run)
        if not completed < self._arrived < float("inf"):
            self._arrived = completed
        if run.captured_s is not None:
            self._capture_times.observe(run)
        if lead_s > self._bucket_s:
            self._bucket_s = lead_s
        if lead_s < self._worst_s:
            self._worst_s = lead_s
        if (doubt := self._doubt) is not None and doubt.is_dispelled(run, lead_s):
            self._doubt = None  # it was a delay
        if completed < self._bucket_ends_at:
            return None
        best_s, self._bucket_s = self._bucket_s, UNKNOWN
        spread_s, self._worst_s = best_s - self._worst_s, float("inf")
        is_next = completed - self._bucket_ends_at < BUCKET_S
        self._bucket_ends_at = completed + BUCKET_S
        self._capture_times.note_best(best_s)
        if self._is_recovering:
            return self._recover(best_s, completed)
        slope = (best_s - self._lead_s) / BUCKET_S if is_next else 0.0
        self._slope = slope if -1.0 < slope < -MAX_SLOPE else 0.0
        self._lead_s = best_s
        self._bests_s.append(best_s)
        self._spreads_s.append(spread_s)
        return None

    def add(self, run: Run, lead_s: float) -> Sequence[Judged]:
        """Add a run that does not pass; return what to record now."""
        is_paused = run.arrived - self._arrived >= MAX_SPACING_S
        stalled_s = self._capture_times.stalled_s(run, lead_s, before=self._arrived)
        if not self._held:
            if stalled_s is not None:
                if stalled_s:
                    return (Stall(stalled_s, Evidence.CAPTURE_TIME, run.arrived), run)
                return (run,)
            if not is_paused or self._reference_lead_s - lead_s < TOLERANCE_S:
                return (run,)
            self._reference_s = self._reference_lead_s
            if self._doubt is not None and run.arrived < self._doubt.since + _DOUBT_S:
                self._reference_s = self._doubt.before(self._reference_s)
        self._arrived = max(self._arrived, run.completed)
        self.heard_at = max(self.heard_at, self._arrived)
        if not self._held or (is_paused and self._held[-1].best_s > lead_s):
            self._held.append(Segment([], [], self._sample_rate_hz))
        self._held[-1].extend(Segment([run], [lead_s], self._sample_rate_hz))
        if self._reference_s - lead_s < TOLERANCE_S:
            return self._release()
        if stalled_s is not None:
            return self._split(stalled_s, Evidence.CAPTURE_TIME) if stalled_s else self._release()
        if self._held_s >= WINDOW_S or self._pauses()[-1][0].duration_s >= WINDOW_S:
            return self._decide()
        return ()

    def ahead(self, lead_s: float) -> Sequence[Judged]:
        """Note the lead of a packet that waits for others before it, while sound is held back."""
        return self._release() if self._reference_s - lead_s < TOLERANCE_S else ()

    @property
    def is_holding(self) -> bool:
        return bool(self._held)

    def poll(self, *, now: float) -> Sequence[Judged]:
        """Return what need not be held any longer, because no packets arrive."""
        if self._held and now - self.heard_at >= _MAX_WAIT_S:
            return self._decide(least_s=_MIN_WAITED_S)
        return ()

    def flush(self) -> Sequence[Judged]:
        """Return everything that is held: the stream ends or breaks off."""
        if not self._held:
            return ()
        *_, (last, _) = self._pauses()
        deficit_s = self._reference_s - last.best_s
        if last.duration_s < _MIN_SEGMENT_S and deficit_s >= MAX_DELAY_S:
            return self._split(deficit_s, Evidence.PACE)
        return self._decide()

    def report(self, report: SenderReport) -> Sequence[Judged]:
        """Note a sender report that arrived after all runs so far; return what to record now."""
        if not self._held:
            # reports that are sent during a stall say little about the time before it
            if report.arrived - self._arrived < MAX_SPACING_S:
                before = self._recovery.report
                is_told = before is not None and self._between(before, report) < MIN_REPORTED_S
                if self._is_recovering and is_told:
                    self._accept_delay(max(self._bucket_s, self._recovery.level_s))
                self._earlier, self._reference = self._reference, report
            else:
                # packets that came before it may still wait for others
                self._waiting_report = report
            return ()
        return self._judge(report)

    def _adopt_report(self, report: SenderReport, run: Run) -> None:
        """Refer to a report if sound came without a pause around it; `run` is recorded now."""
        if run.completed < report.arrived:
            return
        self._waiting_report = None
        if run.arrived <= report.arrived or report.arrived - self._arrived < MAX_SPACING_S:
            self._earlier, self._reference = self._reference, report

    def _judge(self, report: SenderReport) -> Sequence[Judged]:
        """Decide by a report that came after the pause; return nothing if it does not tell."""
        if self._reference is None:
            return ()
        stalled_s, best_s = self._between(self._reference, report), self._held[-1].best_s
        if not -TOLERANCE_S < stalled_s < self._reference_s - best_s + 2 * TOLERANCE_S:
            return ()  # it contradicts the arrival of packets
        if stalled_s < MIN_REPORTED_S:
            self._accept_delay(best_s)
            return self._release()
        return self._split(stalled_s, Evidence.SENDER_REPORT)

    def _between(self, first: SenderReport, second: SenderReport) -> float:
        """Return how much time the sender did not capture between two reports."""
        passed_s, counted_s = self._intervals(first, second)
        return passed_s - counted_s / self._reported_rate

    def _intervals(self, first: SenderReport, second: SenderReport) -> tuple[float, float]:
        """Return the time between two reports by the sender's wall clock and by its timestamps."""
        counted_s = self._seconds(second.rtp_timestamp - first.rtp_timestamp)
        return (second.ntp - first.ntp) / 2**32, counted_s

    @property
    def _reported_rate(self) -> float:
        """How fast the sender's timestamps count: a clock that is slow does not count all time.

        If the sound came late by chance, only the lead was falling. The reports tell.
        """
        if not self._slope or self._earlier is None or self._reference is None:
            return 1 + self._slope
        passed_s, counted_s = self._intervals(self._earlier, self._reference)
        return min((1.0, 1 + self._slope), key=lambda rate: abs(rate * passed_s - counted_s))

    def _accept_delay(self, lead_s: float) -> None:
        """Compare later leads with this one: the network certainly delays packets."""
        if lead_s > UNKNOWN:
            self._usual_s = max(self._usual_s, self._lead_s, self._bucket_s)
            self._is_recovering, self._lead_s, self._bucket_s = False, lead_s, UNKNOWN
            self._bests_s.clear()
            self._spreads_s.clear()

    def delay_s(self, lead_s: float) -> float:
        """Return by how much later than usual a packet with this lead came at the end."""
        return max(0.0, self._lead_s - lead_s, self._usual_s - lead_s)

    @property
    def _reference_lead_s(self) -> float:
        """The lead with which a later one is compared."""
        if self._is_recovering:
            return self._lead_s
        # the best leads are those of the beginning of their buckets if the clock is slow
        age_s = self._arrived - (self._bucket_ends_at - BUCKET_S)
        earlier_s = self._lead_s + self._slope * (age_s + BUCKET_S)
        return max(earlier_s, self._bucket_s + self._slope * age_s)

    @property
    def _variation_s(self) -> float:
        """How much the best lead may vary by itself, because the network varies its delay."""
        varied_s = max(self._bests_s, default=0.0) - min(self._bests_s, default=0.0)
        return varied_s + max(self._spreads_s, default=0.0) / 4

    @property
    def _held_s(self) -> float:
        """The length of the sound that is held."""
        return sum(run.length for held in self._held for run in held.runs) / self._sample_rate_hz

    def _release(self, *, is_recovering: bool = False) -> Sequence[Judged]:
        """Record what is held without a stall."""
        if is_recovering and not self._is_recovering:
            self._lead_s, self._bucket_s = self._reference_s, UNKNOWN
            self._recovery = Recovery(self._arrived, self._reference)
        self._is_recovering = is_recovering
        held, self._held = self._held, []
        return [run for segment in held for run in segment.runs]

    def _decide(self, *, least_s: float = _MIN_SEGMENT_S) -> Sequence[Judged]:
        """Decide by the pace of arrival, or by a report that came meanwhile."""
        report, self._waiting_report = self._waiting_report, None
        since = min(run.arrived for run in self._held[0].runs)
        is_later = report is not None and report.arrived >= since
        if report is not None and is_later and (judged := self._judge(report)):
            return judged
        pauses = self._certain_pauses()
        last, _ = pauses[-1]
        is_rising = last.duration_s >= _MIN_SEGMENT_S and last.is_rising
        is_known = self._is_recovering and self._recovery.is_known(last.best_s, self._arrived)
        if last.duration_s < least_s or is_rising or is_known:
            released = self._release(is_recovering=True)
            self._recovery.has_risen |= is_rising
            return released
        return self._split(sum(drop for _, drop in pauses), Evidence.PACE)

    def _pauses(self) -> list[tuple[Segment, float]]:
        """Return what is held, in stretches, each with the drop of the lead before it.

        A delay can only lower the lead. So the best lead of all later packets shows how far capture
        had got at least. Stretches between which it hardly drops are one: packets jitter. A sender
        that gets too little time drops it a little with each packet. Such drops add up.
        """
        reached: list[float] = []
        for segment in reversed(self._held):
            reached.insert(0, max([segment.best_s, *reached[:1]]))
        pauses: list[tuple[Segment, float]] = []
        level_s = self._reference_s
        for segment, reached_s in zip(self._held, reached, strict=True):
            drop_s = max(0.0, level_s - reached_s)
            if pauses and drop_s < 2 * TOLERANCE_S:
                pauses[-1][0].extend(segment)
                continue
            pauses.append(
                (Segment([*segment.runs], [*segment.leads_s], self._sample_rate_hz), drop_s)
            )
            level_s = reached_s
        return pauses

    def _certain_pauses(self) -> list[tuple[Segment, float]]:
        """Return the stretches as `_pauses`, without a small drop that was too late to judge."""
        pauses = self._pauses()
        while len(pauses) > 1:
            last, drop_s = pauses[-1]
            if last.duration_s >= _MIN_SEGMENT_S or drop_s >= _SMALL_DROP_S:
                break
            pauses[-2][0].extend(last)
            del pauses[-1]
        return pauses

    def _split(self, stalled_s: float, evidence: Evidence) -> Sequence[Judged]:
        """Record what is held, with a stall of this length in total, shared among the pauses."""
        pauses = self._certain_pauses() if evidence is Evidence.PACE else self._pauses()
        scale = stalled_s / (sum(drop for _, drop in pauses) or 1.0)
        shortest_s = MIN_PROVEN_S
        if evidence is Evidence.PACE:
            is_known = len(self._bests_s) == _BUCKETS
            least_s = (MIN_STALL_S if is_known else MIN_EARLY_S) + self._variation_s
            # short stalls count together, if the clock is known to be right
            together_s = 2 * TOLERANCE_S if is_known and not self._slope else MIN_STALL_S
            shortest_s = together_s if stalled_s >= least_s else least_s
        judged: list[Judged] = []
        inserted_s = 0.0
        for segment, drop in pauses:
            if (length_s := drop * scale) >= shortest_s:
                judged.append(self._stall(length_s, evidence, segment.runs[0].arrived))
                inserted_s += length_s
            judged += segment.runs
        self._note_doubt(inserted_s)
        # the stall becomes part of the lead, which is as good as before it
        self._held, self._is_recovering = [], False
        return judged

    def _note_doubt(self, inserted_s: float) -> None:
        """Remember what is left of the drop behind what is held."""
        last = self._held[-1]
        left_s = self._reference_s - last.best_s - inserted_s
        self._doubt = None
        leads = [segment.best_s for segment in self._held]
        if any(after - before >= TOLERANCE_S for before, after in pairwise(leads)):
            return  # the delay varies as much
        if left_s >= (MIN_PROVEN_S if inserted_s else 2 * TOLERANCE_S):
            since = max(run.completed for run in last.runs)
            self._doubt = Doubt(left_s, self._reference_s - left_s, since)
        if left_s >= 2 * TOLERANCE_S and not inserted_s:  # the lead has a new level
            self._bests_s.clear()
            self._spreads_s.clear()

    def _recover(self, best_s: float, now: float) -> Stall | None:
        """Follow the lead after a pause that was taken for a delay of the network."""
        deficit_s = self._lead_s - best_s
        if deficit_s >= TOLERANCE_S and self._recovery.goes_on(best_s, now):
            return None
        self._is_recovering, self._lead_s = False, best_s
        return self._stall(deficit_s, Evidence.PACE, now) if deficit_s >= MIN_LATE_S else None

    def _stall(self, length_s: float, evidence: Evidence, arrived: float) -> Stall:
        self._capture_times.inserted(length_s)
        return Stall(length_s, evidence, arrived)

    def _seconds(self, ticks: int) -> float:
        return signed(ticks, bits=32) / self._clock_rate_hz
