"""Reads the ledgers of parts, and joins them to one."""

from __future__ import annotations

import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.storage.folder.journal import read_event
from domain.recording.ledger import Ledger, RecordingInfo, RestoreState, SampleKind, document


def read_document(path: pathlib.Path) -> dict[str, Any]:
    """Read the JSON object of a ledger. Raises `OSError` or `ValueError`."""
    try:
        found = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found


def read_ledger(entry: Mapping[str, Any]) -> Ledger:
    """Read the spans and events of a ledger's JSON object. Raises `ValueError`."""
    ledger = Ledger()
    try:
        for span in entry["spans"]:
            ledger.add(SampleKind(span["kind"]), int(span["length"]))
        ledger.events = [read_event(event) for event in entry["events"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its spans or events cannot be read: {error!r}") from error
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
