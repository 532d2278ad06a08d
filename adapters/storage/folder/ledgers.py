"""Reads the ledgers of parts, and joins them to one."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.opening import read_found
from adapters.storage.documents import MAX_LEDGER_BYTES, parse
from adapters.storage.folder.journal import read_event
from domain.recording.ledger import Ledger, RecordingInfo, RestoreState, SampleKind, document
from domain.recording.reading import MAX_SAMPLES, whole


def read_document(path: pathlib.Path) -> dict[str, Any]:
    """Read the JSON object of a ledger. Raises `OSError` or `ValueError`."""
    found = parse(read_found(path, MAX_LEDGER_BYTES))
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found


def read_ledger(entry: Mapping[str, Any]) -> Ledger:
    """Read the spans and events of a ledger's JSON object. Raises `ValueError`."""
    ledger = Ledger()
    try:
        for span in entry["spans"]:
            ledger.add(SampleKind(span["kind"]), whole(span["length"]))
        ledger.events = [read_event(event) for event in entry["events"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("its spans or events cannot be read") from error
    if ledger.length > MAX_SAMPLES:
        raise ValueError("its spans are too long")
    return ledger


def join(
    info: RecordingInfo,
    parts: Sequence[tuple[int, Ledger]],
    *,
    end_reason: str | None,
    ended_at: datetime.datetime | None,
    restore_state: RestoreState = RestoreState.WAITING,
) -> dict[str, Any]:
    """Join the ledgers of parts to one; each comes with the position at which its part starts.

    `restore_state` is that of all parts.
    """
    whole = Ledger()
    for start, ledger in parts:
        whole.add(SampleKind.SILENCE, start - whole.length)  # a part that is missing
        for span in ledger.spans():
            whole.add(span.kind, span.length)
        whole.events += [event.moved(start) for event in ledger.events]
    return document(
        info,
        whole,
        ended_at=ended_at,
        end_reason=end_reason,
        sha256=None,
        restore_state=restore_state,
    )


def read_state(entry: Mapping[str, Any]) -> RestoreState:
    """Read how far a ledger says that its recording is restored."""
    try:
        return RestoreState(entry["restore"]["state"])
    except (KeyError, TypeError, ValueError):  # a ledger without a spool
        return RestoreState.OFF
