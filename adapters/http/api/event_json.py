"""The server's events as JSON: what watchers get, and the schemas of it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from adapters.http.operations import Schema
from domain.errors import GaplessError
from domain.events import Event, EventsDropped
from domain.events.server import (
    AlarmEnded,
    AlarmRaised,
    CaptureReported,
    ConnectionAdded,
    PartCompleted,
    RecordingCompleted,
    RecordingDeleted,
    RecordingFailed,
    RecordingInterrupted,
    RecordingRecovered,
    RecordingRestored,
    RestoringFailed,
    SessionEnded,
    SessionFailed,
    SessionOpened,
    SessionResumed,
    SessionStateChanged,
    StorageDelayed,
    StorageWritable,
    TrackFormatChanged,
    TrackStarted,
)
from domain.recording.completed import CompletedRecording
from domain.recording.naming import recording_id, split_recording_id
from domain.session.alarm_kinds import AlarmKind, AlarmLevel
from domain.session.alarms import Alarm
from domain.session.capture import CaptureChange, capture_details
from domain.session.session import SessionState
from domain.sound.formats import AudioFormat

TEXT: Schema = {"type": "string"}
NULLABLE: Schema = {"type": ["string", "null"]}
WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
TIME: Schema = {"type": "string", "format": "date-time"}
NULLABLE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}


def schema_of(title: str, text: str, properties: Mapping[str, Schema]) -> Schema:
    """Return the schema of an object that has all of these properties, and no others."""
    return {
        "title": title,
        "description": text,
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


ALARM = schema_of(
    "Alarm",
    "Something that a person should look at. It is raised again, with the same id, when its level "
    "rises.",
    {
        "id": TEXT,
        "kind": {"type": "string", "enum": [kind.value for kind in AlarmKind]},
        "level": {"type": "string", "enum": [level.value for level in AlarmLevel]},
        "session": {**NULLABLE, "description": "None for an alarm of the whole server."},
        "track": {"type": ["integer", "null"]},
        "since": TIME,
        "text": TEXT,
        "ended_at": NULLABLE_TIME,
    },
)
_RECORDED: Mapping[str, Schema] = {
    "recording": TEXT, "name": TEXT, "title": TEXT, "track": WHOLE, "length": WHOLE,
    "seconds": NUMBER, "end_reason": TEXT, "ended_at": TIME,
}  # fmt: skip
_FORMAT: Mapping[str, Schema] = {
    "recording": TEXT, "track": WHOLE, "sample_rate_hz": WHOLE, "channels": WHOLE,
}  # fmt: skip
_CAPTURE: Mapping[str, Schema] = {
    "what": {"type": "string", "enum": [change.value for change in CaptureChange]},
    "client_at": {**TIME, "description": "By the client's clock."},
    "spool_position": {
        "type": ["integer", "null"],
        "description": "Samples in the client's spool.",
    },
    "seconds": {"type": ["number", "null"]},
    "text": TEXT,
}
_STATE: Schema = {"type": "string", "enum": [state.value for state in SessionState]}

KINDS: Mapping[str, tuple[str, str, Mapping[str, Schema]]] = {
    "session.opened": (
        "SessionOpened", "A client has a session now.", {"name": TEXT, "room": TEXT},
    ),
    "session.changed": ("SessionChanged", "Packets come, or come no more.", {"state": _STATE}),
    "session.resumed": (
        "SessionResumed", "Another connection serves the session.", {"connection": WHOLE},
    ),
    "session.capture": (
        "SessionCapture", "Something has happened to the microphone of its client.", _CAPTURE,
    ),
    "session.failed": ("SessionFailed", "A fault of the server ends it.", {"reason": TEXT}),
    "session.ended": ("SessionEnded", "It is over.", {"reason": TEXT, "detail": NULLABLE}),
    "connection.added": ("ConnectionAdded", "Its client makes another connection.", {}),
    "recording.started": (
        "RecordingStarted", "The first packet of a track was decoded.", {**_FORMAT, "room": TEXT},
    ),
    "recording.format_changed": (
        "RecordingFormatChanged", "A recording goes on in another format.", _FORMAT,
    ),
    "recording.part_completed": (
        "RecordingPartCompleted", "A file of a recording is complete.",
        {"recording": TEXT, "track": WHOLE, "part": WHOLE, "start": WHOLE, "length": WHOLE},
    ),
    "recording.completed": ("RecordingCompleted", "A recording is complete.", _RECORDED),
    "recording.recovered": (
        "RecordingRecovered", "A recording of an earlier process is complete.", _RECORDED,
    ),
    "recording.interrupted": (
        "RecordingInterrupted", "A recording of an earlier process waits for its client.",
        {"recording": TEXT, "track": WHOLE, "name": TEXT, "title": TEXT},
    ),
    "recording.failed": (
        "RecordingFailed", "A recording could not be written completely.",
        {"recording": TEXT, "track": WHOLE, "reason": TEXT},
    ),
    "recording.deleted": (
        "RecordingDeleted", "A request has deleted a recording.",
        {"recording": TEXT, "name": TEXT, "title": TEXT},
    ),
    "recording.restored": (
        "RecordingRestored", "A recording has got what its client had captured.",
        {"state": TEXT, "seconds": NUMBER, "restored_s": NUMBER},
    ),
    "recording.not_restored": (
        "RecordingNotRestored", "A recording stays as it was received.", {"reason": TEXT},
    ),
    "storage.delayed": ("StorageDelayed", "Recordings wait for the disk.", {"problem": TEXT}),
    "storage.writable": ("StorageWritable", "The disk works again.", {"outage_s": NUMBER}),
    "alarm.raised": ("AlarmRaised", "An alarm begins, or gets worse.", {"alarm": ALARM}),
    "alarm.ended": ("AlarmEnded", "An alarm is over.", {"alarm": ALARM}),
}  # fmt: skip
"""Of each type of event: title, meaning, and what it has beside id, time and session."""

MISSED, LEVELS = "missed", "levels"
MISSED_SCHEMA = schema_of(
    "Missed",
    "Events are missing here. It is not an event itself, and has no id.",
    {"count": {"type": ["integer", "null"], "description": "None if nobody knows."}},
)
EVENT_SCHEMAS: Mapping[str, Schema] = {
    name: schema_of(
        f"{title}Event",
        f"{name}: {text}",
        {
            "id": {**TEXT, "description": "Of this event alone: it comes at most once."},
            "at": TIME,
            "session": NULLABLE,
            **properties,
        },
    )
    for name, (title, text, properties) in KINDS.items()
}


def time_json(time: datetime.datetime) -> str:
    """Return a time as RFC 3339 has it, in milliseconds."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def alarm_json(alarm: Alarm) -> dict[str, Any]:
    return {
        "id": alarm.id,
        "kind": alarm.kind.value,
        "level": alarm.level.value,
        "session": alarm.session_id,
        "track": alarm.track,
        "since": time_json(alarm.since),
        "text": alarm.text,
        "ended_at": None if alarm.ended_at is None else time_json(alarm.ended_at),
    }


def event_json(event: Event) -> tuple[str, str | None, dict[str, Any]] | None:
    """Return type, session and details of an event; None if it is not for watchers."""
    match event:
        case SessionOpened(session, name, room=room):
            return "session.opened", session, {"name": name, "room": room}
        case SessionStateChanged(session, state):
            return "session.changed", session, {"state": state.value}
        case SessionResumed(session, connection):
            return "session.resumed", session, {"connection": connection}
        case CaptureReported(session, reported):
            return "session.capture", session, {**_UNSAID, **capture_details(reported)}
        case SessionFailed(session, error):
            return "session.failed", session, {"reason": _reason(error)}
        case SessionEnded(session, reason, detail):
            return "session.ended", session, {"reason": reason.value, "detail": detail}
        case ConnectionAdded(session, _):
            return "connection.added", session, {}
        case TrackStarted(session, track, audio_format, room):
            details = _format(session, track, audio_format) | {"room": room}
            return "recording.started", session, details
        case TrackFormatChanged(session, track, audio_format):
            return "recording.format_changed", session, _format(session, track, audio_format)
        case PartCompleted(session, track, part):
            place = {"part": part.number, "start": part.start, "length": part.length}
            return "recording.part_completed", session, _of(session, track) | place
        case RecordingCompleted(session, _, recording):
            return "recording.completed", session, _recorded(recording)
        case RecordingDeleted(recording_id=deleted, name=name, title=title):
            session = split_recording_id(deleted)[0]
            details = {"recording": deleted, "name": name, "title": title}
            return "recording.deleted", session, details
        case RecordingRecovered(recording):
            return "recording.recovered", recording.info.session_id, _recorded(recording)
        case RecordingInterrupted(info, _):
            details = _of(info.session_id, info.track) | {"name": info.name, "title": info.title}
            return "recording.interrupted", info.session_id, details
        case RecordingFailed(session, track, error):
            return "recording.failed", session, _of(session, track) | {"reason": _reason(error)}
        case RecordingRestored(session, restore_state, seconds, restored_s):
            lengths: dict[str, Any] = {"seconds": seconds, "restored_s": restored_s}
            return "recording.restored", session, lengths | {"state": restore_state.value}
        case RestoringFailed(session, error):
            return "recording.not_restored", session, {"reason": _reason(error)}
        case StorageDelayed(problem):
            return "storage.delayed", None, {"problem": problem}
        case StorageWritable(outage_s):
            return "storage.writable", None, {"outage_s": outage_s}
        case AlarmRaised(alarm):
            return "alarm.raised", alarm.session_id, {"alarm": alarm_json(alarm)}
        case AlarmEnded(alarm):
            return "alarm.ended", alarm.session_id, {"alarm": alarm_json(alarm)}
        case EventsDropped(count):
            return MISSED, None, {"count": count}
    return None


_UNSAID: Mapping[str, Any] = {"spool_position": None, "seconds": None, "text": ""}


def _of(session: str, track: int) -> dict[str, Any]:
    return {"recording": recording_id(session, track), "track": track}


def _format(session: str, track: int, audio_format: AudioFormat) -> dict[str, Any]:
    return _of(session, track) | {
        "sample_rate_hz": audio_format.sample_rate_hz,
        "channels": audio_format.channels,
    }


def _recorded(recording: CompletedRecording) -> dict[str, Any]:
    return {
        "recording": recording.info.id,
        "name": recording.info.name,
        "title": recording.info.title,
        "track": recording.info.track,
        "length": recording.length,
        "seconds": recording.seconds,
        "end_reason": recording.end_reason,
        "ended_at": time_json(recording.ended_at),
    }


def _reason(error: Exception) -> str:
    """Return why something failed; what is wrong inside the server is in its log."""
    return str(error) if isinstance(error, GaplessError) else "internal error of the server"
