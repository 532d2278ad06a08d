"""The client's uplink: when a path is dead, how it reconnects, and how a session ends."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from domain.errors import (
    ConnectionFailed,
    EndUnconfirmed,
    GaplessError,
    NoMediaPath,
    Refusal,
    ServerRefused,
    ServerUnreachable,
    SessionOver,
    WrongServer,
)
from domain.ports.signaling import Answer
from domain.recording.restoring import SpoolInfo
from domain.rtp.packets import RtpPacket
from domain.services.client.uplink import Uplink
from domain.session.ice import IceCandidate, IceDescription
from tests.fakes.events import SeenByClient
from tests.fakes.media import FakeClientConnection
from tests.fakes.signaling import FakeSignaling
from tests.fakes.time import FakeClock, Spawned

DEAD_S, LOOK_S, STEP_S = 2.5, 0.25, 0.05
FINAL, BUSY, UNCLEAR = Refusal.FINAL, Refusal.TEMPORARY, Refusal.UNCLEAR


class ExactClock(FakeClock):
    """A clock that jumps from one wake-up to the next, so that times are exact."""

    async def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            await self.step(until)
        await turns()

    async def step(self, until: float = float("inf")) -> None:
        """Let all tasks run, then jump to the next wake-up."""
        await turns()
        due = min((due for due, _ in self._sleepers), default=until)
        assert min(due, until) < float("inf"), "no task will ever wake up"
        self.now = max(self.now, min(due, until))
        self.advance(0.0)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Connection(FakeClientConnection):
    """Reports what it was sent, unless it is `deaf`; connecting takes `takes_s`."""

    def __init__(
        self,
        link: Link,
        *,
        fail: Exception | None = None,
        can_restart: bool = False,
        takes_s: float = 0.0,
    ) -> None:
        super().__init__(link.clock, fail, can_restart=can_restart)
        self.is_deaf = False
        self._link = link
        self._takes_s = takes_s

    async def connect(self, *arguments: Any, **more: Any) -> None:
        if self._takes_s:
            await self._link.clock.sleep(self._takes_s)
        await super().connect(*arguments, **more)

    def send(self, packet: RtpPacket) -> None:
        reported = self.highest_reported
        super().send(packet)
        if self.is_deaf:
            self.highest_reported = reported

    async def restart_ice(
        self, exchange: Callable[[IceDescription], Awaitable[IceDescription]]
    ) -> None:
        self._link.did("restart")
        await super().restart_ice(exchange)


class Signaling(FakeSignaling):
    """A server that answers with errors as long as they are set."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.offer_error: Exception | None = None
        self.restart_error: Exception | None = None
        self.candidate_error: Exception | None = None
        self.delete_errors: list[Exception] = []
        self.delete_takes_s = 0.0
        self._link = link

    async def offer(
        self,
        sdp: str,
        *,
        name: str,
        room: str = "",
        resume: str | None = None,
        spool: SpoolInfo | None = None,
    ) -> Answer:
        self._link.did("offer")
        if self.offer_error is not None:
            raise self.offer_error
        number = len(self.offers) + 1
        await super().offer(sdp, name=name, room=room, resume=resume, spool=spool)
        return Answer("v=0 answer", f"session {number}", f"secret {number}")

    async def send_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        if self.candidate_error is not None:
            raise self.candidate_error
        await super().send_candidate(session_id, candidate)

    async def restart_ice(
        self, resume: str, local: IceDescription, *, ice_tag: str
    ) -> IceDescription:
        if self.restart_error is not None:
            raise self.restart_error
        return await super().restart_ice(resume, local, ice_tag=ice_tag)

    async def delete(self, session_id: str) -> float | None:
        self._link.did("delete")
        if self.delete_takes_s:
            await self._link.clock.sleep(self.delete_takes_s)
        if self.delete_errors:
            raise self.delete_errors.pop(0)
        return await super().delete(session_id)


class Link:
    """An uplink with its fakes; the test sends packets itself or with `run`."""

    def __init__(self) -> None:
        self.clock = ExactClock()
        self.began = self.clock.now
        self.signaling = Signaling(self)
        self.seen = SeenByClient()
        self.spawned = Spawned()
        self.done: list[tuple[float, str]] = []
        self.script: list[Connection] = []
        self.opened: list[Connection] = []
        self.sequence = 65_000
        self.is_sending = True
        self.uplink = Uplink(
            transport=self,
            signaling=self.signaling,
            clock=self.clock,
            spawner=self.spawned,
            events=self.seen,
            random=lambda: 0.0,
            name="desk",
        )

    def open(self) -> Connection:
        """Open the next connection of the script, or a working one."""
        self.opened.append(self.script.pop(0) if self.script else Connection(self))
        return self.opened[-1]

    def did(self, what: str) -> None:
        self.done.append((self.clock.now - self.began, what))

    def count(self, what: str) -> int:
        return sum(name == what for _, name in self.done)

    def send(self) -> None:
        self.sequence = (self.sequence + 1) % 2**16
        self.uplink.send(RtpPacket(111, self.sequence, 0, 5, b"x"))

    async def run(self, seconds: float) -> None:
        """Let time pass, with twenty packets per second."""
        for _ in range(round(seconds / STEP_S)):
            if self.is_sending:
                self.send()
            await self.clock.run(STEP_S)

    async def until(self, state: str, *, within: float = 60.0) -> float:
        """Return how long it takes until the latest event is this one."""
        began = self.clock.now
        while not (self.seen.states and self.seen.states[-1].startswith(state)):
            assert self.clock.now - began < within, self.seen.states
            await self.run(STEP_S)
        return self.clock.now - began

    async def passes(self, work: Awaitable[Any], *, at_most: float = 120.0) -> float:
        """Return how long a call takes while time passes without packets."""
        task, began = asyncio.ensure_future(work), self.clock.now
        await turns()
        while not task.done():
            assert self.clock.now - began < at_most
            await self.clock.step()
            await turns()
        self.result = task.exception() or task.result()
        return self.clock.now - began


@asynccontextmanager
async def connected(*script: Connection, link: Link) -> AsyncIterator[Connection]:
    """Open a session with a given first connection."""
    link.script = list(script)
    assert await link.uplink.open()
    try:
        yield link.opened[0]
    finally:
        await link.uplink.abandon()


@pytest.fixture
def link() -> Link:
    return Link()


# -- making the session ----------------------------------------------------------------------------


async def test_the_first_connection_opens_the_session(link: Link) -> None:
    async with connected(link=link) as connection:
        assert link.uplink.session_id == "session 1"
        assert link.seen.states == ["connected"]
        assert link.signaling.resumed == [None]
        assert link.signaling.candidates[0][0] == "session 1"
        link.send()
        assert [packet.sequence for packet in connection.sent] == [65_001]
    assert connection.closed == [True]
    assert link.signaling.closed == 1


async def test_packets_before_there_is_a_connection_are_dropped(link: Link) -> None:
    link.send()
    async with connected(link=link) as connection:
        assert connection.sent == []


@pytest.mark.parametrize(
    "error", [ServerRefused(BUSY, "busy"), ServerUnreachable("nobody")], ids=repr
)
async def test_a_server_that_is_busy_is_tried_again_after_a_pause(
    link: Link, error: GaplessError
) -> None:
    link.signaling.offer_error = error
    for delay in (0.25, 0.5, 1.0):
        assert await link.passes(link.uplink.open()) == pytest.approx(delay)
        assert link.result is False
    assert link.seen.states == [f"waiting: {error}"] * 3
    assert link.seen.delays == [0.25, 0.5, 1.0]
    assert link.count("delete") == 0
    assert [item.closed for item in link.opened] == [[False]] * 3


async def test_a_server_that_is_asked_too_often_is_given_its_time(link: Link) -> None:
    link.signaling.offer_error = ServerRefused(BUSY, "too many", retry_after_s=7.0)
    for delay in (7.25, 7.5, 8.0):
        assert await link.passes(link.uplink.open()) == pytest.approx(delay)
    assert link.seen.delays == [7.25, 7.5, 8.0]


@pytest.mark.parametrize(
    "error",
    [ServerRefused(FINAL, "no"), ServerRefused(UNCLEAR, "no"), WrongServer("no")],
    ids=repr,
)
async def test_a_refusal_is_final(link: Link, error: GaplessError) -> None:
    link.signaling.offer_error = error
    with pytest.raises(type(error), match="no"):
        await link.uplink.open()
    assert link.seen.states == []
    await link.uplink.abandon()
    assert link.signaling.closed == 1


@pytest.mark.parametrize("error", [None, ServerUnreachable("gone"), ServerRefused(FINAL, "over")])
async def test_a_session_without_a_path_is_given_back(
    link: Link, error: GaplessError | None
) -> None:
    link.script = [Connection(link, fail=ConnectionFailed("no path"))]
    link.signaling.delete_errors = [error] if error else []
    await link.passes(link.uplink.open())
    assert link.result is False
    assert link.count("delete") == 1
    assert link.seen.states == ["waiting: no path"]
    assert link.uplink.session_id == ""


async def test_a_candidate_that_is_not_taken_is_a_failed_connection(link: Link) -> None:
    link.signaling.candidate_error = ServerRefused(FINAL, "nobody")
    await link.passes(link.uplink.open())
    assert link.result is False
    assert link.seen.states == ["waiting: the server rejected an ICE candidate: nobody"]


# -- when a path is dead ---------------------------------------------------------------------------


async def test_a_path_is_dead_after_two_and_a_half_seconds_without_a_report(link: Link) -> None:
    async with connected(link=link) as connection:
        await link.run(10.0)
        assert link.seen.states == ["connected"]
        connection.die()
        await link.run(DEAD_S - STEP_S)
        assert link.seen.states == ["connected"]
        assert await link.until("resumed") <= LOOK_S + 2 * STEP_S
        assert link.seen.states == ["connected", "interrupted", "resumed"]


async def test_a_path_is_dead_if_no_packet_arrives_for_as_long(link: Link) -> None:
    async with connected(link=link) as connection:
        await link.run(3.0)
        connection.is_deaf = True
        await link.run(DEAD_S - 2 * STEP_S)
        assert link.seen.states == ["connected"]
        assert await link.until("resumed") <= 2 * LOOK_S + 3 * STEP_S


@pytest.mark.parametrize("how", ["silent", "deaf"])
async def test_a_path_is_declared_dead_at_the_next_check(link: Link, how: str) -> None:
    async with connected(link=link) as connection:
        for _ in range(8):  # from look to look
            await link.clock.step()
        began = link.clock.now
        if how == "silent":
            connection.die()
        else:
            connection.is_deaf = True
            link.send()
        while link.seen.states == ["connected"]:
            await link.clock.step()
            await turns()
        assert link.clock.now - began == DEAD_S


async def test_a_path_is_alive_as_long_as_reports_progress(link: Link) -> None:
    async with connected(link=link) as connection:
        connection.is_deaf = True
        for n in range(10):
            await link.run(2.0)
            connection.highest_reported = n
        assert link.seen.states == ["connected"]


async def test_a_path_on_which_nothing_is_sent_is_not_dead(link: Link) -> None:
    async with connected(link=link):
        await link.run(1.0)
        link.is_sending = False
        await link.run(20.0)
        assert link.seen.states == ["connected"]


async def test_a_pause_does_not_make_a_path_dead(link: Link) -> None:
    """Packets before the pause were reported; the next report follows the next packet."""
    async with connected(link=link) as connection:
        await link.run(1.0)
        link.is_sending = False
        await link.run(10.0)
        connection.is_deaf = True
        link.is_sending = True
        await link.run(DEAD_S - 2 * STEP_S)
        assert link.seen.states == ["connected"]


async def test_a_closed_connection_is_dead_at_once(link: Link) -> None:
    async with connected(link=link) as connection:
        connection.is_open = False
        assert await link.until("resumed") <= LOOK_S + 3 * STEP_S
        assert link.count("restart") == 0  # a closed connection cannot be restarted


async def test_a_server_that_closes_ends_the_session(link: Link) -> None:
    async with connected(link=link) as connection:
        connection.close_by_server()
        await link.run(1.0)
        assert isinstance(link.uplink.failure, SessionOver)
        assert len(link.opened) == 1
        assert "interrupted" not in link.seen.states
        assert await link.uplink.close() is None
        assert link.count("delete") == 0


async def test_the_client_is_told_which_limit_ended_its_session(link: Link) -> None:
    async with connected(link=link) as connection:
        link.signaling.reason = "the server has ended the session: it lasted for 168 h"
        connection.close_by_server()
        await link.run(1.0)
        assert isinstance(link.uplink.failure, SessionOver)
        assert str(link.uplink.failure) == link.signaling.reason


# -- what is tried then ----------------------------------------------------------------------------


async def test_another_connection_takes_up_the_session(link: Link) -> None:
    async with connected(link=link) as old:
        old.is_deaf = True
        await link.until("resumed")
        new = link.opened[1]
        await link.run(10.0)
        assert link.signaling.resumed == [None, "secret 1"]
        assert link.uplink.session_id == "session 2"
        assert old.closed == [False]
        assert new.closed == []
        assert new.sent[-1].sequence == link.sequence
        assert link.seen.states == ["connected", "interrupted", "resumed"]
        new.die()  # and again, with the latest secret
        await link.run(4.0)
        assert link.signaling.resumed == [None, "secret 1", "secret 2"]
        (first, second) = link.seen.outages
        assert 0 <= first < 0.5
        assert 0 <= second < 0.5


async def test_a_restart_is_tried_first_and_keeps_the_connection(link: Link) -> None:
    async with connected(Connection(link, can_restart=True), link=link) as connection:
        for _ in range(3):
            await link.run(5.0)
            connection.die()
            await link.run(DEAD_S + LOOK_S + 2 * STEP_S)
            assert link.seen.states[-1] == "resumed"
        assert link.signaling.restarts == [("secret 1", "tag")] * 3
        assert link.opened == [connection]
        assert connection.closed == []
        await link.run(5.0)
        assert link.seen.states[-1] == "resumed"


async def test_a_failed_ice_restart_is_not_repeated_in_the_same_outage(
    link: Link,
) -> None:
    stuck = [Connection(link, fail=ConnectionFailed("no path")) for _ in range(4)]
    async with connected(Connection(link), *stuck, link=link) as connection:
        connection.die()
        await link.until("resumed")
        assert link.count("restart") == 1
        assert len(link.opened) == 6
        link.opened[-1].die()
        await link.run(4.0)
        assert link.count("restart") == 2  # in another outage a restart is tried again


async def test_restarts_and_connections_take_turns_while_no_server_answers(link: Link) -> None:
    gone = ServerUnreachable("no network")
    async with connected(link=link) as connection:
        connection.die()
        link.signaling.restart_error = link.signaling.offer_error = gone
        await link.run(DEAD_S + 12.0)
        tried = [what for _, what in link.done[1:]]
        assert tried[:6] == ["restart", "offer"] * 3
        assert set(link.seen.states[2:]) == {"waiting: no network"}
        assert link.seen.delays[:4] == [0.25, 0.5, 1.0, 2.0]
        link.signaling.restart_error = link.signaling.offer_error = None
        await link.until("resumed")


@pytest.mark.parametrize(
    "error",
    [ServerRefused(FINAL, "no"), ServerRefused(BUSY, "busy"), WrongServer("portal")],
    ids=repr,
)
async def test_a_restart_that_is_refused_is_followed_by_a_connection_at_once(
    link: Link, error: GaplessError
) -> None:
    async with connected(link=link) as connection:
        link.signaling.restart_error = error
        connection.die()
        await link.run(DEAD_S + LOOK_S + 2 * STEP_S)
        assert [what for _, what in link.done] == ["offer", "restart", "offer"]
        assert link.seen.states[-1] == "resumed"


async def test_an_attempt_gets_5_s_then_10_then_20(link: Link) -> None:
    slow = [Connection(link, takes_s=1000) for _ in range(5)]
    async with connected(Connection(link), *slow, link=link) as connection:
        connection.is_open = link.is_sending = False
        await link.until("resumed", within=120)
        words = [state for state in link.seen.states if state.startswith("waiting")]
        assert words == [f"waiting: {NoMediaPath(f'within {s} s')}" for s in (5, 10, 20, 20, 20)]
        at = [when for when, what in link.done if what == "offer"][1:]
        steps = [b - a for a, b in itertools.pairwise(at)]
        assert steps == pytest.approx([5.25, 10.5, 21.0, 22.0, 24.0], abs=0.4)
        assert all(item.closed == [False] for item in slow)
        # in another outage the times start again
        link.script = [Connection(link, takes_s=1000)]
        link.opened[-1].is_open = False
        await link.until(f"waiting: {NoMediaPath('within 5 s')}")
        assert link.seen.delays[-1] == 0.25


async def test_the_old_path_is_used_if_it_recovers_first(link: Link) -> None:
    slow = Connection(link, takes_s=1000)
    async with connected(Connection(link), slow, link=link) as connection:
        connection.die()
        await link.until("interrupted")
        await link.run(1.0)
        connection.revive()
        assert await link.until("resumed") <= 4 * STEP_S
        assert slow.closed == [False]
        assert connection.closed == []
        (outage,) = link.seen.outages
        assert outage == pytest.approx(1.1, abs=0.3)
        await link.run(5.0)
        assert link.seen.states[-1] == "resumed"


async def test_a_recovered_old_path_is_used_whatever_is_being_tried(link: Link) -> None:
    stuck = Connection(link, fail=ConnectionFailed("no path"))
    slow = Connection(link, takes_s=1000)
    async with connected(Connection(link), stuck, slow, link=link) as connection:
        connection.die()
        while len(link.opened) < 3:
            await link.run(STEP_S)
        connection.revive()
        assert await link.until("resumed") <= 4 * STEP_S
        assert slow.closed == [False]


async def test_a_connection_that_is_just_made_is_released_with_all_else(link: Link) -> None:
    slow = Connection(link, takes_s=1.03)
    async with connected(Connection(link), slow, link=link) as connection:
        connection.is_open = link.is_sending = False
        while not slow.is_open:
            await link.clock.step()
            await turns()
    assert slow.closed == [False]
    assert connection.closed == [True]


async def test_a_pause_between_attempts_ends_when_the_old_path_recovers(link: Link) -> None:
    async with connected(link=link) as connection:
        connection.die()
        link.signaling.restart_error = link.signaling.offer_error = ServerUnreachable("gone")
        await link.run(DEAD_S + 6.0)  # the next pause takes seconds
        assert link.seen.delays[-1] >= 2.0
        connection.revive()
        assert await link.until("resumed") <= 4 * STEP_S


async def test_a_refusal_in_an_outage_ends_the_session(link: Link) -> None:
    async with connected(link=link) as connection:
        link.signaling.offer_error = ServerRefused(FINAL, "over")
        connection.is_open = False
        await link.run(1.0)
        assert link.uplink.failure is link.signaling.offer_error
        assert link.count("offer") == 2
        assert link.seen.states == ["connected", "interrupted"]


@pytest.mark.parametrize(
    "error",
    [ServerRefused(BUSY, "busy"), ServerRefused(UNCLEAR, "login"), WrongServer("portal")],
    ids=repr,
)
async def test_answers_that_may_come_from_others_do_not_end_the_session(
    link: Link, error: GaplessError
) -> None:
    async with connected(link=link) as connection:
        link.signaling.offer_error = error
        connection.is_open = False
        await link.run(3.0)
        assert link.uplink.failure is None
        link.signaling.offer_error = None
        await link.until("resumed")


async def test_abandoning_an_attempt_releases_it(link: Link) -> None:
    slow = Connection(link, takes_s=1000)
    async with connected(Connection(link), slow, link=link) as connection:
        connection.is_open = False
        await link.run(1.0)
        assert link.opened[-1] is slow
    assert slow.closed == [False]
    assert connection.closed == [True]


# -- the end ---------------------------------------------------------------------------------------


async def test_at_the_end_the_session_is_deleted_and_its_length_is_returned(link: Link) -> None:
    async with connected(link=link) as connection:
        await link.run(1.0)
        assert await link.uplink.close() == 1.0
        assert connection.closed == [True]
        assert link.signaling.deleted == ["session 1"]


@pytest.mark.parametrize(
    ("reported", "waits"),
    [(0, False), (1, False), (-1, True), (-200, True), (-300, True), (-20_000, True)],
)
@pytest.mark.parametrize("last", [100, 65_534, 0, 40_000])
async def test_the_last_packet_is_waited_for(
    link: Link, last: int, reported: int, waits: bool
) -> None:
    async with connected(link=link) as connection:
        link.sequence = (last - 1) % 2**16
        connection.is_deaf = True
        link.send()
        connection.highest_reported = (last + reported) % 2**16
        took = await link.passes(link.uplink.close())
        assert took == pytest.approx(1.5 if waits else 0.0, abs=0.11)
        assert link.count("delete") == 1


async def test_the_report_of_the_last_packet_ends_the_waiting(link: Link) -> None:
    async with connected(link=link) as connection:
        connection.is_deaf = True
        link.send()
        closing = asyncio.ensure_future(link.uplink.close())
        await link.clock.run(0.5)
        assert connection.closed == []
        connection.highest_reported = link.sequence
        await link.clock.run(0.2)
        assert connection.closed == [True]
        await closing


async def test_the_end_does_not_wait_if_nothing_was_sent(link: Link) -> None:
    async with connected(link=link):
        assert await link.passes(link.uplink.close()) == 0.0


@pytest.mark.parametrize(("silent_s", "waits"), [(2.4, True), (2.5, False)])
async def test_the_end_does_not_wait_for_a_silent_server(
    link: Link, silent_s: float, waits: bool
) -> None:
    async with connected(link=link) as connection:
        link.send()
        connection.highest_reported = link.sequence - 1
        connection.die()
        link.clock.advance(silent_s)
        took = await link.passes(link.uplink.close())
        assert took == pytest.approx(1.5 if waits else 0.0, abs=0.11)


async def test_the_end_does_not_wait_for_a_closed_connection(link: Link) -> None:
    async with connected(link=link) as connection:
        connection.is_deaf = True
        link.send()
        connection.is_open = False
        assert await link.passes(link.uplink.close()) == 0.0


@pytest.mark.parametrize(
    "error",
    [ServerRefused(FINAL, "no"), ServerRefused(UNCLEAR, "no"), WrongServer("no")],
    ids=repr,
)
async def test_a_refusal_of_the_server_at_the_end_is_final(link: Link, error: GaplessError) -> None:
    async with connected(link=link):
        link.signaling.delete_errors = [error] * 2
        await link.passes(link.uplink.close())
        assert link.result is error
        assert link.count("delete") == 1


async def test_a_busy_server_is_retried_at_the_end(link: Link) -> None:
    async with connected(link=link):
        link.signaling.delete_errors = [ServerRefused(BUSY, "busy"), ServerUnreachable("gone")]
        took = await link.passes(link.uplink.close())
        assert link.result == 1.0
        assert took == pytest.approx(0.25 + 0.5)


async def test_a_missing_server_is_retried_for_ten_seconds_at_the_end(link: Link) -> None:
    async with connected(link=link):
        link.signaling.delete_errors = [ServerUnreachable("gone")] * 100
        took = await link.passes(link.uplink.close())
        assert isinstance(link.result, EndUnconfirmed)
        assert "gone" in str(link.result)
        # pauses of 0.25, 0.5, 1, 2 and 4 s; the next one would end after ten seconds
        assert took == pytest.approx(7.75)
        assert link.count("delete") == 6


@pytest.mark.parametrize(("each_s", "count"), [(0.3125, 6), (0.5, 5)])
async def test_no_pause_ends_behind_the_tenth_second(link: Link, each_s: float, count: int) -> None:
    """The fifth pause takes four seconds, and ends after 9.3 or after 10.25 s."""
    async with connected(link=link):
        link.signaling.delete_errors = [ServerUnreachable("gone")] * 100
        link.signaling.delete_takes_s = each_s
        await link.passes(link.uplink.close())
        assert isinstance(link.result, EndUnconfirmed)
        assert link.count("delete") == count


async def test_the_pauses_at_the_end_begin_with_the_shortest(link: Link) -> None:
    link.signaling.offer_error = ServerUnreachable("not yet")
    for _ in range(4):
        await link.passes(link.uplink.open())
    link.signaling.offer_error = None
    async with connected(link=link):
        link.signaling.delete_errors = [ServerUnreachable("gone")]
        assert await link.passes(link.uplink.close()) == pytest.approx(0.25)


async def test_a_closed_connection_is_not_closed_again(link: Link) -> None:
    async with connected(link=link) as connection:
        await link.uplink.close()
    assert connection.closed == [True]
    await link.run(5.0)  # no task watches the connection any more
    assert link.seen.states == ["connected"]
    assert link.signaling.closed == 1


async def test_a_session_that_was_never_made_has_no_end(link: Link) -> None:
    assert await link.uplink.close() is None
    assert link.count("delete") == 0
    await link.uplink.abandon()
    assert link.signaling.closed == 1
