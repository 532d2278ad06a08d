"""`GET /api/storage` says how long the disk lasts, whichever node is asked."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from adapters.events.dispatcher import EventDispatcher
from adapters.http.api.storage import StorageHandlers
from adapters.http.nodes import NodeClient
from adapters.placement.single import SingleNode
from domain.ports.placement import Node, Placement
from domain.services.server.watching import WatchService
from domain.session.alarm_kinds import AlarmThresholds
from tests.fakes.http import FakeSessions, http_server
from tests.fakes.placement import FakePlacement
from tests.fakes.time import FakeClock
from tests.fakes.watching import FakeStatuses
from tests.rigs.api import api_of

KEPT = 10**6


class _Disk:
    """A disk, and the service that watches it."""

    def __init__(self, free: int | None, *, is_watched: bool = True) -> None:
        self.free, self.clock = free, FakeClock()
        measure: Callable[[], int | None] = lambda: self.free  # noqa: E731
        self.watching = WatchService(
            FakeStatuses(),
            AlarmThresholds(),
            clock=self.clock,
            events=EventDispatcher(()),
            free_bytes=measure if is_watched else None,
            kept_free_bytes=KEPT,
        )

    def run(self, seconds: float, *, filled_per_s: int = 0) -> None:
        for _ in range(round(seconds)):
            self.clock.advance(1)
            if self.free is not None:
                self.free -= filled_per_s
            self.watching.tick()

    def handlers(self, placement: Placement, nodes: NodeClient) -> StorageHandlers:
        return StorageHandlers(self.watching, placement=placement, nodes=nodes)


async def told(disk: _Disk) -> Mapping[str, Any]:
    """Ask the API, which checks the answer against its document."""
    async with api_of([disk.handlers(SingleNode(), NodeClient())]) as api:
        answer = await api.get("/api/storage")
        assert answer.status == 200
        found: Mapping[str, Any] = answer.json
        return found


async def test_a_disk_that_fills_lasts_for_its_time() -> None:
    disk = _Disk(10**9 + KEPT)
    disk.run(1)
    assert await told(disk) == {"free_bytes": 10**9, "bytes_per_s": None, "left_s": None}
    disk.run(120, filled_per_s=10**5)
    found = await told(disk)
    assert found["free_bytes"] == 10**9 - 120 * 10**5
    assert found["bytes_per_s"] == pytest.approx(10**5)
    assert found["left_s"] == pytest.approx(found["free_bytes"] / 10**5, abs=0.1)


async def test_a_disk_that_gets_emptier_has_no_end() -> None:
    disk = _Disk(10**9)
    disk.run(120, filled_per_s=-(10**5))
    found = await told(disk)
    assert (found["bytes_per_s"] < 0, found["left_s"]) == (True, None)


async def test_a_full_disk_has_no_time_left() -> None:
    disk = _Disk(KEPT - 5)
    disk.run(1)
    assert await told(disk) == {"free_bytes": 0, "bytes_per_s": None, "left_s": 0}


@pytest.mark.parametrize("disk", [_Disk(None), _Disk(10**9, is_watched=False)])
async def test_what_is_not_known_is_not_made_up(disk: _Disk) -> None:
    disk.run(1)
    assert await told(disk) == {"free_bytes": None, "bytes_per_s": None, "left_s": None}


async def test_the_node_that_measures_is_asked() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
        idle, measuring = _Disk(0, is_watched=False), _Disk(10**9 + KEPT)
        measuring.run(1)
        async with (
            _served(measuring, FakePlacement(there, here, {})),
            _served(idle, FakePlacement(here, there, {})) as url,
            aiohttp.ClientSession() as http,
            http.get(f"{url}/api/storage") as answer,
        ):
            assert (await answer.json())["free_bytes"] == 10**9


@asynccontextmanager
async def _served(disk: _Disk, placement: Placement) -> AsyncIterator[str]:
    nodes = NodeClient()
    server = http_server(
        FakeSessions(), placement=placement, more=[disk.handlers(placement, nodes)]
    )
    yield await server.start()
    await server.stop()
    await nodes.close()
