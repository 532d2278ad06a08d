"""No packet is lost when something else happens before a new connection takes over."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from domain.recording.effects import EndReason
from domain.rtp.packets import RtpPacket
from tests.fakes.media import packet, payload
from tests.unit.test_sessions_are_recorded import Server
from tests.unit.test_what_is_in_flight_is_recorded import Turns, arriving, sink_of


@pytest.fixture
async def server() -> Server:
    """A session that has recorded a packet, and whose second connection is about to take over."""
    server = Server()
    accepted = await server.sessions.offer("v=0 first", name="")
    sink_of(server, 1).packets_received(0, arriving(server, 0))
    await server.sessions.offer("v=0 second", name="", resume=accepted.resume)
    server.resume = accepted.resume  # type: ignore[attr-defined]
    return server


async def recorded(server: Server) -> set[int]:
    """Return the packets in the recording; check that nothing has failed."""
    await server.sessions.shut_down()
    assert server.seen.failures == []
    assert server.seen.ended == [EndReason.SHUTDOWN]
    return set(np.unique(server.only_recording))


async def test_the_old_connection_closes_meanwhile(server: Server) -> None:
    turns = Turns(server)
    sink_of(server, 2).packets_received(0, arriving(server, 1))
    sink_of(server, 1).connection_closed()
    sink_of(server, 2).packets_received(0, arriving(server, 2))
    turns.run()
    sink_of(server, 2).packets_received(0, arriving(server, 3))
    turns.run()
    assert server.seen.resumed == [2]
    assert await recorded(server) == {0, 1, 2, 3}


async def test_the_new_connection_closes_meanwhile(server: Server) -> None:
    turns = Turns(server)
    sink_of(server, 2).packets_received(0, arriving(server, 1))
    sink_of(server, 2).connection_closed()
    turns.run()
    await server.spawned.join()
    assert server.seen.ended == [EndReason.CLOSED]
    assert set(np.unique(server.only_recording)) == {0, 1}


async def test_a_third_connection_overtakes_it(server: Server) -> None:
    turns = Turns(server)
    sink_of(server, 2).packets_received(0, arriving(server, 1))
    await server.sessions.offer("v=0 third", name="", resume=server.resume)  # type: ignore[attr-defined]
    sink_of(server, 1).connection_closed()
    sink_of(server, 3).packets_received(0, arriving(server, 2))
    turns.run()
    assert server.seen.resumed == [2, 3]
    assert await recorded(server) == {0, 1, 2}


async def test_its_deadline_passes_meanwhile(server: Server) -> None:
    sink_of(server, 2).connection_established(now=server.clock.now)
    turns = Turns(server)
    server.clock.advance(14.9)
    sink_of(server, 1).packets_received(0, arriving(server, 1))
    turns.run()
    server.clock.advance(0.2)
    sink_of(server, 2).packets_received(0, arriving(server, 2))
    server.sessions.tick()
    turns.run()
    assert server.transport.connections[1].closed == 0
    assert {1, 2} <= await recorded(server)


async def test_the_inactivity_timeout_passes_meanwhile(server: Server) -> None:
    sink_of(server, 2).connection_established(now=server.clock.now)
    turns = Turns(server)
    for seconds in (0.0, 14.0, 16.1):
        server.clock.advance(seconds)
        if seconds > 14:
            sink_of(server, 2).packets_received(0, arriving(server, 1))
        server.sessions.tick()
    turns.run()
    assert server.sessions.session_count == 1


async def test_the_old_socket_cannot_be_read(server: Server) -> None:
    def unreadable() -> None:
        raise OSError("no such socket")

    server.transport.connections[0].read_pending = unreadable  # type: ignore[method-assign]
    sink_of(server, 2).packets_received(0, arriving(server, 1))
    await asyncio.sleep(0)
    assert [str(error) for error in server.seen.failures] == ["no such socket"]
    await server.spawned.join()
    assert server.seen.ended == [EndReason.FAILED]


async def test_a_connection_that_was_replaced_changes_nothing_any_more(server: Server) -> None:
    await server.sessions.offer("v=0 third", name="", resume=server.resume)  # type: ignore[attr-defined]
    before = server.sessions.states()
    sink_of(server, 2).connection_established(now=server.clock.now)
    sink_of(server, 2).packets_received(0, arriving(server, 1))
    assert server.sessions.states() == before
    assert await recorded(server) == {0}


async def test_another_codec_before_the_first_packet_is_decoded_is_left_out() -> None:
    server = Server()
    accepted = await server.sessions.offer("v=0 first", name="")
    sink_of(server, 1).packets_received(0, arriving(server, 0))  # it waits to be decoded
    await server.sessions.offer("v=0 pcmu only", name="", resume=accepted.resume)
    telephone = [
        RtpPacket(0, n, n * 160, 1, payload(5, length=160), arrived=server.clock.now)
        for n in range(310, 313)
    ]
    sink_of(server, 2).packets_received(0, telephone)
    server.clock.advance(1)
    server.sessions.tick()
    assert await recorded(server) == {0}
    (stored,) = server.store.recordings.values()
    assert stored.ledger["events"][-1]["rejected_payload_type"] == 3


@pytest.mark.parametrize("step", ["drain", "close"])
async def test_a_connection_that_fails_at_the_end_harms_no_recording(step: str) -> None:
    server = Server()

    async def fail() -> None:
        raise OSError("the socket is gone")

    for number in range(2):
        await server.offer()
        server.receive(*(packet(n) for n in range(1, 20)), connection=number)
    setattr(server.transport.connections[0], step, fail)
    with pytest.raises(OSError, match="the socket is gone"):  # what was logged
        await server.sessions.shut_down()
    assert server.seen.ended == [EndReason.SHUTDOWN] * 2
    assert len(server.store.recordings) == 2
    assert server.transport.connections[1].closed == 1
