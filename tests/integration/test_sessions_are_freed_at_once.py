"""What a session leaves is freed at its end: the garbage collector has nothing to do."""

from __future__ import annotations

import asyncio
import collections
import gc
import pathlib
from collections.abc import Iterator

import pytest

from tests.fakes.events import SeenByServer
from tests.rigs.clients import Local, local_server
from tests.rigs.comers import KINDS, gone

TASKS = 2
"""Of a server at rest: the test and the ticks."""
MORE = 5
"""Objects: a table of a bounded size may have got an entry, which is up to three of them."""
LET_GO_S = 5.0
"""How long a queue or a thread may keep what is over; the disk's queue does for 0.65 s."""
OF_SESSIONS = {"domain", "adapters", "aioice", "aiortc", "OpenSSL", "pylibsrtp", "_asyncio"}
"""Packages whose objects a session consists of; tasks and futures are asyncio's."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Switch the garbage collector off."""
    gc.disable()
    yield
    gc.enable()


async def come_and_go(server: Local, kind: str, count: int) -> None:
    """Let sessions come and go, and wait until they are over."""
    await gone(server.url, kind, count)
    service = server.container.sessions()
    while service.places_taken or service._outcomes._outcomes:
        await asyncio.sleep(0.05)
    while len(asyncio.all_tasks()) > TASKS:  # others close connections
        await asyncio.sleep(0.05)


def objects() -> collections.Counter[str]:
    """Count the objects of which sessions consist, by their types."""
    kinds = (type(item) for item in gc.get_objects())
    return collections.Counter(
        kind.__qualname__ for kind in kinds if str(kind.__module__).partition(".")[0] in OF_SESSIONS
    )


async def grown_since(before: collections.Counter[str]) -> collections.Counter[str]:
    """Count what is more than before, when all that is going to be freed by itself has been."""
    loop = asyncio.get_running_loop()
    end = loop.time() + LET_GO_S
    while (grown := objects() - before).total() >= MORE and loop.time() < end:
        await asyncio.sleep(0.1)
    return grown


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(20, marks=pytest.mark.timeout(180)),
        pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("no_collector")
async def test_a_session_leaves_nothing_for_the_collector(
    tmp_path: pathlib.Path, kind: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.services.server.outcomes.KEPT_S", 0.1)
    monkeypatch.setattr(SeenByServer, "publish", lambda _self, _event: None)  # it keeps them
    async with local_server(
        storage="wav",
        recordings=str(tmp_path),
        max_sessions=4 * count + 100,  # a quarter of them may be connecting
        connect_timeout_s=1,
        inactivity_timeout_s=5,
    ) as server:
        await come_and_go(server, kind, 5)
        gc.collect()
        before = objects()
        await come_and_go(server, kind, count)
        grown = await grown_since(before)
        assert grown.total() < MORE, grown.most_common(10)
