"""One recording across network failures, with real sockets and a real client."""

from __future__ import annotations

import asyncio
import statistics

import pytest

from adapters.storage.memory import MemoryStore
from domain.errors import GaplessError
from domain.recording.effects import EndReason
from tests.fakes.capture import LoopCapture
from tests.rigs.clients import local_server
from tests.rigs.network import network_before
from tests.rigs.outages import Client, Outcome, only_recording, outage, rebinding, recording

TOLERANCE_MS = 40


def assert_whole(outcome: Outcome) -> None:
    assert outcome.length_error_ms <= TOLERANCE_MS
    assert outcome.gap_error_ms <= TOLERANCE_MS


@pytest.mark.timeout(120)
async def test_outages_are_gaps_in_one_recording_and_an_endless_one_ends_it() -> None:
    *outcomes, _ = await asyncio.gather(
        *(outage(seconds) for seconds in (2, 10, 25, 29)), outage_for_ever()
    )
    for outcome in outcomes:
        assert_whole(outcome)
    # what was lost in a short outage is asked for again
    assert outcomes[0].kinds == ("received",)
    for outcome in outcomes[1:]:
        assert outcome.kinds == ("received", "silence", "received")
    recovery = [outcome.recovery_s for outcome in outcomes]
    assert max(recovery) <= 8
    assert statistics.median(recovery) <= 2


async def outage_for_ever() -> Outcome | None:
    """The session ends after 30 s, for the right reason; the client retries until it is told."""
    async with recording() as (server, network, client):
        began = asyncio.get_running_loop().time()
        network.go_away()
        assert await server.seen.next_end() is EndReason.INACTIVE
        assert asyncio.get_running_loop().time() - began == pytest.approx(30, abs=1.5)
        assert only_recording(server).ledger["end_reason"] == "inactive"
        assert not client.running.done()
        network.come_back()
        with pytest.raises(GaplessError, match="over"):
            await client.running
    return None


@pytest.mark.parametrize(
    ("restarts", "expected"),
    [
        (True, {"anchor", "retransmitted"}),
        (False, {"anchor", "reconnected", "retransmitted"}),
    ],
    ids=["by an ICE restart", "by another connection"],
)
async def test_a_dead_media_path_alone_is_replaced_within_seconds(
    restarts: bool, expected: set[str]
) -> None:
    async with recording() as (server, network, client):
        network.lets_restarts_pass = restarts
        network.go_away(http=False)
        await client.until("interrupted")
        await client.until("resumed")
        await asyncio.sleep(1.0)  # and more sound
        summary = await client.stop()
        assert len(network.relays) == 2
        assert client.seen.outages[0] < 3
        assert network.log.reports >= 2  # one each second: what the server should have
        stored = only_recording(server)
        assert abs(len(stored.samples) / 48_000 - summary.seconds) <= 0.04
        assert summary.safe_s == pytest.approx(len(stored.samples) / 48_000, abs=1e-5)
        events = [event["type"] for event in stored.ledger["events"]]
        # unless all that was lost has come again, there is an outage, and only one
        assert set(events) - {"outage"} == expected
        assert events.count("outage") <= 1


async def test_a_nat_rebinding_is_not_an_outage() -> None:
    outcome = await rebinding()
    assert_whole(outcome)
    assert outcome.kinds == ("received",)


@pytest.mark.timeout(120)
async def test_fifty_clients_that_lose_the_network_at_once_all_reconnect() -> None:
    count = 50
    async with local_server() as server, network_before(server.url) as network:
        clients = [Client(network.url, capture=LoopCapture()) for _ in range(count)]
        await asyncio.gather(*(client.until("connected") for client in clients))
        await asyncio.sleep(1.0)
        network.lets_restarts_pass = False
        network.go_away(http=False)  # only a new connection can work
        await asyncio.gather(*(client.until("resumed") for client in clients))
        await asyncio.sleep(1.0)
        summaries = await asyncio.gather(*(client.stop() for client in clients))
        store: MemoryStore = server.container.store()
        by_id = {stored.info.id: stored for stored in store.recordings.values()}
        assert len(by_id) == len(store.recordings) == count
        for summary in summaries:
            stored = by_id[summary.session_id]
            # One process runs fifty clients and the server. Where it is starved, its tones fall
            # behind the wall clock, and the recording names that as stalls.
            stalled = sum(e["length"] for e in stored.ledger["events"] if e["type"] == "stall")
            captured = (len(stored.samples) - stalled) / 48_000
            assert captured == pytest.approx(summary.seconds, abs=0.04)
