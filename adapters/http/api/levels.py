"""Levels and shares of the sessions as JSON, made once for all who watch them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from adapters.http.api.event_json import LEVELS, NUMBER, TEXT, WHOLE, schema_of
from adapters.http.operations import Schema
from adapters.http.sse import encode
from domain.recording.ledger import SampleKind
from domain.session.status import ChannelLevel, SessionStatus, TrackStatus

_NULLABLE_NUMBER: Schema = {"type": ["number", "null"]}
_CHANNEL = schema_of(
    "ChannelLevels",
    "How loud a channel was since the levels before; None where all samples are zero.",
    {"peak_dbfs": _NULLABLE_NUMBER, "rms_dbfs": _NULLABLE_NUMBER, "clipped": WHOLE},
)
_SHARES = schema_of(
    "Shares",
    "Which share of the last minute's samples is of which kind; all are 0 before the first.",
    {kind.value: NUMBER for kind in SampleKind},
)
_SAMPLES = schema_of(
    "SamplesSoFar",
    "Samples of each kind since the process began to record the track. What has come between two "
    "of these events is their difference.",
    {kind.value: WHOLE for kind in SampleKind},
)
_TRACK = schema_of(
    "TrackLevels",
    "A track; without channels if its packets are not decoded, or none have come.",
    {
        "track": WHOLE,
        "length": {**WHOLE, "description": "Samples per channel that have been recorded."},
        "channels": {"type": "array", "items": _CHANNEL},
        "shares": _SHARES,
        "samples": _SAMPLES,
    },
)
_SESSION = schema_of(
    "SessionLevels",
    "The tracks of a session.",
    {"session": TEXT, "tracks": {"type": "array", "items": _TRACK}},
)
LEVELS_SCHEMA = schema_of(
    "LevelsEvent",
    "levels: How loud the sessions are now. It has no id, and is never repeated.",
    {"sessions": {"type": "array", "items": _SESSION}},
)


def encode_levels(sessions: Sequence[str]) -> bytes:
    """Encode the event; `sessions` are as `session_levels` returns them."""
    return encode(LEVELS, f'{{"sessions":[{",".join(sessions)}]}}')


def session_levels(status: SessionStatus) -> str:
    """Return the levels of a session. Written out by hand: json.dumps takes four times as long."""
    tracks = ",".join(map(_track, status.tracks))
    return f'{{"session":{json.dumps(status.id)},"tracks":[{tracks}]}}'


def _track(track: TrackStatus) -> str:
    channels = ",".join(map(_channel, track.levels))
    return (
        f'{{"track":{track.number},"length":{track.length},"channels":[{channels}],'
        f'"shares":{_shares(track.recent_kinds)},"samples":{_samples(track.kinds)}}}'
    )


def _channel(level: ChannelLevel) -> str:
    return (
        f'{{"peak_dbfs":{_number(level.peak_dbfs)},"rms_dbfs":{_number(level.rms_dbfs)},'
        f'"clipped":{level.clipped}}}'
    )


def _number(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "null"


def _shares(kinds: Mapping[SampleKind, int]) -> str:
    total = sum(kinds.values()) or 1
    shares = ",".join(f'"{name}":{kinds.get(kind, 0) / total:.5g}' for kind, name in _KINDS)
    return f"{{{shares}}}"


def _samples(kinds: Mapping[SampleKind, int]) -> str:
    samples = ",".join(f'"{name}":{kinds.get(kind, 0)}' for kind, name in _KINDS)
    return f"{{{samples}}}"


_KINDS = [(kind, kind.value) for kind in SampleKind]
