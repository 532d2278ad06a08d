"""What happens on the other nodes of the server: one stream from each while somebody watches."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import hdrs

from adapters.http.api.event_json import LEVELS, MISSED
from adapters.http.api.event_log import Logged, parse_position
from adapters.http.api.hub import EventHub
from adapters.http.nodes import NodeClient
from adapters.http.sse import HEARTBEAT_S, ServerSent, read
from domain.ports.placement import Node, Placement

STREAM_PATH, PAST_PATH = "/nodes/events", "/nodes/events/past"
POSITION = "position"
"""The first event of a node's stream: where it begins."""
OPEN_S = 2.0
"""How long a watcher waits for the streams of other nodes, and then for what is past."""
RETRY_S = 0.5
_STREAM = aiohttp.ClientTimeout(total=None, sock_connect=OPEN_S, sock_read=3 * HEARTBEAT_S)
_HEADERS = {hdrs.HOST: "localhost"}  # without a token only loopback names will do
_FAULTS = (aiohttp.ClientError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Past:
    """What a node has kept for whoever resumes."""

    epoch: str
    number: int
    """Of its latest event."""
    missed: bool
    events: Sequence[Logged]


class Upstreams:
    """Follows the other nodes while the hub has clients, and asks them for what is past."""

    def __init__(self, hub: EventHub, placement: Placement, nodes: NodeClient) -> None:
        self._hub = hub
        self._placement = placement
        self._nodes = nodes
        self._events: dict[Node, _Stream] = {}
        self._levels: dict[Node, _Stream] = {}
        self._keeper: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Follow the other nodes; return when that has begun, or soon if one does not answer.

        A stream that has been tried for longer is not waited for.
        """
        self._start_missing()
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="follow nodes")
        opened = [
            asyncio.create_task(stream.opened.wait())
            for stream in self._events.values()
            if stream.is_young
        ]
        if opened:
            _, late = await asyncio.wait(opened, timeout=OPEN_S)
            for waiting in late:
                waiting.cancel()

    def watchers_changed(self) -> None:
        """Stop what nobody watches any more."""
        clients = self._hub.clients()
        if not any(watcher.wanted.levels for watcher in clients):
            _stop(self._levels)
        if not clients:
            for stream in self._events.values():
                self._hub.leave(stream.epoch)
            _stop(self._events)
            if self._keeper is not None:
                self._keeper.cancel()
                self._keeper = None

    async def past(self, position: Mapping[str, int]) -> Sequence[Past | None]:
        """Ask all other nodes for events behind a position; None for one that does not answer."""
        return await asyncio.gather(
            *(self._past(node, position) for node in self._placement.others())
        )

    async def _past(self, node: Node, position: Mapping[str, int]) -> Past | None:
        with contextlib.suppress(*_FAULTS):
            async with self._nodes.to(node).post(
                f"http://node{PAST_PATH}",
                json=dict(position),
                headers=_HEADERS,
                timeout=aiohttp.ClientTimeout(total=OPEN_S),
            ) as answer:
                if answer.status == 200:
                    return _past_of(await answer.json())
        return None

    async def _keep(self) -> None:
        """Begin to follow nodes that were away when the others were found."""
        while True:
            await asyncio.sleep(RETRY_S)
            self._start_missing()

    def _start_missing(self) -> None:
        wants_levels = any(watcher.wanted.levels for watcher in self._hub.clients())
        for node in self._placement.others():
            if node not in self._events:
                self._events[node] = _Stream(self._hub, self._nodes, node)
            if wants_levels and node not in self._levels:
                self._levels[node] = _Stream(self._hub, self._nodes, node, has_levels=True)


class _Stream:
    """The stream of one node, over one connection after another."""

    def __init__(
        self, hub: EventHub, nodes: NodeClient, node: Node, *, has_levels: bool = False
    ) -> None:
        self._hub = hub
        self._nodes = nodes
        self._node = node
        self._has_levels = has_levels
        self.opened = asyncio.Event()
        self._began = time.monotonic()
        self.epoch = ""
        self._number = 0
        self.task = asyncio.create_task(self._follow(), name="follow node")

    @property
    def is_young(self) -> bool:
        """Whether it may still open soon; nobody waits for a node that does not answer."""
        return time.monotonic() - self._began < OPEN_S

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(*_FAULTS):
                await self._follow_once()
            await asyncio.sleep(RETRY_S)

    async def _follow_once(self) -> None:
        query = {"levels": "true"} if self._has_levels else {}
        if self.epoch and not self._has_levels:
            query["after"] = f"{self.epoch}-{self._number}"
        async with self._nodes.to(self._node).get(
            f"http://node{STREAM_PATH}", params=query, headers=_HEADERS, timeout=_STREAM
        ) as answer:
            if answer.status != 200:
                return
            async for sent in read(answer.content):
                self._take(sent)

    def _take(self, sent: ServerSent) -> None:
        """Hand on what the node says. Raises `ValueError` if it cannot be understood."""
        if sent.event == POSITION:
            self._begin(json.loads(sent.data))
        elif sent.event == LEVELS:
            self._hub.relay_levels(self.epoch, sent.data)
        elif sent.event == MISSED:
            self._hub.miss(_dict(json.loads(sent.data)).get("count"), is_local=False)
        else:
            session = _dict(json.loads(sent.data)).get("session")
            ((epoch, number),) = (parse_position(sent.id) or {"": 0}).items()
            if epoch == self.epoch:
                self._number = number
                self._hub.relay(Logged(epoch, number, sent.event, session, sent.data, 0.0))

    def _begin(self, position: Any) -> None:
        position = _dict(position)
        epoch, number = str(position.get("epoch")), int(position.get("number", 0))
        if not self._has_levels:
            if self.epoch and epoch != self.epoch:
                self._hub.leave(self.epoch)
            if position.get("missed"):
                self._hub.miss(None, is_local=False)
            self._hub.join(epoch, number)
        self.epoch, self._number = epoch, number
        self.opened.set()


def _stop(streams: dict[Node, _Stream]) -> None:
    for stream in streams.values():
        stream.task.cancel()
    streams.clear()


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("this is no object")
    return value


def past_json(past: Past) -> dict[str, Any]:
    return {
        "epoch": past.epoch,
        "number": past.number,
        "missed": past.missed,
        "events": [[e.number, e.type, e.session, e.data, e.at] for e in past.events],
    }


def _past_of(body: Any) -> Past:
    try:
        epoch = body["epoch"]
        return Past(
            epoch,
            body["number"],
            body["missed"],
            [
                Logged(epoch, number, type_, session, data, at)
                for number, type_, session, data, at in body["events"]
            ],
        )
    except (TypeError, KeyError) as error:
        raise ValueError("this is no past") from error
