"""From a hole to a NACK at the server, and from a NACK to packets at the client."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from domain.ports.media import PathReport
from domain.rtp.packets import RtpPacket
from domain.services.server.track_receiver import TrackReceiver
from tests.fakes.media import OPUS, FakeConnection, packet
from tests.unit.test_a_track_is_received_in_order import started
from tests.unit.test_sessions_are_recorded import Server
from tests.unit.test_the_way_to_the_server_is_kept import Link, connected, link, turns

__all__ = ["link"]


def run(server: Server, seconds: float) -> None:
    """Let time pass, with its timers and ticks."""
    for _ in range(round(seconds / 0.01)):
        server.clock.advance(0.01)
        server.spawned.run_timers()
    server.sessions.tick()
    server.spawned.run_timers()


async def recording(**changes: object) -> tuple[Server, FakeConnection]:
    """A session that records; packets 0 to 4 have come."""
    server = Server(**{"reorder_hold_s": 1.0, **changes})
    await server.offer()
    server.receive(*(packet(n) for n in range(5)))
    run(server, 0.6)  # the first packets wait
    return server, server.transport.connections[0]


# -- the server ------------------------------------------------------------------------------------


async def test_missing_packets_are_asked_for_and_recorded_when_they_come() -> None:
    server, connection = await recording()
    server.receive(packet(5), packet(8))
    run(server, 0.05)
    assert connection.requested == [(0, 1, [6, 7])]
    server.receive(packet(6), packet(7), packet(9))
    run(server, 1.0)
    assert len(connection.requested) == 1
    await server.sessions.shut_down()
    (stored,) = server.store.recordings.values()
    assert [span["kind"] for span in stored.ledger["spans"]] == ["received"]
    assert len(stored.samples) == 10 * 960
    (event,) = [item for item in stored.ledger["events"] if item["type"] == "retransmitted"]
    assert (event["count"], event["position"]) == (2, 10 * 960)
    assert not any(item["type"] == "stall" for item in stored.ledger["events"])


async def test_without_a_hole_no_timer_runs_and_the_ledger_says_nothing() -> None:
    server, connection = await recording()
    server.receive(*(packet(n) for n in range(5, 50)))
    assert server.spawned.timers == []
    assert connection.requested == []
    await server.sessions.shut_down()
    (stored,) = server.store.recordings.values()
    assert not any(item["type"] == "retransmitted" for item in stored.ledger["events"])


async def test_the_timer_ends_with_the_last_hole_and_with_the_session() -> None:
    server, _ = await recording()
    server.receive(packet(6))
    assert len(server.spawned.timers) == 1
    run(server, 0.05)
    server.receive(packet(5))
    run(server, 0.05)
    assert server.spawned.timers == []
    server.receive(packet(8))
    assert len(server.spawned.timers) == 1
    await server.sessions.shut_down()
    run(server, 0.02)
    assert server.spawned.timers == []


async def test_one_timer_serves_all_sessions() -> None:
    server = Server(reorder_hold_s=1.0)
    for _ in range(3):
        await server.offer()
        server.receive(*(packet(n) for n in range(5)))
    run(server, 2.0)
    for number in range(3):
        server.receive(packet(6), connection=number)
    assert len(server.spawned.timers) == 1
    run(server, 0.05)
    assert all(item.requested == [(0, 1, [5])] for item in server.transport.connections)
    await server.sessions.shut_down()


async def test_a_fault_while_asking_ends_its_session_and_no_other() -> None:
    server, faulty = await recording()
    await server.offer()
    server.receive(*(packet(n) for n in range(5)))
    run(server, 2.0)

    def fail(*_arguments: object) -> None:
        raise RuntimeError("a fault")

    faulty.request_retransmission = fail  # type: ignore[method-assign]
    for number in range(2):
        server.receive(packet(6), connection=number)
    run(server, 0.05)
    assert len(server.seen.failures) == 1
    assert server.transport.connections[1].requested == [(0, 1, [5])]
    await server.sessions.shut_down()


async def test_requests_go_over_the_connection_that_serves() -> None:
    server = Server(reorder_hold_s=1.0)
    accepted = await server.sessions.offer("v=0 first", name="")
    server.receive(*(packet(n) for n in range(5)))
    run(server, 2.0)
    await server.sessions.offer("v=0 second", name="", resume=accepted.resume)
    server.receive(packet(5), connection=1)
    server.receive(packet(7), connection=1)
    run(server, 2.0)
    old, new = server.transport.connections
    assert old.requested == []
    assert new.requested[0] == (0, 1, [6])
    sink = old.sink
    assert sink is not None
    sink.packet_repeated(1, 6, now=server.clock.now)  # of the old connection: ignored
    await server.sessions.shut_down()


def test_nothing_is_asked_for_before_the_first_packet_and_after_a_restart() -> None:
    receiver = TrackReceiver(reorder_hold_s=1.0)
    assert receiver.request_missing(now=0.0) is None
    receiver = started(hold_s=1.0)
    receiver.packets_received([arriving(3, 1.0)])
    assert receiver.is_incomplete
    request = receiver.request_missing(now=1.05)
    assert request is not None
    assert (request.ssrc, request.sequences) == (1, [2])
    again = [replace(arriving(n, 1.1), sequence=30_000 + n, timestamp=5 + n) for n in (2, 3)]
    receiver.packets_received(again)
    assert receiver.request_missing(now=1.2) is None
    assert not receiver.is_incomplete


def test_packets_with_a_copy_at_hand_are_not_asked_for() -> None:
    receiver = started(hold_s=1.0)
    header = (0x80 | 111) << 24 | 960 << 10 | 3
    carrier = replace(
        arriving(4, 1.0), payload_type=63, payload=header.to_bytes(4, "big") + b"\x6foldnew"
    )
    receiver.packets_received([carrier])
    request = receiver.request_missing(now=1.05)
    assert request is not None
    assert request.sequences == [2]  # 3 is in the packet behind it


def test_a_retransmission_counts_as_received_and_says_nothing_of_jitter() -> None:
    receiver = started(hold_s=1.0)
    receiver.packets_received([arriving(3, 1.06)])
    receiver.request_missing(now=1.1)
    before = receiver.reception_report()
    assert before is not None
    assert before.packets_lost == 1
    receiver.packets_received([arriving(2, 1.5)])
    after = receiver.reception_report()
    assert after is not None
    assert (after.packets_lost, after.jitter) == (0, before.jitter)
    passed = [item for item in receiver.collect() if isinstance(item, RtpPacket)]
    # it is dated as if it had not been lost
    assert [(item.sequence, item.arrived) for item in passed] == [(2, 1.06), (3, 1.06)]


def arriving(n: int, at: float) -> RtpPacket:
    return RtpPacket(OPUS.payload_type, n, n * 960, 1, b"x", arrived=at)


# -- the client ------------------------------------------------------------------------------------


def sequences(packets: list[RtpPacket]) -> list[int]:
    return [item.sequence for item in packets]


async def test_the_client_sends_again_what_it_is_asked_for(link: Link) -> None:
    async with connected(link=link) as connection:
        await link.run(1.0)
        assert connection.on_requested is not None
        wanted = sequences(connection.sent)[-5:-2]
        connection.on_requested([*wanted, (link.sequence + 7) % 2**16])
        assert sequences(connection.sent_again) == wanted
        connection.on_requested(wanted)  # in the same moment: they are on their way
        assert len(connection.sent_again) == 3
        await link.clock.run(0.1)
        connection.on_requested(wanted)
        assert len(connection.sent_again) == 6


async def test_it_sends_packets_of_an_earlier_connection_again(link: Link) -> None:
    async with connected(link=link) as first:
        await link.run(1.0)
        lost = sequences(first.sent)[-3:]
        first.die()
        await link.run(6.0)
        second = link.opened[1]
        assert second.sent
        assert second.on_requested is not None
        second.on_requested(lost)
        assert sequences(second.sent_again) == lost


async def test_at_the_end_the_last_packet_is_sent_again_until_it_is_reported(link: Link) -> None:
    async with connected(link=link) as connection:
        connection.is_deaf = True
        link.send()
        await link.passes(link.uplink.close())
        assert connection.sent_again
        assert set(sequences(connection.sent_again)) == {link.sequence}


async def test_on_a_lossy_path_the_last_packet_is_sent_again_before_a_report(link: Link) -> None:
    async with connected(link=link) as connection:
        connection.is_deaf = True
        connection.path_report = PathReport(0.1, 0.6, link.clock.now)
        link.send()
        closing = asyncio.ensure_future(link.uplink.close())
        began = link.clock.now
        while link.clock.now < began + 0.2:  # a report that comes now is about earlier packets
            await link.clock.step()
            await turns()
        assert len(connection.sent_again) >= 2
        assert set(sequences(connection.sent_again)) == {link.sequence}
        await link.passes(closing)


async def test_a_reported_last_packet_is_not_sent_again(link: Link) -> None:
    async with connected(link=link) as connection:
        await link.run(1.0)
        await link.passes(link.uplink.close())
        assert connection.sent_again == []


async def test_the_end_waits_while_the_server_asks_for_packets(link: Link) -> None:
    async with connected(link=link) as connection:
        await link.run(1.0)
        assert connection.on_requested is not None
        connection.on_requested(sequences(connection.sent)[-1:])
        took = await link.passes(link.uplink.close())
        assert took == pytest.approx(0.3, abs=0.11)
