"""``GET /api/events``: the server's events as they happen, of all its nodes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence

from aiohttp import web

from adapters.http.api.event_json import EVENT_SCHEMAS, KINDS, LEVELS, MISSED, MISSED_SCHEMA
from adapters.http.api.event_log import Logged, format_position, parse_position
from adapters.http.api.hub import EventHub
from adapters.http.api.levels import LEVELS_SCHEMA
from adapters.http.api.upstreams import (
    PAST_PATH,
    POSITION,
    STREAM_PATH,
    Past,
    Upstreams,
    past_json,
)
from adapters.http.api.watchers import Entry, Wanted, Watcher, missed
from adapters.http.nodes import NodeClient
from adapters.http.operations import Content, Operation, Parameter
from adapters.http.routes import Route
from adapters.http.sse import HEADERS, HEARTBEAT, HEARTBEAT_S, LAST_EVENT_ID, MEDIA_TYPE, encode
from domain.errors import QueryInvalid, ServerFull
from domain.ports.placement import Placement
from domain.session.roles import Role

STUCK_S = 20.0
"""A watcher that reads nothing for this long is cut off."""
GONE_S = 1.0
"""How often it is checked whether a watcher to whom nothing is written is still there."""
RETRY_MS = 2000
"""When a client comes back, unless it knows better."""


class EventHandlers:
    """Streams events to clients, and those of this node to the other nodes.

    With several nodes, whichever is asked answers for all: it follows the others while it has
    clients. The id of an event is the position in the events of all nodes, so that any of them can
    resume the stream. An event that has happened during a resumption may come twice.
    """

    def __init__(
        self, hub: EventHub, *, placement: Placement, nodes: NodeClient, max_watchers: int
    ) -> None:
        self._hub = hub
        self._upstreams = Upstreams(hub, placement, nodes)
        self._max_watchers = max_watchers

    def routes(self) -> Sequence[Route]:
        operation = Operation(
            name="watchEvents",
            tag="events",
            summary="What happens, as server-sent events",
            answers={
                200: Content(
                    text="Events without end. The data of each is JSON: the component whose "
                    "description begins with the event's name. The event `missed` says that some "
                    "are missing, because the client was too slow or has been away for too long.",
                    media_type=MEDIA_TYPE,
                    schema={"type": "string"},
                )
            },
            parameters=[
                Parameter(
                    name="types",
                    text="Only these events, separated by commas: " + ", ".join(KINDS),
                ),
                Parameter(name="session", text="Only what is of this session."),
                Parameter(
                    name="levels",
                    text="Also the event `levels`, a few times a second.",
                    schema={"type": "boolean", "default": False},
                ),
                Parameter(
                    name=LAST_EVENT_ID,
                    where="header",
                    text="Go on behind the event with this id.",
                ),
            ],
            problems=[400],
            inside=[*EVENT_SCHEMAS.values(), MISSED_SCHEMA, LEVELS_SCHEMA],
        )
        return [
            Route("GET", "/api/events", self._events, role=Role.WATCH, operation=operation),
            Route("GET", STREAM_PATH, self._node_events, role=None, nodes_only=True),
            Route("POST", PAST_PATH, self._node_past, role=None, nodes_only=True),
        ]

    async def _events(self, request: web.Request) -> web.StreamResponse:
        wanted = _wanted(request)
        position = _position(request)
        if len(self._hub.clients()) >= self._max_watchers or self._hub.is_closed:
            raise ServerFull(f"there are {self._max_watchers} watchers already")
        if request.method != "GET":
            return web.Response(headers=HEADERS)
        async with self._watching(wanted) as watcher:
            await self._upstreams.ready()
            begin = [f"retry: {RETRY_MS}\n\n".encode()]
            if position is not None:
                begin += await self._resumed(watcher, position)
            return await _stream(request, watcher, b"".join(begin), self._hub)

    async def _node_events(self, request: web.Request) -> web.StreamResponse:
        """Stream what happens on this node to another one."""
        has_levels = "levels" in request.query
        after = parse_position(request.query.get("after", ""))
        wanted = Wanted(levels=has_levels, events=not has_levels, is_node=True)
        async with self._watching(wanted) as watcher:
            log = self._hub.log
            number, is_lost, events = log.number, False, list[Logged]()
            if after is not None:
                known = after.get(log.epoch)
                is_lost, found = self._hub.after(known)
                is_lost, events = is_lost or known is None, list(found)
                number = events[0].number - 1 if events else number
            head = {"epoch": log.epoch, "number": number, "missed": is_lost}
            begin = [encode(POSITION, json.dumps(head))]
            begin += (encode(e.type, e.data, f"{e.epoch}-{e.number}") for e in events)
            return await _stream(request, watcher, b"".join(begin), self._hub)

    async def _node_past(self, request: web.Request) -> web.StreamResponse:
        """Answer what has happened on this node behind a position."""
        return web.json_response(past_json(self._past(await request.json())))

    def _past(self, position: Mapping[str, int]) -> Past:
        log = self._hub.log
        known = position.get(log.epoch)
        is_lost, events = self._hub.after(known)
        return Past(log.epoch, log.number, is_lost, events)

    async def _resumed(self, watcher: Watcher, position: Mapping[str, int]) -> list[bytes]:
        """Return what has happened on all nodes behind a position.

        What happens meanwhile waits for the watcher already; it gets nothing twice of that.
        """
        pasts = [self._past(position), *await self._upstreams.past(position)]
        found = [past for past in pasts if past is not None]
        reached = {past.epoch: position.get(past.epoch, 0) for past in found}
        is_lost = (
            len(found) < len(pasts)
            or any(past.missed for past in found)
            or not position.keys() <= reached.keys()
        )
        chunks = [missed(None)] if is_lost else []
        for event in sorted((e for past in found for e in past.events), key=lambda e: e.at):
            reached[event.epoch] = event.number
            wire = encode(event.type, event.data, format_position(reached))
            if watcher.wanted.takes(
                Entry(event.epoch, event.number, event.type, event.session, wire)
            ):
                chunks.append(wire)
        watcher.skip({past.epoch: past.number for past in found})
        return chunks

    @contextlib.asynccontextmanager
    async def _watching(self, wanted: Wanted) -> AsyncIterator[Watcher]:
        watcher = Watcher(wanted)
        self._hub.add(watcher)
        try:
            yield watcher
        finally:
            self._hub.remove(watcher)
            self._upstreams.watchers_changed()


async def _stream(
    request: web.Request, watcher: Watcher, begin: bytes, hub: EventHub
) -> web.StreamResponse:
    """Write what comes to a watcher, until it goes or reads nothing."""
    response = web.StreamResponse(headers=HEADERS)
    try:
        async with asyncio.timeout(STUCK_S):
            await response.prepare(request)
            await response.write(begin + _where(watcher, hub))
        written = time.monotonic()
        while True:
            chunk = await watcher.next(GONE_S)
            if not chunk:
                if watcher.is_ended or _is_gone(request):
                    break
                if time.monotonic() - written < HEARTBEAT_S:
                    continue
                chunk = HEARTBEAT + _where(watcher, hub)
            async with asyncio.timeout(STUCK_S):
                await response.write(chunk)
            written = time.monotonic()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass
    return response


def _where(watcher: Watcher, hub: EventHub) -> bytes:
    """Return the position as an event without data: a client only notes its id.

    So a client that wants few events does not ask for all that it did not want. It may be noted
    only when nothing waits for the client.
    """
    if watcher.wanted.is_node or watcher.has_news:
        return b""
    return f"id: {hub.position()}\n\n".encode()


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _position(request: web.Request) -> Mapping[str, int] | None:
    """Read where a client goes on; None if it begins."""
    text = request.headers.get(LAST_EVENT_ID, "")
    position = parse_position(text)
    if text and position is None:
        raise QueryInvalid(f"{LAST_EVENT_ID} is not the id of an event of this server")
    return position


def _wanted(request: web.Request) -> Wanted:
    """Read what a client wants. Raises `QueryInvalid`."""
    query = request.query
    types = frozenset(filter(None, query.get("types", "").split(",")))
    if unknown := types - KINDS.keys() - {MISSED, LEVELS}:
        raise QueryInvalid(f"there are no events of the type {min(unknown)!r}")
    levels = query.get("levels", "false")
    if levels not in ("true", "false"):
        raise QueryInvalid("levels is neither true nor false")
    return Wanted(
        types=types if "types" in query else None,
        session=query.get("session") or None,
        levels=levels == "true",
    )
