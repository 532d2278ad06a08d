"""Spools that earlier runs have left get to their recordings, or to new ones."""

from __future__ import annotations

import asyncio

import pytest

from domain.errors import Refusal, ServerRefused, ServerUnreachable, SpoolFailed
from domain.events import (
    Event,
)
from domain.events.client import (
    OwedSpoolDelivered,
    OwedSpoolFound,
    OwedSpoolKept,
)
from domain.ports.media import PathReport
from domain.ports.spool import SpoolSession
from domain.recording.ledger import RestoreMode, RestoreState
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import Captured, SpoolInfo
from domain.services.client.owed_spools import OwedSpools
from tests.fakes.media import FakeClientConnection, FakeClientTransport
from tests.fakes.signaling import FakeSignaling
from tests.fakes.spool import FakeRestoring, FakeSpool
from tests.fakes.spools import MemorySpools
from tests.fakes.time import FakeClock, Spawned

RATE = 48_000
SESSION = SpoolSession("http://server", "session", "secret")
OLD = SpoolSession("http://server", "old", "secret")


def seconds(length: float) -> RangeSet:
    return RangeSet([Range(0, round(length * RATE))])


class Client:
    """Delivers spools to a server that knows `session` only; an offer opens it."""

    def __init__(self, *, path_s: float | None = None) -> None:
        self.clock = FakeClock()
        self.connection = FakeClientConnection(self.clock)
        self.transport = FakeClientTransport(self.connection)
        self.signaling = FakeSignaling()
        self.server = FakeRestoring(seconds(10))
        self.events: list[Event] = []
        self.spawner = Spawned()
        self._path_s = path_s
        self.owed = OwedSpools(
            server="http://server",
            transport=self.transport,
            signaling=self.signaling,
            client=self.server,
            clock=self.clock,
            spawner=self.spawner,
            events=self,
            random=lambda: 0.5,
            path=None if path_s is None else self.path,
        )

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def path(self) -> PathReport | None:
        return PathReport(self._path_s, 0.0, self.clock.now // 0.5 * 0.5)

    async def deliver(self, *spools: FakeSpool) -> bool:
        task = asyncio.ensure_future(self.owed.deliver(spools, paced=self._path_s is not None))
        until = self.clock.now + 200
        while not task.done() and self.clock.now < until:
            await self.clock.run(0.05)
        await self.spawner.join()
        return task.result()

    def seen(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


async def test_the_session_of_a_killed_client_is_ended_and_its_recording_restored() -> None:
    client, spool = Client(), FakeSpool(seconds(10), session=SESSION)
    assert await client.deliver(spool)
    assert client.signaling.deleted == ["session"]
    assert client.signaling.secrets == ["secret"]
    assert not client.transport.opened
    assert RangeSet(client.server.pieces) == seconds(10)
    assert (spool.removed, spool.released) == (1, 1)
    assert client.seen(OwedSpoolFound) == [
        OwedSpoolFound(spool.description.id, "", 10.0, "http://server")
    ]
    assert client.seen(OwedSpoolDelivered) == [
        OwedSpoolDelivered(spool.description.id, 10.0, await spool.sha256(), is_same=True)
    ]
    assert client.server.closed == client.signaling.closed == 1


@pytest.mark.parametrize("session", [None, OLD], ids=["never", "forgotten"])
async def test_a_new_session_is_opened_if_there_is_none(session: SpoolSession | None) -> None:
    client, spool = Client(), FakeSpool(seconds(10), name="desk", session=session)
    assert await client.deliver(spool)
    assert client.signaling.offers == [(client.connection.offer_sdp, "desk")]
    assert client.signaling.spools == [
        SpoolInfo(1234, spool.description.format, RestoreMode.ALL, spool.description.started_at)
    ]
    assert client.connection.closed == [False]  # the server hears of the end from `delete`
    assert spool.noted == [SESSION]
    assert client.signaling.deleted[-1] == "session"
    assert RangeSet(client.server.pieces) == seconds(10)
    assert spool.removed == 1


async def test_a_recording_that_is_not_waited_for_any_more_becomes_another_one() -> None:
    client, spool = Client(), FakeSpool(seconds(10), session=SESSION)
    client.server.wanted_ranges = seconds(0)
    client.server.last_states = [RestoreState.EXPIRED, RestoreState.COMPLETE]
    assert await client.deliver(spool)
    assert len(client.signaling.offers) == 1
    assert spool.removed == 1


async def test_a_server_that_does_not_restore_does_not_get_the_only_copy_deleted() -> None:
    client, spool = Client(), FakeSpool(seconds(10), session=SESSION)
    client.server.wanted_ranges = seconds(0)
    client.server.last_states = [RestoreState.OFF]
    assert not await client.deliver(spool)
    assert (spool.removed, spool.released) == (0, 1)
    assert client.seen(OwedSpoolKept) == [
        OwedSpoolKept(spool.description.id, "the server does not restore recordings")
    ]


async def test_the_session_is_noted_before_anything_is_sent_for_it() -> None:
    client, spool = Client(), FakeSpool(seconds(10))
    client.signaling.unreachable_at_end = ServerUnreachable("gone")
    assert not await client.deliver(spool)
    assert spool.session == SESSION
    client.signaling.unreachable_at_end = None
    assert await client.deliver(spool)
    assert len(client.signaling.offers) == 1  # not another one


async def test_a_session_whose_live_recording_failed_may_still_be_restored() -> None:
    client, spool = Client(), FakeSpool(seconds(10), session=SESSION)
    client.signaling.unreachable_at_end = ServerRefused(Refusal.FINAL, "the recording has failed")
    assert await client.deliver(spool)


async def test_what_is_wrong_with_one_does_not_stop_the_others() -> None:
    client = Client()
    bad, good = FakeSpool(seconds(10), session=SESSION), FakeSpool(seconds(10), session=SESSION)

    async def fail() -> str:
        raise SpoolFailed("cannot be read")

    bad.sha256 = fail  # type: ignore[method-assign]
    assert not await client.deliver(bad, good)
    assert (bad.removed, bad.released) == (0, 1)
    assert (good.removed, good.released) == (1, 1)
    assert client.seen(OwedSpoolKept) == [OwedSpoolKept(bad.description.id, "cannot be read")]


async def test_a_server_that_is_away_is_waited_for_once() -> None:
    client = Client()
    spools = [FakeSpool(seconds(10), session=SESSION) for _ in range(5)]
    client.signaling.unreachable = ServerUnreachable("no server")
    began = client.clock.now
    assert not await client.deliver(*spools)
    assert client.clock.now - began < 12
    assert len(client.seen(OwedSpoolKept)) == 5
    assert all((spool.removed, spool.released) == (0, 1) for spool in spools)


async def test_being_cancelled_releases_all() -> None:
    client = Client()
    spools = [FakeSpool(seconds(10), session=SESSION) for _ in range(3)]
    client.signaling.unreachable = ServerUnreachable("no server")
    task = asyncio.ensure_future(client.owed.deliver(spools))
    await client.clock.run(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert all((spool.removed, spool.released) == (0, 1) for spool in spools)
    assert client.server.closed == client.signaling.closed == 1


async def test_beside_a_live_stream_they_are_sent_as_its_path_allows() -> None:
    client, spool = Client(path_s=0.05), FakeSpool(seconds(0.2), session=SESSION)
    client.server.wanted_ranges = seconds(0.2)
    assert await client.deliver(spool)
    assert sum(client.server.paced) == 0.2 * RATE
    assert client.server.told[-1] == Captured(round(0.2 * RATE), await spool.sha256())


async def test_spools_of_other_servers_are_left_to_them() -> None:
    client, mine = Client(), FakeSpool(seconds(10), session=SESSION)
    other = FakeSpool(seconds(10), session=SpoolSession("http://elsewhere", "session", "secret"))
    folder = MemorySpools()
    folder.left = [other, mine]
    task = asyncio.ensure_future(client.owed.deliver_from(folder, paced=False))
    while not task.done():
        await client.clock.run(0.05)
    assert (mine.removed, mine.released) == (1, 1)
    assert (other.removed, other.released) == (0, 1)


async def test_a_folder_that_cannot_be_read_has_no_spools() -> None:
    client, folder = Client(), MemorySpools(SpoolFailed("read-only"))
    await client.owed.deliver_from(folder, paced=False)
    assert client.events == []
