"""One session with several connections: the server's service with fake adapters."""

from __future__ import annotations

import datetime
from dataclasses import replace

import numpy as np
import pytest

from domain.errors import OfferRejected, OfferRepeated, SessionUnknown
from domain.recording.effects import EndReason
from domain.rtp.packets import RtpPacket
from domain.services.server.answers import Accepted
from domain.session.ice import IceCandidate, IceServer
from domain.session.session import SessionState
from domain.session.turn import IceServerList, with_credentials
from tests.fakes.media import FakeConnection, packet, payload
from tests.unit.test_sessions_are_recorded import Server, values


@pytest.fixture
def server() -> Server:
    return Server()


async def again(server: Server, accepted: Accepted, sdp: str = "v=0 again") -> Accepted:
    return await server.sessions.offer(sdp, name="", resume=accepted.resume)


def connection(server: Server, number: int) -> FakeConnection:
    return server.transport.connections[number - 1]


async def test_the_outage_is_silent_and_as_long_as_the_sender_says(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(*(packet(n) for n in range(100)))
    server.clock.advance(5.03)  # the sender's timestamps count, not the clock
    second = await again(server, first)
    assert (second.session_id, second.resume) == (first.session_id, first.resume)
    server.receive(*(packet(n) for n in range(350, 400)))
    await server.sessions.delete(first.session_id)
    (stored,) = server.store.recordings.values()
    assert len(stored.samples) == 400 * 960
    assert not stored.samples[100 * 960 : 350 * 960].any()
    assert stored.ledger["spans"] == [
        {"start": 0, "length": 100 * 960, "kind": "received"},
        {"start": 100 * 960, "length": 250 * 960, "kind": "silence"},
        {"start": 350 * 960, "length": 50 * 960, "kind": "received"},
    ]
    events = [(e["type"], e["position"]) for e in stored.ledger["events"]]
    assert events == [
        ("anchor", 0), ("reconnected", 100 * 960), ("outage", 100 * 960), ("anchor", 399 * 960),
    ]  # fmt: skip
    assert server.seen.resumed == [2]


async def test_a_restarted_sender_is_placed_by_the_clock(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(*(packet(n) for n in range(50)))
    server.clock.advance(4.0)
    await again(server, first)
    server.receive(*(packet(n, ssrc=9, sequence=777, timestamp=10**9) for n in range(50)))
    await server.sessions.delete(first.session_id)
    (stored,) = server.store.recordings.values()
    gap = len(stored.samples) - 100 * 960
    assert gap / 48_000 == pytest.approx(4.0, abs=0.02)
    kinds = [span["kind"] for span in stored.ledger["spans"]]
    assert kinds == ["received", "silence", "received"]


async def test_the_old_connection_serves_until_the_first_packet_of_the_new(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(*(packet(n) for n in range(10)), connection=0)
    await again(server, first)
    server.receive(*(packet(n) for n in range(10, 20)), connection=0)
    assert connection(server, 1).closed == 0
    server.receive(*(packet(n) for n in range(20, 30)), connection=1)
    server.receive(packet(30), connection=0)  # a late packet is ignored
    await server.spawned.join()
    assert connection(server, 1).closed == 1
    old_sink = connection(server, 1).sink
    assert old_sink is not None
    old_sink.connection_closed()  # this close is ignored, too
    server.receive(*(packet(n) for n in range(30, 40)), connection=1)
    await server.sessions.delete(first.session_id)
    np.testing.assert_array_equal(server.only_recording, values(*((n, 960) for n in range(40))))


async def test_a_new_connection_is_negotiated_with_the_codec_of_the_recording(
    server: Server,
) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    assert server.transport.codecs == ()
    await again(server, first)
    assert server.transport.codecs == [None]
    server.receive(*(packet(n) for n in range(20)))
    await server.sessions.offer("v=0 third", name="", resume=first.resume)
    assert server.transport.codecs == ["opus"]


async def test_unread_packets_of_the_old_connection_are_not_lost(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(*(packet(n) for n in range(10)), connection=0)
    await again(server, first)
    connection(server, 1).unread = [
        replace(packet(n), arrived=server.clock.now) for n in range(10, 20)
    ]
    server.receive(*(packet(n) for n in range(20, 30)), connection=1)
    await server.sessions.delete(first.session_id)
    np.testing.assert_array_equal(server.only_recording, values(*((n, 960) for n in range(30))))
    (stored,) = server.store.recordings.values()
    assert [span["kind"] for span in stored.ledger["spans"]] == ["received"]


async def test_a_close_of_the_old_connection_does_not_end_the_session(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(packet(0))
    await again(server, first)
    old_sink = connection(server, 1).sink
    assert old_sink is not None
    old_sink.connection_closed()
    server.receive(packet(1), packet(2))
    assert server.sessions.session_count == 1
    new_sink = connection(server, 2).sink
    assert new_sink is not None
    new_sink.connection_established(now=server.clock.now)
    new_sink.connection_closed()
    await server.spawned.join()
    assert server.seen.ended == [EndReason.CLOSED]
    np.testing.assert_array_equal(server.only_recording, values(*((n, 960) for n in range(3))))


async def test_a_new_connection_without_a_path_changes_nothing(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(packet(0))
    await again(server, first)
    sink = connection(server, 2).sink
    assert sink is not None
    sink.connection_closed()  # the new connection has failed
    await server.spawned.join()
    assert connection(server, 2).closed == 1
    server.receive(packet(1), packet(2), connection=0)
    assert server.sessions.session_count == 1


async def test_a_new_connection_without_a_path_is_dropped_at_its_deadline(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(packet(0))
    await again(server, first)
    server.clock.advance(14.9)
    server.sessions.tick()
    assert connection(server, 2).closed == 0
    server.clock.advance(0.2)
    server.sessions.tick()
    await server.spawned.join()
    assert connection(server, 2).closed == 1
    assert connection(server, 1).closed == 0
    assert server.sessions.session_count == 1


async def test_only_the_latest_new_connection_is_kept(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(packet(0))
    for n in range(5):
        await again(server, first, f"v=0 try {n}")
    await server.sessions._spawner.join()
    assert [item.closed for item in server.transport.connections] == [0, 1, 1, 1, 1, 0]


async def test_offers_do_not_keep_a_session_alive(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(packet(0))
    for n in range(3):
        server.clock.advance(10)
        await again(server, first, f"v=0 try {n}")
        sink = connection(server, n + 2).sink
        assert sink is not None
        sink.connection_established(now=server.clock.now)
    server.sessions.tick()  # the session becomes silent
    server.sessions.tick()
    await server.spawned.join()
    assert server.seen.ended == [EndReason.INACTIVE]
    assert all(item.closed == 1 for item in server.transport.connections)


async def test_the_same_offer_twice_gets_the_same_answer(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    assert await server.sessions.offer("v=0 first", name="") == first
    second = await again(server, first)
    assert await again(server, first) == second
    assert second.answer_sdp != first.answer_sdp
    assert len(server.transport.connections) == 2
    assert server.sessions.session_count == 1
    await server.sessions.delete(first.session_id)
    with pytest.raises(OfferRepeated):
        await server.sessions.offer("v=0 first", name="")


async def test_only_the_secret_resumes_and_only_while_the_session_lives(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    with pytest.raises(SessionUnknown):
        await server.sessions.offer("v=0 x", name="", resume=first.session_id)
    await server.sessions.delete(first.session_id)
    with pytest.raises(SessionUnknown):
        await again(server, first)
    assert len(server.transport.connections) == 1


async def test_another_codec_cannot_continue_a_recording(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(*(packet(n) for n in range(20)))
    with pytest.raises(OfferRejected, match="codec"):
        await again(server, first, "v=0 pcmu only")
    assert connection(server, 2).closed == 1
    server.receive(packet(20), connection=0)
    assert server.sessions.session_count == 1


async def test_candidates_go_to_the_latest_connection(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    await again(server, first)
    candidate = IceCandidate("candidate:1", "0", 0)
    server.sessions.add_candidate(first.session_id, candidate)
    assert connection(server, 2).candidates == [candidate]
    assert server.sessions.connection_of(first.resume) is connection(server, 2)


async def test_the_beginning_and_end_of_silence_are_noticed(server: Server) -> None:
    await server.offer()
    sink = connection(server, 1).sink
    assert sink is not None
    sink.connection_established(now=server.clock.now)
    server.receive(packet(0))
    server.clock.advance(2)
    server.sessions.tick()
    assert server.sessions.states() == {
        "connecting": 0, "silent": 1, "recording": 0, "interrupted": 0,
    }  # fmt: skip
    server.receive(packet(100))
    silent, recording = SessionState.SILENT, SessionState.RECORDING
    assert server.seen.states == [silent, recording, silent, recording]


async def test_a_client_without_a_device_keeps_its_session_and_its_time(server: Server) -> None:
    """Empty packets are a sign of life: silence grows with them."""
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(*(packet(n) for n in range(20)))
    for second in range(1, 100):
        server.clock.advance(0.98)
        heartbeat = RtpPacket(111, 20 + second, (20 + 50 * second) * 960, 1, b"")
        server.receive(heartbeat)
        server.sessions.tick()
    server.receive(RtpPacket(111, 121, (20 + 50 * 99 + 10) * 960, 1, payload(7)))
    await server.sessions.delete(first.session_id)
    (stored,) = server.store.recordings.values()
    assert [span["kind"] for span in stored.ledger["spans"]] == ["received", "silence", "received"]
    assert len(stored.samples) == (20 + 50 * 99 + 10 + 1) * 960


async def test_reports_move_on_after_an_outage_of_any_length() -> None:
    server = Server(inactivity_timeout_s=3600)
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(*(packet(n) for n in range(20)))
    server.clock.advance(800)
    await again(server, first)
    server.receive(*(packet(n) for n in range(40_020, 40_040)))
    sink = connection(server, 2).sink
    assert sink is not None
    (report,) = sink.reception_reports()
    assert report is not None
    assert report.highest_sequence == 40_039
    await server.sessions.delete(first.session_id)
    (stored,) = server.store.recordings.values()
    assert len(stored.samples) == 40_040 * 960


async def test_turn_servers_get_credentials_of_their_own() -> None:
    turn, stun = IceServer("turn:t.example"), IceServer("stun:s.example")
    own = IceServer("turn:o.example", "me", "mine")
    server = Server(
        ice_servers=IceServerList(servers=(turn, stun, own), turn_secret="shared", turn_ttl_s=600)
    )
    accepted = await server.sessions.offer("v=0", name="")
    first, second, third = accepted.ice_servers
    assert (second, third) == (stun, own)
    expiry, _, name = (first.username or "").partition(":")
    assert int(expiry) == int(server.clock.utc().timestamp()) + 600
    assert name == accepted.session_id
    assert server.transport.ice_servers == accepted.ice_servers


def test_credentials_are_those_of_coturns_shared_secret_scheme() -> None:

    until = datetime.datetime(2033, 5, 18, 3, 33, 20, tzinfo=datetime.UTC)
    (server,) = with_credentials([IceServer("turn:t")], secret="north", name="user", until=until)
    # echo -n 2000000000:user | openssl dgst -binary -sha1 -hmac north | base64
    assert server == IceServer("turn:t", "2000000000:user", "/qYpRW7rlaQIoQ7JfAyc184OA/A=")
