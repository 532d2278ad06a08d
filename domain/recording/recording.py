"""A recording as a state machine: takes runs of samples, returns effects for the store."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from domain.recording.clock import SkewEstimator
from domain.recording.ledger import LedgerEvent, SampleKind
from domain.recording.reconstruction import Run
from domain.recording.timeline import Timeline
from domain.sound.formats import AudioFormat
from domain.sound.pieces import Sound, skip

ANCHOR_INTERVAL_S = 60.0
"""Interval between ledger events that anchor RTP time to the wall clock."""
OUTAGE_S = 1.0
"""A gap of at least this length is an outage, and an event in the ledger."""


class EndReason(enum.Enum):
    """Why a recording ended."""

    CLOSED = "closed"
    """The client closed the connection."""
    DELETED = "deleted"
    """The client deleted the session."""
    INACTIVE = "inactive"
    """No packet arrived within the inactivity time-out."""
    SHUTDOWN = "shutdown"
    """The server shut down."""
    FAILED = "failed"
    """The server failed internally."""
    STORAGE_FAILED = "storage failed"
    """The store failed; an event in the ledger says why."""
    RECOVERED = "recovered"
    """The process that wrote it was killed; recovery completed what it left."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The format is known and samples follow: create the file."""

    format: AudioFormat


@dataclass(slots=True, eq=False)
class Appended:
    """Sound to append to the file."""

    pieces: Sequence[Sound]
    kind: SampleKind


@dataclass(frozen=True, slots=True)
class GapFilled:
    """`length` samples of silence to append to the file, for time without sound."""

    length: int
    kind: SampleKind


@dataclass(frozen=True, slots=True)
class Noted:
    """An event for the ledger.

    `arrived` is its time in monotonic seconds; whoever writes the ledger converts it to a date.
    """

    event: LedgerEvent
    arrived: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The recording is complete."""

    reason: EndReason


Effect: TypeAlias = Opened | Appended | GapFilled | Noted | Finished


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


class State(enum.Enum):
    WAITING = "waiting"
    RECORDING = "recording"
    FINISHED = "finished"


class Recording:
    """Decides what to write to a recording, and writes nothing itself.

    WAITING --open--> RECORDING --end--> FINISHED. A recording that ends before its first samples
    was never opened and has no effects.
    """

    def __init__(self, *, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        self._timeline: Timeline | None = None
        self._sample_rate_hz = 0
        self._skew = SkewEstimator()
        self._anchored_at = float("-inf")
        self._break_reason = "timestamp"
        self._ssrc = 0
        self.state = State.WAITING

    @property
    def length(self) -> int:
        """Samples per channel recorded so far."""
        return self._timeline.position if self._timeline else 0

    def open(self, audio_format: AudioFormat, *, clock_rate_hz: int) -> list[Effect]:
        """Start recording in a known format."""
        assert self.state is State.WAITING
        self._sample_rate_hz = audio_format.sample_rate_hz
        self._timeline = Timeline(
            clock_rate_hz=clock_rate_hz,
            sample_rate_hz=audio_format.sample_rate_hz,
            max_gap_s=self._max_gap_s,
        )
        self.state = State.RECORDING
        return [Opened(audio_format)]

    def resume(
        self, audio_format: AudioFormat, *, clock_rate_hz: int, progress: Progress, ssrc: int
    ) -> None:
        """Resume a recording that another process began; its file exists already.

        `ssrc` is the source that follows. If it is the source recorded before, its timestamps
        tell how long the outage was; otherwise the wall clock does.
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
        self._break_reason = "source"
        self._ssrc = ssrc

    def add(self, run: Run) -> list[Effect]:
        """Add the next run of samples."""
        assert self._timeline is not None
        before = self._timeline.position
        placement = self._timeline.place(run.timestamp, run.length, now=run.completed)
        effects: list[Effect] = []
        pieces: Sequence[Sound] = run.pieces
        gap_kind = run.gap_kind
        if placement.discontinuity:
            details = {"reason": self._break_reason, "fill_samples": placement.gap}
            effects.append(Noted(LedgerEvent("discontinuity", before, details), run.arrived))
            gap_kind = SampleKind.SILENCE
            self._anchored_at = float("-inf")
            self._break_reason = "timestamp"
            self._skew.reset()
        if placement.gap:
            if gap_kind is SampleKind.SILENCE and placement.gap >= OUTAGE_S * self._sample_rate_hz:
                outage = LedgerEvent("outage", before, {"length": placement.gap})
                effects.append(Noted(outage, run.arrived))
            effects.append(GapFilled(placement.gap, gap_kind))
        if run.arrived - self._anchored_at >= ANCHOR_INTERVAL_S:
            self._anchored_at = run.arrived
            details = {"rtp_timestamp": run.timestamp, "ssrc": self._ssrc}
            at = before + placement.gap - placement.overlap
            effects.append(Noted(LedgerEvent("anchor", at, details), run.arrived))
        if placement.overlap:
            trimmed = LedgerEvent("overlap", before, {"length": placement.overlap})
            effects.append(Noted(trimmed, run.arrived))
            pieces, missing = skip(pieces, placement.overlap)
            if missing:
                effects.append(GapFilled(missing, SampleKind.SILENCE))
        if pieces:
            effects.append(Appended(pieces, run.kind))
        self._skew.observe(
            media_s=self._timeline.position / self._sample_rate_hz, arrived_s=run.completed
        )
        return effects

    def change_source(self, ssrc: int) -> None:
        """Expect another source, which has its own clock (RFC 3550 § 3)."""
        self._ssrc = ssrc
        self.restart("source")

    def restart(self, reason: str) -> None:
        """Expect a restarted sender, whose next timestamp is unrelated to the last."""
        if self._timeline is not None:
            self._break_reason = reason
            self._timeline.restart()

    def note(self, event_type: str, *, now: float, **details: Any) -> list[Effect]:
        """Note an event at the current position in the ledger."""
        if self.state is not State.RECORDING:
            return []
        return [Noted(LedgerEvent(event_type, self.length, details), now)]

    def end(self, reason: EndReason, *, now: float) -> list[Effect]:
        """End the recording. A second call has no effect."""
        was, self.state = self.state, State.FINISHED
        if was is not State.RECORDING:
            return []
        effects: list[Effect] = []
        if (ppm := self._skew.ppm) is not None:
            effects.append(
                Noted(LedgerEvent("clock", self.length, {"skew_ppm": round(ppm, 1)}), now)
            )
        return [*effects, Finished(reason)]
