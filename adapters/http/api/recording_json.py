"""Recordings as the API shows them, and how a list of them is asked for."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from adapters.http.operations import Parameter, Schema
from domain.errors import QueryInvalid
from domain.ports.catalogue import CatalogueEntry, CataloguePage, CatalogueQuery, RecordingState
from domain.recording.ledger import RestoreMode, SampleKind, describe, timestamp
from domain.recording.naming import client_name_in

MAX_LIMIT = 200
"""Recordings of a page: 110 kB."""
MAX_TEXT = 200
"""Characters of a text to search for."""
_DIGITS = re.compile(r"[0-9]{1,6}", re.ASCII)

_TIME: Schema = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}

PART: Schema = {
    "title": "RecordingPart",
    "type": "object",
    "properties": {
        "number": {"type": "integer", "minimum": 1},
        "start": {**_COUNT, "description": "Samples from the beginning of the recording."},
        "length": {**_COUNT, "description": "Samples per channel."},
    },
    "required": ["number", "start", "length"],
    "additionalProperties": False,
}
RECORDING: Schema = {
    "title": "Recording",
    "type": "object",
    "properties": {
        "id": _TEXT,
        "session": {**_TEXT, "description": "The id of its session."},
        "track": {"type": "integer", "minimum": 1},
        "room": {**_TEXT_OR_NULL, "description": "The room of its session, if it has one."},
        "name": {**_TEXT, "description": "Name of its files, without extension; sorts by time."},
        "client_name": {**_TEXT, "description": "The client's name as it is in `name`, or empty."},
        "title": {**_TEXT, "description": "The name that the client gave; empty if it gave none."},
        "state": {"type": "string", "enum": [state.value for state in RecordingState]},
        "started_at": _TIME,
        "ended_at": {**_TIME_OR_NULL, "description": "Null while it is live, or if unknown."},
        "end_reason": {**_TEXT_OR_NULL, "description": "Null while it is live, or if unknown."},
        "length_samples": {**_COUNT, "description": "Per channel, of all parts."},
        "seconds": {"type": "number", "minimum": 0},
        "size_bytes": _COUNT,
        "sample_rate_hz": {"type": "integer", "minimum": 1},
        "channels": {"type": "integer", "minimum": 1},
        "sample_format": _TEXT,
        "codec": {**_TEXT, "description": "As it was sent."},
        "container": {**_TEXT, "description": "How it is stored: `wav`, or `opus` for packets."},
        "restore": {"type": "string", "enum": [mode.value for mode in RestoreMode]},
        "parts": {"type": "array", "items": PART},
    },
    "required": [
        "id", "session", "track", "room", "name", "client_name", "title", "state", "started_at",
        "ended_at", "end_reason", "length_samples", "seconds", "size_bytes", "sample_rate_hz",
        "channels", "sample_format", "codec", "container", "restore", "parts",
    ],
    "additionalProperties": False,
}  # fmt: skip
RECORDING_PAGE: Schema = {
    "title": "RecordingPage",
    "type": "object",
    "properties": {
        "recordings": {"type": "array", "items": RECORDING, "description": "Newest first."},
        "next": {**_TEXT_OR_NULL, "description": "`before` for the next page; null on the last."},
    },
    "required": ["recordings", "next"],
    "additionalProperties": False,
}
_SPAN: Schema = {
    "title": "LedgerSpan",
    "type": "object",
    "properties": {
        "start": _COUNT,
        "length": {"type": "integer", "minimum": 1},
        "kind": {"type": "string", "enum": [kind.value for kind in SampleKind]},
    },
    "required": ["start", "length", "kind"],
    "additionalProperties": False,
}
_EVENT: Schema = {
    "title": "LedgerEvent",
    "type": "object",
    "properties": {"type": _TEXT},
    "required": ["type"],
    "additionalProperties": True,
}
LEDGER: Schema = {
    "title": "Ledger",
    "description": "What every sample is, and what happened; docs/ledger.md describes it.",
    "type": "object",
    "properties": {
        "version": {"type": "integer"},
        "spans": {"type": "array", "items": _SPAN},
        "events": {"type": "array", "items": _EVENT},
    },
    "required": ["version", "spans", "events"],
    "additionalProperties": True,
}

LIST_PARAMETERS = (
    Parameter(
        name="limit",
        text="Maximum number of recordings on the page.",
        schema={"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50},
    ),
    Parameter(name="before", text="`next` of the page before this one."),
    Parameter(
        name="name",
        text="Only recordings whose name or title contains this text; case is ignored.",
        schema={"type": "string", "maxLength": MAX_TEXT},
    ),
    Parameter(
        name="room",
        text="Only recordings of this room; case is ignored.",
        schema={"type": "string", "maxLength": MAX_TEXT},
    ),
    Parameter(
        name="state",
        text="Only recordings in this state.",
        schema={"type": "string", "enum": [state.value for state in RecordingState]},
    ),
    Parameter(name="since", text="Only recordings that began then or later.", schema=_TIME),
    Parameter(name="until", text="Only recordings that began earlier.", schema=_TIME),
)


def page_json(page: CataloguePage) -> dict[str, Any]:
    return {"recordings": [entry_json(entry) for entry in page.entries], "next": page.next}


def entry_json(entry: CatalogueEntry) -> dict[str, Any]:
    info = entry.info
    return {
        **describe(info),
        "session": info.session_id,
        "client_name": client_name_in(info.name),
        "title": info.title,
        "state": entry.state.value,
        "ended_at": None if entry.ended_at is None else timestamp(entry.ended_at),
        "end_reason": entry.end_reason,
        "length_samples": entry.length,
        "seconds": entry.seconds,
        "size_bytes": entry.size,
        "restore": info.restore.value,
        "parts": [
            {"number": part.number, "start": part.start, "length": part.length}
            for part in entry.parts
        ],
    }


def read_query(given: Mapping[str, str]) -> CatalogueQuery:
    """Read the query of a list. Raises `QueryInvalid`."""
    states, state = frozenset(RecordingState), given.get("state")
    if state is not None:
        try:
            states = frozenset({RecordingState(state)})
        except ValueError:
            known = ", ".join(each.value for each in RecordingState)
            raise QueryInvalid(f"state has to be one of {known}") from None
    return CatalogueQuery(
        limit=_read_limit(given.get("limit", str(CatalogueQuery().limit))),
        before=given.get("before"),
        name=_read_text("name", given.get("name", "")),
        room=_read_text("room", given.get("room", "")),
        states=states,
        since=_read_time("since", given.get("since")),
        until=_read_time("until", given.get("until")),
    )


def _read_limit(text: str) -> int:
    if not _DIGITS.fullmatch(text) or not 1 <= int(text) <= MAX_LIMIT:
        raise QueryInvalid(f"limit has to be a number from 1 to {MAX_LIMIT}")
    return int(text)


def _read_text(name: str, text: str) -> str:
    if len(text) > MAX_TEXT:
        raise QueryInvalid(f"{name} has more than {MAX_TEXT} characters")
    return text


def _read_time(name: str, text: str | None) -> datetime.datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise QueryInvalid(f"{name} has to be a time such as 2026-03-20T12:00:00Z")
    return moment
