"""Sessions as the API writes them, with their schemas."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any

from adapters.http.operations import Schema
from domain.recording.ledger import SampleKind
from domain.session.session import SessionState
from domain.session.status import ChannelLevel, SessionStatus, TrackStatus

_DBFS: Schema = {"type": ["number", "null"], "description": "In dBFS; null if all is silent."}
LEVEL: Schema = {
    "title": "Level",
    "description": "How loud one channel was in the latest second.",
    "type": "object",
    "properties": {
        "peak_dbfs": _DBFS,
        "rms_dbfs": {**_DBFS, "description": "As `peak_dbfs`; a full-scale sine has -3.01."},
        "clipped": {
            "type": "integer",
            "minimum": 0,
            "description": "Samples at either end of the scale.",
        },
    },
    "required": ["peak_dbfs", "rms_dbfs", "clipped"],
    "additionalProperties": False,
}
SHARES: Schema = {
    "title": "Shares",
    "description": "The fraction of each kind of samples, from 0 to 1; all 0 before the first.",
    "type": "object",
    "properties": {kind.value: {"type": "number", "minimum": 0, "maximum": 1}
                   for kind in SampleKind},
    "required": [kind.value for kind in SampleKind],
    "additionalProperties": False,
}  # fmt: skip


def _count(text: str) -> Schema:
    return {"type": "integer", "minimum": 0, "description": text}


TRACK: Schema = {
    "title": "Track",
    "type": "object",
    "properties": {
        "number": {"type": "integer", "minimum": 1},
        "recording": {
            "type": ["string", "null"],
            "description": "Id of its recording; null before its first packet.",
        },
        "codec": {"type": ["string", "null"]},
        "sample_rate_hz": _count("0 before its first packet."),
        "channels": _count("0 before its first packet."),
        "length": _count("Samples per channel that have been recorded."),
        "levels": {
            "type": "array",
            "items": LEVEL,
            "description": "One for each channel. Empty if nothing was recorded for a while, and "
            "if the server stores packets undecoded (`--storage opus`).",
        },
        "shares": SHARES,
        "recent_shares": SHARES,
        "lost": _count("Packets that were sent and did not arrive, not even when sent again."),
        "expected": _count("Packets that were sent, by their numbers."),
        "jitter_s": {"type": "number", "minimum": 0},
        "clock_ppm": {
            "type": ["number", "null"],
            "description": "By how much the sender's clock is fast; null if not known yet.",
        },
        "stalls": _count("How often the sender captured nothing for a time."),
        "wanted": _count("Samples that are still to be restored."),
        "fault": {
            "type": ["string", "null"],
            "description": "Why the recording cannot be written at the moment.",
        },
    },
    "required": [
        "number", "recording", "codec", "sample_rate_hz", "channels", "length", "levels", "shares",
        "recent_shares", "lost", "expected", "jitter_s", "clock_ppm", "stalls", "wanted", "fault",
    ],
    "additionalProperties": False,
}  # fmt: skip
SESSION: Schema = {
    "title": "Session",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string", "description": "As its client calls itself; may be empty."},
        "room": {"type": "string", "description": "Empty if it has none."},
        "state": {"type": "string", "enum": [state.value for state in SessionState]},
        "opened_at": {"type": "string", "format": "date-time"},
        "waits_for": {
            "type": ["string", "null"],
            "description": "What has to come before it goes on, in words; null while it records.",
        },
        "silent_s": {
            "type": "number",
            "minimum": 0,
            "description": "Seconds since the last packet.",
        },
        "round_trip_s": {"type": ["number", "null"], "description": "Null if not measured yet."},
        "tracks": {"type": "array", "items": TRACK},
    },
    "required": [
        "id", "name", "room", "state", "opened_at", "waits_for", "silent_s", "round_trip_s",
        "tracks",
    ],
    "additionalProperties": False,
}  # fmt: skip
SESSION_LIST: Schema = {
    "title": "SessionList",
    "type": "object",
    "properties": {
        "sessions": {"type": "array", "items": SESSION, "description": "The oldest first."},
        "is_complete": {
            "type": "boolean",
            "description": "Whether all workers of the server have answered.",
        },
    },
    "required": ["sessions", "is_complete"],
    "additionalProperties": False,
}


def write_session(status: SessionStatus) -> dict[str, Any]:
    """Write a session as `SESSION` describes it."""
    return {
        "id": status.id,
        "name": status.name,
        "room": status.room,
        "state": status.state.value,
        "opened_at": _date(status.opened_at),
        "waits_for": status.waits_for,
        "silent_s": round(status.silent_s, 3),
        "round_trip_s": None if status.round_trip_s is None else round(status.round_trip_s, 6),
        "tracks": [write_track(track) for track in status.tracks],
    }


def write_track(track: TrackStatus) -> dict[str, Any]:
    """Write a track as `TRACK` describes it."""
    return {
        "number": track.number,
        "recording": track.recording,
        "codec": track.codec,
        "sample_rate_hz": track.sample_rate_hz,
        "channels": track.channels,
        "length": track.length,
        "levels": [_level(level) for level in track.levels],
        "shares": _shares(track.kinds),
        "recent_shares": _shares(track.recent_kinds),
        "lost": track.lost,
        "expected": track.expected,
        "jitter_s": round(track.jitter_s, 6),
        "clock_ppm": None if track.clock_ppm is None else round(track.clock_ppm, 1),
        "stalls": track.stalls,
        "wanted": track.wanted,
        "fault": track.fault,
    }


def _level(level: ChannelLevel) -> dict[str, Any]:
    return {
        "peak_dbfs": _dbfs(level.peak_dbfs),
        "rms_dbfs": _dbfs(level.rms_dbfs),
        "clipped": level.clipped,
    }


def _dbfs(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None


def _shares(kinds: Mapping[SampleKind, int]) -> dict[str, float]:
    total = sum(kinds.values())
    return {kind.value: kinds.get(kind, 0) / total if total else 0.0 for kind in SampleKind}


def _date(at: datetime.datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
