"""One recording over whatever becomes of the network, with real sockets and a real client."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from adapters.storage.memory import MemoryStore, StoredRecording
from domain.errors import GaplessError
from domain.recording import EndReason
from domain.services.publish import Publisher, StreamSummary
from domain.settings import ClientSettings
from entrypoints.container import ClientContainer
from tests.fakes.observers import SeenByClient
from tests.rigs.clients import Local, local_server
from tests.rigs.network import Network, network_before

RATE = 48_000
TOLERANCE = 0.04 * RATE


class Client:
    """`gapless stream --capture tone` inside the test."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.seen = SeenByClient()
        settings = {"server": url, "capture": "tone"} | settings
        container = ClientContainer(settings=ClientSettings(**settings), observer=self.seen)
        self.publisher: Publisher = container.publisher()
        self.running = asyncio.create_task(self.publisher.run())

    async def until(self, state: str) -> None:
        while state not in self.seen.states:
            assert not self.running.done(), self.running.exception()
            await asyncio.sleep(0.01)

    async def stop(self) -> StreamSummary:
        self.publisher.stop()
        return await self.running


@asynccontextmanager
async def recording(**settings: object) -> AsyncIterator[tuple[Local, Network, Client]]:
    """A client that has been recorded for a second over a network in front of the server."""
    async with local_server(**settings) as server, network_before(server.url) as network:
        client = Client(network.url)
        try:
            await client.until("connected")
            await asyncio.sleep(1.0)  # a second of sound
            yield server, network, client
        finally:
            client.running.cancel()
            await asyncio.wait({client.running})


def only_recording(server: Local) -> StoredRecording:
    store: MemoryStore = server.container.store()
    (stored,) = store.recordings.values()
    return stored


def assert_as_long_as_sent(stored: StoredRecording, summary: StreamSummary) -> None:
    assert abs(len(stored.samples) - summary.seconds * RATE) <= TOLERANCE
    assert summary.safe_s == pytest.approx(len(stored.samples) / RATE, abs=1e-5)


def assert_hole_is_where_it_was(stored: StoredRecording, network: Network) -> None:
    """What got through is sound, and the longest stretch that did not is the silence."""
    log = network.log
    first = log.sent[0][1]
    times = [(log.sent[index][1] - first) % 2**32 for index in log.delivered]
    gaps = [(later - earlier, earlier) for earlier, later in itertools.pairwise(times)]
    length, after = max(gaps)
    silence = max(
        (span for span in stored.ledger["spans"] if span["kind"] == "silence"),
        key=lambda span: int(span["length"]),
    )
    # 100 ms of it may be concealed, and 20 ms rebuilt from the packet behind it
    assert silence["start"] == pytest.approx(after + 960, abs=0.1 * RATE + TOLERANCE)
    assert silence["start"] + silence["length"] == pytest.approx(after + length, abs=TOLERANCE)
    outages = [event for event in stored.ledger["events"] if event["type"] == "outage"]
    assert [event["length"] for event in outages] == [silence["length"]]


@pytest.mark.timeout(120)
async def test_outages_are_holes_in_one_recording_and_for_ever_ends_it() -> None:
    async def outage(seconds: float) -> float:
        async with recording() as (server, network, client):
            network.go_away()
            await asyncio.sleep(seconds)
            network.come_back()
            back_at = asyncio.get_running_loop().time()
            await client.until("resumed" if seconds > 3 else "connected")
            await asyncio.sleep(1.5)  # and more sound
            summary = await client.stop()
            stored = only_recording(server)
            assert stored.ledger["end_reason"] in ("closed", "deleted")
            assert_as_long_as_sent(stored, summary)
            assert_hole_is_where_it_was(stored, network)
            return min(at for at in network.log.arrivals.values() if at >= back_at) - back_at

    *recovery, _ = await asyncio.gather(
        *(outage(seconds) for seconds in (2, 10, 25, 29)), outage_for_ever()
    )
    assert max(recovery) <= 8, recovery
    assert sorted(recovery)[1] <= 2, recovery


async def outage_for_ever() -> float:
    """The session ends after 30 s, for the right reason; the client tries on until it is told."""
    async with recording() as (server, network, client):
        began = asyncio.get_running_loop().time()
        network.go_away()
        assert await server.seen.next_end() is EndReason.INACTIVE
        took = asyncio.get_running_loop().time() - began
        assert took == pytest.approx(30, abs=1.5)
        assert only_recording(server).ledger["end_reason"] == "inactive"
        assert not client.running.done()
        network.come_back()
        with pytest.raises(GaplessError, match="over"):
            await client.running
        return took


async def test_a_dead_media_path_alone_is_replaced_within_seconds() -> None:
    async with recording() as (server, network, client):
        network.go_away(http=False)
        await client.until("interrupted")
        await client.until("resumed")
        await asyncio.sleep(1.0)  # and more sound
        summary = await client.stop()
        assert len(network.relays) == 2
        assert client.seen.outages[0] < 3
        stored = only_recording(server)
        assert_as_long_as_sent(stored, summary)
        assert_hole_is_where_it_was(stored, network)
        assert "reconnected" in [event["type"] for event in stored.ledger["events"]]


async def test_another_address_of_the_nat_is_no_outage_at_all() -> None:
    async with recording() as (server, network, client):
        for _ in range(3):
            await network.rebind()
            await asyncio.sleep(0.5)
        summary = await client.stop()
        stored = only_recording(server)
        assert_as_long_as_sent(stored, summary)
        assert not network.log.dropped
        assert {span["kind"] for span in stored.ledger["spans"]} == {"received"}


@pytest.mark.timeout(120)
async def test_fifty_clients_that_lose_the_network_at_once_all_come_back() -> None:
    count = 50
    async with local_server() as server, network_before(server.url) as network:
        clients = [Client(network.url) for _ in range(count)]
        await asyncio.gather(*(client.until("connected") for client in clients))
        await asyncio.sleep(1.0)
        network.go_away(http=False)  # no way back but a new connection
        await asyncio.gather(*(client.until("resumed") for client in clients))
        await asyncio.sleep(1.0)
        summaries = await asyncio.gather(*(client.stop() for client in clients))
        store: MemoryStore = server.container.store()
        by_id = {stored.info.id: stored for stored in store.recordings.values()}
        assert len(by_id) == len(store.recordings) == count
        for summary in summaries:
            assert_as_long_as_sent(by_id[summary.session_id], summary)
