"""``/api/recordings/{id}/verdict``: whether a recording is what its ledger says."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from aiohttp import web

from adapters.http.api.places import Places
from adapters.http.api.recordings import ONE, TAG, id_in
from adapters.http.operations import Content, Operation, Schema
from adapters.http.routes import Route
from adapters.threads import LimitedThreads
from domain.errors import InputUnreadable, RecordingLive, RecordingUnknown
from domain.ports.catalogue import Catalogue, CatalogueEntry, RecordingState
from domain.ports.maintenance import RecordingInspector
from domain.recording.ledger import RestoreMode, RestoreState, SampleKind
from domain.recording.verification import FileFacts, Limits, Verdict, verify
from domain.session.roles import Role

MAX_WAITING = 20
"""Requests that wait for a verdict."""
LOOKERS = 2
"""Threads that look which version of a recording there is, while another one is checked."""
MAX_KNOWN = 500
"""Verdicts that are kept; each has a few kilobytes."""
_MAX_PROBLEMS = 100
_ATTEMPTS = 3
_Key = tuple[str, str]


class VerdictHandlers:
    """Checks complete recordings, one at a time, in a thread.

    A verdict is kept until the recording changes, and requests for the same one share it.
    """

    def __init__(self, catalogue: Catalogue, inspector: RecordingInspector | None) -> None:
        """`inspector` is None if the recordings have no files."""
        self._catalogue = catalogue
        self._inspector = inspector
        self._waiting = Places(MAX_WAITING, what="checks of recordings")
        self._threads = LimitedThreads(1, name="gapless-verdict")
        self._lookers = LimitedThreads(LOOKERS, name="gapless-verdict-of")
        self._known: OrderedDict[_Key, bytes] = OrderedDict()
        self._running: dict[str, asyncio.Task[bytes]] = {}

    def routes(self) -> Sequence[Route]:
        return [Route("GET", f"{ONE}/verdict", self._verdict, role=Role.WATCH, operation=_VERDICT)]

    async def _verdict(self, request: web.Request) -> web.StreamResponse:
        found = id_in(request)
        inspector = self._inspector
        if inspector is None:
            raise RecordingUnknown("this server keeps no files that could be checked")
        with self._waiting.one():
            task = self._running.get(found)
            if task is None:
                task = asyncio.create_task(self._find(found, inspector), name="check a recording")
                self._running[found] = task
                task.add_done_callback(lambda _: self._running.pop(found))
            # others may wait for it, too
            body = await asyncio.shield(task)
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    async def _find(self, recording_id: str, inspector: RecordingInspector) -> bytes:
        """Return the verdict of a recording as it is now."""
        entry, version = await self._lookers.run(lambda: self._look(recording_id))
        for _ in range(_ATTEMPTS):
            key = recording_id, version
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
            checked = entry
            body = await self._threads.run(lambda: _check(checked, inspector))  # noqa: B023
            entry, version = await self._lookers.run(lambda: self._look(recording_id))
            if version == key[1]:  # else it was rewritten meanwhile
                self._known[key] = body
                while len(self._known) > MAX_KNOWN:
                    self._known.popitem(last=False)
                return body
        raise RecordingLive(f"{entry.info.name} is being rewritten")

    def _look(self, recording_id: str) -> tuple[CatalogueEntry, str]:
        """Return a recording, and the version of its files."""
        with closing(self._catalogue.open(recording_id)) as opened:
            if opened.entry.state is RecordingState.LIVE:
                raise RecordingLive(f"{opened.entry.info.name} is still being written")
            return opened.entry, opened.version


def _check(entry: CatalogueEntry, inspector: RecordingInspector) -> bytes:
    verdicts = [(part.number, _verdict_of(part.location, inspector)) for part in entry.parts]
    problems = list(_problems(verdicts))
    body: dict[str, Any] = {
        "verdict": "not sound" if problems else "sound",
        "problems": problems[:_MAX_PROBLEMS],
        "parts": [{"number": number, **_part_json(verdict)} for number, verdict in verdicts],
    }
    return json.dumps(body).encode()


def _verdict_of(location: str, inspector: RecordingInspector) -> Verdict:
    try:
        facts = inspector.inspect(location)
    except InputUnreadable:  # its message has the path
        facts = FileFacts(location, None, 0, "", None, ["the file cannot be read"])
    return verify(facts, Limits())


def _problems(verdicts: Sequence[tuple[int, Verdict]]) -> Iterator[str]:
    expected = 1
    for number, verdict in verdicts:
        for missing in range(expected, min(number, expected + _MAX_PROBLEMS)):
            yield f"part {missing} is missing"
        for problem in verdict.problems:
            yield problem if len(verdicts) == 1 else f"part {number}: {problem}"
        expected = number + 1


def _part_json(verdict: Verdict) -> dict[str, Any]:
    described = verdict.as_json()
    for name in ("file", "source"):
        del described[name]
    described["problems"] = described["problems"][:_MAX_PROBLEMS]
    return described


_COUNT: Schema = {"type": "integer", "minimum": 0}
_PROBLEMS: Schema = {"type": "array", "items": {"type": "string"}, "maxItems": _MAX_PROBLEMS}
_WALL_CLOCK: Schema = {
    "type": ["object", "null"],
    "description": "How the length differs from the wall clock; null if the ledger does not tell.",
    "properties": {
        "difference_s": {"type": "number"},
        "unexplained_s": {"type": "number"},
        "skew_ppm": {"type": ["number", "null"]},
    },
    "required": ["difference_s", "unexplained_s", "skew_ppm"],
    "additionalProperties": False,
}
_RESTORE: Schema = {
    "type": ["object", "null"],
    "description": "How far it is restored; null if its client has no spool.",
    "properties": {
        "state": {"type": "string", "enum": [state.value for state in RestoreState]},
        "mode": {"type": "string", "enum": [mode.value for mode in RestoreMode]},
        "wanted": _COUNT,
        "restored": _COUNT,
    },
    "required": ["state", "mode", "wanted", "restored"],
    "additionalProperties": False,
}
_PART: Schema = {
    "title": "PartVerdict",
    "type": "object",
    "properties": {
        "number": {"type": "integer", "minimum": 1},
        "ok": {"type": "boolean"},
        "problems": _PROBLEMS,
        "length_samples": _COUNT,
        "sample_rate_hz": {"type": ["integer", "null"]},
        "channels": {"type": ["integer", "null"]},
        "samples": {
            "title": "SamplesByKind",
            "type": "object",
            "properties": {kind.value: _COUNT for kind in SampleKind},
            "required": [kind.value for kind in SampleKind],
            "additionalProperties": False,
        },
        "longest_gap_samples": _COUNT,
        "end_reason": {"type": ["string", "null"]},
        "wall_clock": _WALL_CLOCK,
        "restore": _RESTORE,
    },
    "required": [
        "number", "ok", "problems", "length_samples", "sample_rate_hz", "channels", "samples",
        "longest_gap_samples", "end_reason", "wall_clock", "restore",
    ],
    "additionalProperties": False,
}  # fmt: skip
VERDICT: Schema = {
    "title": "Verdict",
    "type": "object",
    "properties": {
        "verdict": {"type": "string", "enum": ["sound", "not sound"]},
        "problems": _PROBLEMS,
        "parts": {"type": "array", "items": _PART},
    },
    "required": ["verdict", "problems", "parts"],
    "additionalProperties": False,
}
_VERDICT = Operation(
    name="getRecordingVerdict",
    tag=TAG,
    summary="Whether a complete recording is what its ledger says: it is read as a whole",
    answers={200: Content(text="The verdict.", schema=VERDICT)},
    problems=[404, 409],
)
