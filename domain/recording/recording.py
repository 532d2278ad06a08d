"""A recording as a state machine: takes runs of samples, returns effects for the store."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any

from domain.recording.anchors import BETTER_S, AnchorChooser, Observed, Progress
from domain.recording.clock import SkewEstimator
from domain.recording.effects import (
    Appended,
    Effect,
    EndReason,
    Finished,
    GapFilled,
    Noted,
    Opened,
    Placed,
    channels_changed,
)
from domain.recording.ledger import LedgerEvent, SampleKind
from domain.recording.pace import PACKET_S
from domain.recording.pace_limit import PaceLimit
from domain.recording.reconstruction import Run
from domain.recording.stalls import Judged, Stall, StallDetector
from domain.recording.timeline import Timeline
from domain.recording.timestamps import Miscount
from domain.rtp.reports import SenderReport
from domain.sound.formats import AudioFormat
from domain.sound.pieces import Sound, skip

_AHEAD = "ahead"
OUTAGE_S = 1.0
"""A gap of at least this length is an outage, and an event in the ledger."""


class State(enum.Enum):
    WAITING = "waiting"
    RECORDING = "recording"
    FINISHED = "finished"


class Recording:
    """Decides what to write to a recording, and writes nothing itself.

    WAITING --open--> RECORDING --end--> FINISHED. A recording that ends before its first samples
    was never opened and has no effects.
    """

    def __init__(
        self, *, max_gap_s: float, max_fill_s: float | None = None, max_burst_s: float = math.inf
    ) -> None:
        """`max_burst_s` is how far sound may be ahead of the wall clock, see `pace_limit`."""
        self._max_gap_s = max_gap_s
        self._max_fill_s = max_fill_s
        self._pace = PaceLimit(max_burst_s=max_burst_s)
        self._left_out = 0  # samples left out since the last sound, because they came too fast
        self._left_out_at = 0.0  # when the first of them arrived
        self.left_out_s = 0.0
        """Sound that came too fast and was left out, in seconds."""
        self._timeline: Timeline | None = None
        self._stalls: StallDetector | None = None
        self._sample_rate_hz = self._clock_rate_hz = 0
        self.skew = SkewEstimator()  # of the sender's clock
        self._anchors: AnchorChooser | None = None
        self._break_reason = "timestamp"
        self._is_clock_wrong = False  # and this was noted
        self._early_report: SenderReport | None = None  # it came before the recording was opened
        self._stalled: Stall | None = None  # before the next run
        self._ssrc = 0
        self._changed_channels: int | None = None  # from the next sound on
        self._reached = 0  # the RTP timestamp, as sent, behind everything recorded
        self._offset: int | None = None  # from that to the position, in ticks
        self.state = State.WAITING

    @property
    def length(self) -> int:
        """Samples per channel recorded so far."""
        return self._timeline.position if self._timeline else 0

    def open(self, audio_format: AudioFormat, *, clock_rate_hz: int) -> list[Effect]:
        """Start recording in a known format."""
        assert self.state is State.WAITING
        self._sample_rate_hz = audio_format.sample_rate_hz
        self._clock_rate_hz = clock_rate_hz
        self._timeline = Timeline(
            clock_rate_hz=clock_rate_hz,
            sample_rate_hz=audio_format.sample_rate_hz,
            max_gap_s=self._max_gap_s,
            max_fill_s=self._max_fill_s,
            pace=self._pace,
        )
        self._stalls = StallDetector(
            clock_rate_hz=clock_rate_hz, sample_rate_hz=audio_format.sample_rate_hz
        )
        self._anchors = AnchorChooser(sample_rate_hz=audio_format.sample_rate_hz)
        if self._early_report is not None:
            self._stalls.report(self._early_report)
        self.state = State.RECORDING
        return [Opened(audio_format)]

    def resume(
        self,
        audio_format: AudioFormat,
        *,
        clock_rate_hz: int,
        progress: Progress,
        ssrc: int,
        now: float = math.inf,
    ) -> None:
        """Resume a recording that another process began; its file exists already.

        `ssrc` is the source that follows, from `now` on. If it is the source recorded before, its
        timestamps tell how long the outage was; otherwise the wall clock does.
        """
        self.open(audio_format, clock_rate_hz=clock_rate_hz)
        assert self._timeline is not None
        timestamp, anchor = None, progress.anchor
        if anchor is not None and anchor.ssrc == ssrc:
            samples = progress.length - anchor.position
            timestamp = anchor.rtp_timestamp + samples * clock_rate_hz // self._sample_rate_hz
        self._timeline.resume(
            position=progress.length,
            timestamp=None if timestamp is None else timestamp % 2**32,
            ended_at=progress.ended_at,
        )
        self._pace.resume(
            recorded_s=progress.length / self._sample_rate_hz,
            took_s=progress.took_s,
            ended_at=min(progress.ended_at, now),
        )
        self._break_reason = "source"
        self._ssrc = ssrc

    def add(self, run: Run) -> list[Effect]:
        """Add the next run of samples. After a pause it may be held back for a while."""
        assert self._timeline is not None and self._stalls is not None
        if self._stalls.passes(run):
            return self._record(run)
        lead_s = self._timeline.lead_s(run.timestamp, run.length, now=run.completed)
        if lead_s is None:
            return [*self.release(), *self._record(run)]
        return self._apply(self._stalls.add(run, lead_s))

    def has_room(self, length_s: float, *, now: float | None = None) -> bool:
        """Return whether sound of this length may be recorded next, if it arrived at `now`.

        Without `now`, only what can be told without the time counts.
        """
        timeline = self._timeline
        recorded_s = timeline.position / self._sample_rate_hz if timeline is not None else 0.0
        end_s = recorded_s + length_s
        if now is None:
            return end_s <= self._pace.admitted_s
        return self._pace.admits(end_s, now=now)

    def leave_out(self, length_s: float, *, now: float) -> list[Effect]:
        """Leave out sound for which there is no room; it arrived until `now`."""
        effects = self.release()
        if self._timeline is not None:
            self._leave_out(round(length_s * self._sample_rate_hz), now)
        return effects

    def _leave_out(self, length: int, now: float) -> None:
        assert self._timeline is not None
        self._pace.left_out(recorded_s=self._timeline.position / self._sample_rate_hz)
        if not self._left_out:
            self._left_out_at = now
        self._left_out += length
        self.left_out_s += length / self._sample_rate_hz
        self._stalled, self._offset = None, None
        self._break_reason = _AHEAD
        self._timeline.leave_out(now=now)

    def _note_left_out(self) -> list[Effect]:
        """Note what was left out, as one event, before the sound that follows it."""
        if not self._left_out:
            return []
        length, self._left_out = self._left_out, 0
        return [Noted(LedgerEvent("ahead", self.length, {"length": length}), self._left_out_at)]

    def poll(self, *, now: float) -> list[Effect]:
        """Record what is held back, if no packets arrive that could tell more."""
        return [] if self._stalls is None else self._apply(self._stalls.poll(now=now))

    def release(self) -> list[Effect]:
        """Record what is held back, because what follows does not continue it."""
        return [] if self._stalls is None else self._apply(self._stalls.flush())

    @property
    def is_holding(self) -> bool:
        """Whether sound is held back until it is clear whether the sender stalled before it."""
        return self._stalls is not None and self._stalls.is_holding

    def packet_waits(self, timestamp: int, *, arrived: float) -> list[Effect]:
        """Note a packet that has arrived, but waits for others before it.

        It shows that a network delayed the others: the sender did not stall.
        """
        if self._stalls is None or self._timeline is None:
            return []
        self._stalls.heard_at = arrived
        if not self._stalls.is_holding:
            return []
        lead_s = self._timeline.lead_s(timestamp, 0, now=arrived)
        return [] if lead_s is None else self._apply(self._stalls.ahead(lead_s))

    def sender_reported(self, report: SenderReport) -> list[Effect]:
        """Compare a sender report with what was received before it."""
        if report.ssrc != self._ssrc:
            return []
        if self._stalls is None:
            self._early_report = report
            return []
        return self._apply(self._stalls.report(report))

    def _apply(self, judged: Sequence[Judged]) -> list[Effect]:
        effects: list[Effect] = []
        for item in judged:
            if isinstance(item, Stall):
                self._stalled = item
            else:
                effects += self._record(item)
        return effects

    def _insert_late(self, stall: Stall) -> list[Effect]:
        """Insert time that the sender did not capture earlier: it was taken for a delay."""
        assert self._timeline is not None
        length = round(stall.length_s * self._sample_rate_hz)
        noted = self._note_stall(stall, self._timeline.position, length)
        placed = self._place(self._timeline.position, length, self._reached, stall.arrived)
        self._timeline.insert(length)
        return [noted, *placed, GapFilled(length, SampleKind.SILENCE)]

    def _note_stall(self, stall: Stall, position: int, length: int) -> Noted:
        assert self._anchors is not None
        self._anchors.break_off()
        details = {"length": length, "evidence": stall.evidence.value}
        return Noted(LedgerEvent("stall", position, details), stall.arrived)

    def _record(self, run: Run) -> list[Effect]:
        assert self._timeline is not None and self._stalls is not None
        assert self._anchors is not None
        before = self._timeline.position
        stall, self._stalled = self._stalled, None
        inserted = 0 if stall is None else round(stall.length_s * self._sample_rate_hz)
        end_s = (before + inserted + run.length) / self._sample_rate_hz
        pace = self._pace
        if end_s > pace.admitted_s and not pace.admits(end_s, now=run.completed):
            self._leave_out(run.length, run.completed)
            return []
        if not before and not pace.has_begun:
            pace.begin(run.arrived)
        self._timeline.insert(inserted)
        placement = self._timeline.place(run.timestamp, run.length, now=run.completed)
        gap = inserted + placement.gap
        effects = self._note_left_out() if self._left_out else []
        pieces: Sequence[Sound] = run.pieces
        gap_kind = run.gap_kind
        if stall is not None:
            effects.append(self._note_stall(stall, before, gap))
            gap_kind = SampleKind.SILENCE
        if placement.discontinuity:
            if self._break_reason != _AHEAD:  # that has an event of its own
                details = {"reason": self._break_reason, "fill_samples": placement.gap}
                effects.append(Noted(LedgerEvent("discontinuity", before, details), run.arrived))
            gap_kind = SampleKind.SILENCE
            self._anchors.break_off()
            self._break_reason = "timestamp"
            self.skew.reset()
            self._stalls.restart()
        sent = run.timestamp if run.sent_timestamp is None else run.sent_timestamp
        effects += self._place(before, gap, sent + self._ticks(placement.overlap), run.arrived)
        self._reached = sent + self._ticks(run.length)
        if gap:
            is_silent = gap_kind is SampleKind.SILENCE and stall is None
            if is_silent and gap >= OUTAGE_S * self._sample_rate_hz:
                outage = LedgerEvent("outage", before, {"length": gap})
                effects.append(Noted(outage, run.arrived))
            effects.append(GapFilled(gap, gap_kind))
        start = before + gap - placement.overlap
        if run.miscounts:
            effects += self._miscounted(run.miscounts, start, run.arrived)
        behind = max(0, run.length - round(PACKET_S * self._sample_rate_hz))
        anchor = self._anchors.choose(
            Observed(start, sent, run.arrived),
            Observed(start + behind, (sent + self._ticks(behind)) % 2**32, run.completed),
        )
        if anchor is not None:
            effects.append(self._anchor(anchor))
        if placement.overlap:
            trimmed = LedgerEvent("overlap", before, {"length": placement.overlap})
            effects.append(Noted(trimmed, run.arrived))
            pieces, missing = skip(pieces, placement.overlap)
            if missing:
                effects.append(GapFilled(missing, SampleKind.SILENCE))
        if run.channels is not None:
            self._changed_channels = run.channels
        if pieces:
            if self._changed_channels is not None:
                at = self._timeline.position - sum(map(len, pieces))
                effects += channels_changed(self._changed_channels, at, run.arrived)
                self._changed_channels = None
            effects.append(Appended(pieces, run.kind, run.arrived))
        return effects + self._observe(run)

    def _place(self, position: int, gap: int, timestamp: int, arrived: float) -> list[Effect]:
        """Tell where the sound of a timestamp is, unless that follows from what was told before."""
        offset = (self._ticks(position + gap) - timestamp) % 2**32
        if offset == self._offset:
            return []
        self._offset = offset
        return [Placed(position, gap, timestamp % 2**32, arrived)]

    def _ticks(self, samples: int) -> int:
        return samples * self._clock_rate_hz // self._sample_rate_hz

    def _anchor(self, observed: Observed, *, delay_s: float = 0.0) -> Noted:
        """Note an anchor. Its packet came `delay_s` later than usual."""
        details: dict[str, Any] = {"rtp_timestamp": observed.rtp_timestamp, "ssrc": self._ssrc}
        if delay_s >= BETTER_S:
            details["delay_s"] = round(delay_s, 3)
        if (ppm := self.skew.ppm) is not None:
            # each part of a recording has to explain its own length
            details["skew_ppm"] = _rounded(ppm)
        return Noted(LedgerEvent("anchor", observed.position, details), observed.arrived)

    def _miscounted(
        self, miscounts: Mapping[Miscount, int], position: int, arrived: float
    ) -> list[Effect]:
        """Note how the sender's timestamps fail to count its sound."""
        found = [{"reason": miscount.value, "count": n} for miscount, n in miscounts.items()]
        return [Noted(LedgerEvent("timestamps", position, item), arrived) for item in found]

    def _observe(self, run: Run) -> list[Effect]:
        """Compare the recorded time with the time of arrival."""
        assert self._timeline is not None and self._stalls is not None
        media_s = self._timeline.position / self._sample_rate_hz
        late = self._stalls.observe(run, media_s - run.completed)
        effects = [] if late is None else self._insert_late(late)
        if self.skew.observe(media_s=media_s, arrived_s=run.completed) and self.skew.is_wrong:
            effects += self._note_wrong_clock(run.completed)
        return effects

    def _note_wrong_clock(self, now: float) -> list[Effect]:
        """Note once that the sender's clock is wrong."""
        if self._is_clock_wrong:
            return []
        self._is_clock_wrong = True
        return self.note("clock skew", now=now, skew_ppm=_rounded(self.skew.ppm))

    def change_source(self, ssrc: int, *, may_overlap: bool = False) -> None:
        """Expect another source, which has its own clock (RFC 3550 § 3).

        With `may_overlap` it may have begun to send before the previous one ended.
        """
        self._ssrc = ssrc
        self.restart("source", may_overlap=may_overlap)

    def restart(self, reason: str, *, may_overlap: bool = False) -> None:
        """Expect a restarted sender, whose next timestamp is unrelated to the last."""
        self._offset = None
        if self._timeline is not None:
            self._break_reason = reason
            self._timeline.restart(may_overlap=may_overlap)

    def note(self, event_type: str, *, now: float, **details: Any) -> list[Effect]:
        """Note an event at the current position in the ledger."""
        if self.state is not State.RECORDING:
            return []
        return [Noted(LedgerEvent(event_type, self.length, details), now)]

    def anchor(self) -> list[Effect]:
        """Anchor the end of the recording to the wall clock."""
        if self.state is not State.RECORDING:
            return []
        effects = self.release()
        assert self._anchors is not None and self._stalls is not None
        if (last := self._anchors.at_end()) is not None:
            lead_s = last.position / self._sample_rate_hz - last.arrived
            effects.append(self._anchor(last, delay_s=self._stalls.delay_s(lead_s)))
        return effects

    def end(self, reason: EndReason, *, now: float) -> list[Effect]:
        """End the recording. A second call has no effect."""
        effects = self.release()
        if self.state is not State.RECORDING:
            self.state = State.FINISHED
            return []
        effects += self._note_left_out()
        if (ppm := self.skew.ppm) is not None:
            effects += self.note("clock", now=now, skew_ppm=_rounded(ppm))
        self.state = State.FINISHED
        return [*effects, Finished(reason)]


def _rounded(ppm: float | None) -> float | None:
    return None if ppm is None else round(ppm, 1)
