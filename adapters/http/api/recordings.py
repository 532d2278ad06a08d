"""``/api/recordings``: what a server has recorded, live or complete."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiohttp import web

from adapters.http.api.places import Places
from adapters.http.api.recording_json import (
    LEDGER,
    LIST_PARAMETERS,
    MAX_TEXT,
    RECORDING,
    RECORDING_PAGE,
    entry_json,
    page_json,
    read_query,
)
from adapters.http.bodies import is_unicode
from adapters.http.callers import caller_of
from adapters.http.operations import Content, Operation
from adapters.http.routes import Route
from adapters.threads import LimitedThreads
from domain.errors import RecordingUnknown
from domain.events.server import RecordingDeleted
from domain.ports.catalogue import Catalogue
from domain.ports.events import EventPublisher
from domain.recording.ledger import RecordingInfo
from domain.session.roles import Role

TAG = "recordings"
ONE = "/api/recordings/{id}"
THREADS = 2
"""Calls of the catalogue at a time: further requests wait, and other threads stay free."""
MAX_LEDGERS = 8
"""Ledgers that are sent at a time; the longest ones take 12 MB."""
_LONG = ("spans", "events")
_TOGETHER = 1000
"""Spans or events that are encoded at a time, in a millisecond or two."""
_T = TypeVar("_T")


class RecordingHandlers:
    """Lists, shows and deletes recordings."""

    def __init__(self, catalogue: Catalogue, events: EventPublisher) -> None:
        self._catalogue = catalogue
        self._events = events
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="gapless-recordings")
        # a process that ends waits for those above, and not for what may take seconds
        self._ledger_threads = LimitedThreads(THREADS, name="gapless-ledgers")
        self._ledgers = Places(MAX_LEDGERS, what="ledgers")

    def routes(self) -> Sequence[Route]:
        return [
            Route("GET", "/api/recordings", self._list, role=Role.WATCH, operation=_LIST),
            Route("GET", ONE, self._show, role=Role.WATCH, operation=_SHOW),
            Route("DELETE", ONE, self._delete, role=Role.ADMIN, operation=_DELETE),
            Route("GET", f"{ONE}/ledger", self._ledger, role=Role.WATCH, operation=_LEDGER),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        query = read_query(request.query)
        return _json(await self._call(lambda: _encode(page_json(self._catalogue.page(query)))))

    async def _show(self, request: web.Request) -> web.StreamResponse:
        found = id_in(request)
        return _json(await self._call(lambda: _encode(entry_json(self._catalogue.entry(found)))))

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        found = id_in(request)
        removed = await self._call(lambda: self._remove(found))
        caller = caller_of(request)
        self._events.publish(RecordingDeleted(found, removed.name, caller, removed.title))
        return web.Response(status=204)

    def _remove(self, recording_id: str) -> RecordingInfo:
        """Remove a recording; return what it was."""
        info = self._catalogue.entry(recording_id).info
        self._catalogue.remove(recording_id)
        return info

    async def _ledger(self, request: web.Request) -> web.StreamResponse:
        found = id_in(request)
        with self._ledgers.one():
            pieces = await self._ledger_threads.run(
                lambda: list(_ledger_pieces(self._catalogue.ledger(found)))
            )
            response = web.StreamResponse()
            response.content_type = "application/json"
            response.charset = "utf-8"
            response.content_length = sum(map(len, pieces))
            with contextlib.suppress(ConnectionError):  # the client has gone
                await response.prepare(request)
                if request.method != "HEAD":
                    for piece in pieces:
                        await response.write(piece)
            return response

    async def _call(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def id_in(request: web.Request) -> str:
    """Return the id in a path. Raises `RecordingUnknown` for what cannot be one."""
    found = request.match_info["id"]
    if len(found) > MAX_TEXT or not (found.isprintable() and is_unicode(found)):
        raise RecordingUnknown("there is no such recording")
    return found


def _ledger_pieces(ledger: Mapping[str, Any]) -> Iterator[bytes]:
    """Encode a ledger in pieces, because the encoder lets no other thread run meanwhile."""
    lists = {name: value for name in _LONG if isinstance(value := ledger.get(name), list)}
    yield _encode({name: value for name, value in ledger.items() if name not in lists})[:-1]
    for name, items in lists.items():
        yield f', "{name}": ['.encode()
        for start in range(0, len(items), _TOGETHER):
            yield (b", " if start else b"") + _encode(items[start : start + _TOGETHER])[1:-1]
        yield b"]"
    yield b"}"


def _encode(value: object) -> bytes:
    return json.dumps(value).encode()


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", charset="utf-8")


_LIST = Operation(
    name="listRecordings",
    tag=TAG,
    summary="A page of the recordings, newest first",
    parameters=LIST_PARAMETERS,
    answers={200: Content(text="A page.", schema=RECORDING_PAGE)},
    problems=[400],
)
_SHOW = Operation(
    name="getRecording",
    tag=TAG,
    summary="One recording",
    answers={200: Content(text="The recording.", schema=RECORDING)},
    problems=[404],
)
_DELETE = Operation(
    name="deleteRecording",
    tag=TAG,
    summary="Delete a complete recording with all its files, and what was captured for it",
    answers={204: Content(text="It is deleted.")},
    problems=[404, 409, 507],
)
_LEDGER = Operation(
    name="getRecordingLedger",
    tag=TAG,
    summary="The ledger of all parts of a recording; positions count from its beginning",
    answers={200: Content(text="The ledger.", schema=LEDGER)},
    problems=[404],
)
