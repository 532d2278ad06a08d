"""`GET /api/alarms` lists the alarms of the whole server, whichever node is asked."""

from __future__ import annotations

import math
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jsonschema

from adapters.events.dispatcher import EventDispatcher
from adapters.http.api.alarms import AlarmHandlers
from adapters.http.api.document import DocumentHandlers
from adapters.http.api.events import EventHandlers
from adapters.http.api.hub import EventHub
from adapters.http.nodes import NodeClient
from adapters.placement.single import SingleNode
from domain.ports.placement import Node, Placement
from domain.services.server.watching import WatchService
from domain.session.alarm_kinds import AlarmThresholds
from domain.session.roles import Role
from tests.fakes.http import FakeSessions, http_server
from tests.fakes.placement import FakePlacement
from tests.fakes.time import FakeClock
from tests.fakes.watching import FakeStatuses, status_of

WATCHER = "a watcher"


class _Node:
    """A node with one session, and the time that it sees."""

    def __init__(self, session: str) -> None:
        self.session, self.clock = session, FakeClock()
        self.statuses = FakeStatuses(status_of(session, rms_dbfs=-math.inf))
        self.watching = WatchService(
            self.statuses,
            AlarmThresholds(silence_s=2),
            clock=self.clock,
            events=EventDispatcher(()),
        )

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.25)):
            self.clock.advance(0.25)
            self.watching.tick()

    @asynccontextmanager
    async def served(self, placement: Placement | None = None) -> AsyncIterator[str]:
        nodes, placement = NodeClient(), placement or SingleNode()
        alarms = AlarmHandlers(self.watching, placement=placement, nodes=nodes)
        hub = EventHub()
        events = EventHandlers(hub, placement=placement, nodes=nodes, max_watchers=1)
        server = http_server(
            FakeSessions(),
            placement=placement,
            more=[alarms, DocumentHandlers([*alarms.routes(), *events.routes()])],
            tokens={WATCHER: frozenset({Role.WATCH}), "other": frozenset({Role.PUBLISH})},
        )
        yield await server.start()
        await server.stop()
        await nodes.close()


async def _get(url: str, token: str = WATCHER) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_alarms_that_are_on_and_those_that_ended_are_listed() -> None:
    node = _Node("s")
    async with node.served() as url:
        assert await _get(f"{url}/api/alarms") == (200, {"on": [], "ended": []})
        node.run(3)
        _, listed = await _get(f"{url}/api/alarms")
        (alarm,) = listed["on"]
        assert (alarm["kind"], alarm["session"], alarm["ended_at"]) == ("silence", "s", None)
        node.statuses.of_sessions = [status_of("s")]
        node.run(3)
        _, listed = await _get(f"{url}/api/alarms")
        assert (listed["on"], [item["id"] for item in listed["ended"]]) == ([], [alarm["id"]])


async def test_the_answer_is_what_the_document_says() -> None:
    node = _Node("s")
    node.run(3)
    async with node.served() as url:
        _, document = await _get(f"{url}/api/openapi.json")
        operation = document["paths"]["/api/alarms"]["get"]
        reference = operation["responses"]["200"]["content"]["application/json"]["schema"]
        schema = {**reference, "components": document["components"]}
        _, listed = await _get(f"{url}/api/alarms")
        checks = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.Draft202012Validator(schema, format_checker=checks).validate(listed)
        assert listed["on"]
        # the events are components, too, and nothing of what nodes ask is in the document
        assert {"AlarmRaisedEvent", "LevelsEvent", "Missed"} < document["components"][
            "schemas"
        ].keys()
        assert list(document["paths"]) == ["/api/alarms", "/api/events", "/api/openapi.json"]


async def test_alarms_need_the_role() -> None:
    async with _Node("s").served() as url:
        assert (await _get(f"{url}/api/alarms", "other"))[0] == 403
        assert (await _get(f"{url}/api/alarms", "wrong"))[0] == 401


async def test_each_node_lists_the_alarms_of_all() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
        first, second = _Node("a"), _Node("b")
        first.run(3)
        second.run(3)
        async with first.served(FakePlacement(here, there, {})) as url:
            assert [a["session"] for a in (await _get(f"{url}/api/alarms"))[1]["on"]] == ["a"]
            async with second.served(FakePlacement(there, here, {})) as other_url:
                for either in (url, other_url):
                    _, listed = await _get(f"{either}/api/alarms")
                    assert sorted(alarm["session"] for alarm in listed["on"]) == ["a", "b"]
