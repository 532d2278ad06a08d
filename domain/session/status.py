"""What a session is like now: what the live list of the API, events and alarms are made of."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from domain.recording.ledger import SampleKind
from domain.session.session import SessionState


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelLevel:
    """How loud one channel was in the time since the status before."""

    peak_dbfs: float
    """Of the largest sample; -inf if all are zero."""
    rms_dbfs: float
    """Of the root of the mean square (a full-scale sine has -3.01 dBFS)."""
    clipped: int = 0
    """Samples at either end of the scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackStatus:
    """One track."""

    number: int
    recording: str | None
    """Id of its recording; None before its first packet."""
    codec: str | None = None
    sample_rate_hz: int = 0
    channels: int = 0
    length: int = 0
    """Samples per channel that have been recorded."""
    levels: tuple[ChannelLevel, ...] = ()
    """One for each channel; empty if nothing was recorded since the status before."""
    kinds: Mapping[SampleKind, int] = field(default_factory=dict)
    """Samples of each kind in all."""
    recent_kinds: Mapping[SampleKind, int] = field(default_factory=dict)
    """Samples of each kind of the last minute."""
    lost: int = 0
    """Packets that were sent and did not arrive, not even when they were sent again."""
    expected: int = 0
    """Packets that were sent, by their sequence numbers."""
    jitter_s: float = 0.0
    """Interarrival jitter (RFC 3550 § 6.4.1)."""
    clock_ppm: float | None = None
    """By how much the sender's clock is fast; None if that is not known yet."""
    stalls: int = 0
    """How often the sender captured nothing for a time."""
    wanted: int = 0
    """Samples that are still to be restored."""
    fault: str | None = None
    """Why the recording cannot be written at the moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatus:
    """One session."""

    id: str
    name: str
    state: SessionState
    opened_at: datetime.datetime
    """UTC."""
    waits_for: str | None
    """What has to come before it goes on, in words; None while it records."""
    room: str = ""
    """The room that it shares with others; empty if it has none."""
    silent_s: float = 0.0
    """Seconds since the last packet."""
    round_trip_s: float | None = None
    """By ICE or RTCP; None if it was not measured."""
    tracks: tuple[TrackStatus, ...] = ()
