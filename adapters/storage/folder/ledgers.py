"""The ledgers of a recording's parts, and one ledger for all of them."""

from __future__ import annotations

import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.storage.folder.journal import read_event
from domain.recording.ledger import Ledger, RecordingInfo, SampleKind, document


def read_document(path: pathlib.Path) -> dict[str, Any]:
    """A ledger as it is in its file. Raises `OSError` or `ValueError`."""
    try:
        found = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def read_ledger(entry: Mapping[str, Any]) -> Ledger:
    """The spans and events of a document. Raises `ValueError`."""
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
) -> dict[str, Any]:
    """The ledger of a recording from those of its parts, each with the position of its start."""
    whole = Ledger()
    for start, ledger in parts:
        whole.add(SampleKind.SILENCE, start - whole.length)  # a part that is missing
        for span in ledger.spans():
            whole.add(span.kind, span.length)
        whole.events += [replace(event, position=event.position + start) for event in ledger.events]
    return document(info, whole, ended_at=ended_at, end_reason=end_reason, sha256=None)
