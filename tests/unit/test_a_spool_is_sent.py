"""A client sends what the server wants of its spool: while the session lives, and after its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from domain.errors import (
    EndUnconfirmed,
    Refusal,
    ServerRefused,
    ServerUnreachable,
    SessionOver,
    SpoolFailed,
    WrongServer,
)
from domain.events import (
    Event,
)
from domain.events.client import (
    PieceSent,
)
from domain.ports.media import PathReport
from domain.ports.spool import SpoolSession
from domain.recording.ledger import RestoreState
from domain.recording.ranges import Range, RangeSet
from domain.services.client.spool_sender import IN_FLIGHT, Delivered, SpoolSender
from tests.fakes.spool import FakeRestoring, FakeSpool
from tests.fakes.time import FakeClock, Spawned

SESSION = SpoolSession("http://server", "session", "secret")
RATE = 48_000
Result = TypeVar("Result")


def seconds(*ranges: tuple[float, float]) -> RangeSet:
    """Return positions from ranges in seconds: starts and ends."""
    return RangeSet(
        Range(round(start * RATE), round((end - start) * RATE)) for start, end in ranges
    )


class Client:
    """A sender, its spool and a server."""

    def __init__(
        self,
        wanted: RangeSet,
        *,
        captured: RangeSet | None = None,
        limit: int = 10,
        round_trip_s: float = 0.0,
        byte_s: float = 0.0,
    ) -> None:
        self.clock = FakeClock()
        self.server = FakeRestoring(
            wanted, self.clock, limit=limit, round_trip_s=round_trip_s, byte_s=byte_s
        )
        self.spool = FakeSpool(captured or seconds((0, 60)), session=SESSION)
        self.round_trip_s = 0.05
        self.lost = 0.0
        self.has_path = True
        self.events: list[Event] = []
        self.spawner = Spawned()
        self.sender = SpoolSender(
            spool=self.spool,
            client=self.server,
            clock=self.clock,
            spawner=self.spawner,
            events=self,
            random=lambda: 0.5,
            path=self.path,
        )

    def path(self) -> PathReport | None:
        if not self.has_path:
            return None
        return PathReport(self.round_trip_s, self.lost, self.clock.now // 0.5 * 0.5)

    def publish(self, event: Event) -> None:
        self.events.append(event)

    async def until_done(self, work: Coroutine[Any, Any, Result], *, within_s: float) -> Result:
        task = asyncio.ensure_future(work)
        until = self.clock.now + within_s
        while not task.done():
            assert self.clock.now < until
            await self.clock.run(0.05)
        await self.spawner.join()
        return task.result()

    async def finish(self, *, within_s: float = 200.0, paced: bool = False) -> Delivered:
        return await self.until_done(self.sender.finish(paced=paced), within_s=within_s)

    async def live(self, run_s: float) -> None:
        """Let `run` run for a while, and cancel it."""
        task = asyncio.ensure_future(self.sender.run())
        await self.clock.run(run_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.spawner.join()


# -- after the end -------------------------------------------------------------------------------


async def test_what_is_wanted_is_sent_until_the_recording_is_complete() -> None:
    client = Client(seconds((1, 2), (10, 35), (59, 70)), limit=2)
    delivered = await client.finish()
    assert delivered == Delivered(
        "complete", await client.spool.sha256(), is_same=True, captured_s=60.0
    )
    sent = RangeSet(client.server.pieces)
    assert sent == seconds((1, 2), (10, 35), (59, 60))
    assert all(told.length == 60 * RATE for told in client.server.told)


async def test_a_recording_that_is_not_the_same_is_told() -> None:
    client = Client(seconds((1, 2)))
    client.server.sha256 = "another one"
    assert not (await client.finish()).is_same


async def test_what_was_not_captured_is_said_and_not_sent() -> None:
    client = Client(seconds((0, 60)), captured=seconds((1, 20), (30, 50)))
    delivered = await client.finish()
    assert delivered.captured_s == 39.0
    assert list(client.server.told[0].missing) == list(seconds((0, 1), (20, 30)))
    assert RangeSet(client.server.pieces) == seconds((1, 20), (30, 50))


async def test_several_requests_are_under_way_at_once() -> None:
    lost = [(n / 2, n / 2 + 0.02) for n in range(100)]
    client = Client(seconds(*lost), limit=1000, round_trip_s=0.3)
    began = client.clock.now
    await client.finish()
    assert client.server.most_at_once == IN_FLIGHT
    assert client.clock.now - began < 10


async def test_progress_is_told() -> None:
    client = Client(seconds((1, 2)))
    await client.finish()
    told = [event for event in client.events if isinstance(event, PieceSent)]
    assert told[-1].end_s == 2.0
    assert told[-1].captured_s == 60.0
    assert sum(event.size for event in told) == RATE


async def test_the_recording_is_waited_for_while_it_is_rewritten() -> None:
    client = Client(seconds((1, 2)))
    client.server.last_states = [RestoreState.RESTORING] * 200 + [RestoreState.COMPLETE]
    assert (await client.finish()).state == "complete"
    assert len(client.server.told) == 202


async def test_a_session_that_has_not_ended_is_waited_for() -> None:
    client = Client(seconds())
    client.server.last_states = [RestoreState.LIVE] * 5 + [RestoreState.COMPLETE]
    assert (await client.finish()).state == "complete"


async def test_a_session_that_does_not_end_is_waited_for_with_patience() -> None:
    client = Client(seconds())
    client.server.last_states = [RestoreState.LIVE]
    began = client.clock.now
    with pytest.raises(EndUnconfirmed, match="not ended the session"):
        await client.finish()
    assert client.clock.now - began == pytest.approx(60, abs=2)


async def test_a_server_that_does_not_accept_what_it_wants_is_given_up() -> None:
    client = Client(seconds((1, 2)))
    client.server.ignores_pieces = True
    with pytest.raises(EndUnconfirmed, match="does not accept"):
        await client.finish()


@pytest.mark.parametrize("state", [RestoreState.OFF, RestoreState.EXPIRED])
async def test_a_server_that_wants_nothing_any_more_says_so(state: RestoreState) -> None:
    client = Client(seconds())
    client.server.last_states = [state]
    assert (await client.finish()).state == state.value


async def test_an_interruption_is_bridged() -> None:
    client = Client(seconds((1, 20)))
    task = asyncio.ensure_future(client.sender.finish())
    await asyncio.sleep(0)
    client.server.error = ServerUnreachable("no network")
    await client.clock.run(7)
    client.server.error = None
    await client.clock.run(20)
    assert (await task).state == "complete"
    assert client.server.pieces


async def test_short_interruptions_again_and_again_are_bridged() -> None:
    client = Client(seconds((0, 60)), byte_s=1e-5)
    busy = ServerRefused(Refusal.TEMPORARY, "busy")
    client.server.errors = [ServerUnreachable("reset"), None, busy, None] * 9
    assert (await client.finish()).state == "complete"


async def test_a_server_that_stays_away_is_given_up() -> None:
    client = Client(seconds((1, 2)))
    client.server.error = ServerUnreachable("no network")
    began = client.clock.now
    with pytest.raises(ServerUnreachable):
        await client.finish()
    assert 5 < client.clock.now - began < 12


@pytest.mark.parametrize(
    "error",
    [
        WrongServer("a portal"),
        ServerRefused(Refusal.FINAL, "wrong digest"),
        ServerRefused(Refusal.UNCLEAR, "a portal"),
        SessionOver("unknown"),
    ],
    ids=repr,
)
async def test_what_repeating_cannot_change_is_raised_at_once(error: Exception) -> None:
    client = Client(seconds((1, 2)))
    client.server.errors = [error]  # type: ignore[list-item]
    with pytest.raises(type(error)):
        await client.finish(within_s=1)
    client = Client(seconds((1, 2)), byte_s=1e-6)
    task = asyncio.ensure_future(client.sender.finish())
    while not client.server.told:
        await asyncio.sleep(0)
    client.server.error = error  # type: ignore[assignment]
    await client.clock.run(1)
    with pytest.raises(type(error)):
        await task


async def test_sound_that_turns_out_to_be_damaged_is_said_to_be_missing() -> None:
    client = Client(seconds((0, 60)))
    client.spool.damaged = seconds((20, 30))
    delivered = await client.finish()
    assert delivered.state == "complete"
    assert delivered.captured_s == 50.0
    assert list(client.server.told[-1].missing) == [Range(20 * RATE, 10 * RATE)]
    assert RangeSet(client.server.pieces) == seconds((0, 20), (30, 60))


async def test_a_disk_that_cannot_be_read_is_told() -> None:
    client = Client(seconds((0, 60)))

    async def fail(start: int, length: int) -> bytes:
        raise SpoolFailed("the stick is gone")

    client.spool.flac = fail  # type: ignore[method-assign]
    with pytest.raises(SpoolFailed):
        await client.finish()


async def test_being_cancelled_ends_all_requests() -> None:
    client = Client(seconds((0, 60)), round_trip_s=1.0)
    task = asyncio.ensure_future(client.sender.finish())
    await client.clock.run(1.5)
    assert client.server.most_at_once == IN_FLIGHT
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.spawner.join()
    await client.clock.run(2)
    assert not client.server.pieces


# -- while the session lives ---------------------------------------------------------------------


async def test_what_is_wanted_is_sent_while_the_session_lives() -> None:
    client = Client(seconds((1, 1.1), (5, 5.1)))
    await client.live(60)
    assert RangeSet(client.server.pieces) == seconds((1, 1.1), (5, 5.1))
    assert client.server.most_at_once == 1
    assert sum(client.server.paced) == 0.2 * RATE
    assert client.server.asked > 5


async def test_sound_that_is_not_captured_yet_is_sent_later() -> None:
    client = Client(seconds((59, 61)), byte_s=1e-6)
    client.sender._pacer.rate = 50_000
    await client.live(30)
    assert RangeSet(client.server.pieces) == seconds((59, 60))


async def test_the_first_bytes_are_sent_slowly_and_in_small_pieces() -> None:
    client = Client(seconds((0, 60)))
    await client.live(12)
    assert sum(client.server.paced) < 20_000
    assert all(piece.length < 0.5 * RATE for piece in client.server.pieces)


async def test_nothing_is_asked_or_sent_without_a_path() -> None:
    client = Client(seconds((0, 60)))
    client.has_path = False
    await client.live(30)
    assert not client.server.asked


@pytest.mark.parametrize("trouble", ["delay", "loss", "silence"])
async def test_a_path_that_becomes_bad_is_left_to_the_stream(trouble: str) -> None:
    client = Client(seconds((0, 60)))
    task = asyncio.ensure_future(client.sender.run())
    await client.clock.run(20)
    assert client.server.paced
    if trouble == "delay":
        client.round_trip_s = 1.0
    elif trouble == "loss":
        client.lost = 0.8
    else:
        client.has_path = False
    await client.clock.run(3)
    sent = len(client.server.paced)
    await client.clock.run(5)
    assert len(client.server.paced) == sent
    client.round_trip_s, client.lost, client.has_path = 0.05, 0.0, True
    await client.clock.run(20)
    assert len(client.server.paced) > sent
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_trouble_with_the_server_is_left_to_others() -> None:
    client = Client(seconds((1, 1.1)))
    client.server.errors = [ServerUnreachable("x"), ServerRefused(Refusal.TEMPORARY, "busy")]
    await client.live(30)
    assert RangeSet(client.server.pieces) == seconds((1, 1.1))


@pytest.mark.parametrize("error", [SessionOver("x"), ServerRefused(Refusal.FINAL, "x")], ids=repr)
async def test_it_ends_when_the_server_wants_nothing(error: Exception) -> None:
    client = Client(seconds((1, 2)))
    client.server.error = error  # type: ignore[assignment]
    await client.until_done(client.sender.run(), within_s=10)


async def test_after_the_end_it_goes_on_at_full_speed() -> None:
    client = Client(seconds((0, 60)))
    await client.live(12)
    before = len(client.server.paced)
    began = client.clock.now
    await client.finish()
    assert len(client.server.paced) == before
    assert client.clock.now - began < 5


async def test_an_earlier_spool_can_be_sent_beside_a_live_stream() -> None:
    client = Client(seconds((0, 0.2)))
    delivered = await client.finish(paced=True)
    assert delivered.state == "complete"
    assert sum(client.server.paced) == 0.2 * RATE
