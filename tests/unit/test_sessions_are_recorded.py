"""The server's service with fake adapters and a fake clock, without sockets or sleeping."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from adapters.storage.memory import MemoryStore
from domain.errors import (
    OfferRejected,
    RecordingIncomplete,
    ServerFull,
    SessionUnknown,
    StorageFull,
)
from domain.recording.effects import EndReason
from domain.recording.ledger import RestoreMode
from domain.recording.restoring import SpoolInfo
from domain.rtp.packets import RtpPacket
from domain.services.server.sessions import SessionService
from domain.session.ice import IceCandidate
from domain.session.policy import SessionPolicy
from domain.session.turn import IceServerList
from domain.sound.formats import AudioFormat
from tests.fakes.events import SeenByServer
from tests.fakes.media import MAX_READ_DELAY_S, FakeServerTransport, packet, payload, plain_decoder
from tests.fakes.restoring import FakePieceStore, restoring
from tests.fakes.time import FakeClock, Spawned


class Server:
    """A `SessionService` with its fakes."""

    def __init__(
        self,
        *,
        ice_servers: IceServerList | None = None,
        pieces: FakePieceStore | None = None,
        **changes: object,
    ) -> None:
        self.transport, self.store, self.clock = FakeServerTransport(), MemoryStore(), FakeClock()
        self.spawned, self.seen = Spawned(), SeenByServer()
        self.offered = 0
        self.began: float | None = None
        """When the first packet of every session arrived, if packets follow it in real time."""
        numbers = itertools.count()
        self.sessions = SessionService(
            policy=SessionPolicy(**changes),  # type: ignore[arg-type]
            ice_servers=ice_servers or IceServerList(),
            transport=self.transport,
            decoders=plain_decoder,
            store=self.store,
            clock=self.clock,
            spawner=self.spawned,
            events=self.seen,
            new_secret=lambda size: f"{next(numbers):0{size}d}",
            restoring=restoring(
                clock=self.clock, spawner=self.spawned, events=self.seen, store=pieces
            ),
        )

    async def offer(self, name: str = "", room: str = "") -> str:
        """Open a session; each offer differs, as ICE credentials would make it."""
        self.offered += 1
        return (await self.sessions.offer(f"v=0 {self.offered}", name=name, room=room)).session_id

    def use(self, store: MemoryStore) -> None:
        """Store what is recorded from now on elsewhere."""
        self.store = self.sessions._store = self.sessions._tracks._store = store

    def receive(self, *packets: RtpPacket, connection: int = -1) -> None:
        sink = self.transport.connections[connection].sink
        assert sink is not None
        for item in packets:
            sink.packets_received(0, [replace(item, arrived=self.clock.now)])
            self.clock.advance(0.02)

    @property
    def only_recording(self) -> np.ndarray:
        (stored,) = self.store.recordings.values()
        return stored.samples[:, 0]


@pytest.fixture
def server() -> Server:
    return Server()


def values(*pieces: tuple[int, int]) -> np.ndarray:
    """Return runs as (value, length)."""
    return np.concatenate([np.full(length, value) for value, length in pieces])


async def test_packets_become_a_recording(server: Server) -> None:
    session = await server.offer("Küche")
    server.receive(*(packet(n) for n in range(1, 6)))
    await server.sessions.delete(session)
    np.testing.assert_array_equal(server.only_recording, values(*((n, 960) for n in range(1, 6))))
    (stored,) = server.store.recordings.values()
    assert stored.info.name.endswith(f"-kuche-{session}")
    assert stored.info.format == AudioFormat(48_000, 1)
    assert stored.ledger["end_reason"] == "deleted"
    assert server.seen.finished == [(f"memory:{stored.info.name}", 0.1)]
    assert server.transport.connections[0].closed == 1
    assert server.sessions.session_count == 0


async def test_padding_between_packets_is_neither_sound_nor_a_loss(server: Server) -> None:
    """It has a number of its own, and the timestamp of the packet before it."""
    await server.offer()
    sent, sequence = [], 0
    for n in range(30):
        for item in (packet(n), *(replace(packet(n), payload=b"") for _ in range(n % 3))):
            sent.append(replace(item, sequence=sequence))
            sequence += 1
    server.receive(*sent)
    await server.sessions.shut_down()
    np.testing.assert_array_equal(server.only_recording, values(*((n, 960) for n in range(30))))
    (stored,) = server.store.recordings.values()
    assert {span["kind"] for span in stored.ledger["spans"]} == {"received"}
    assert {event["type"] for event in stored.ledger["events"]} == {"anchor"}


async def test_missing_sound_is_silence_of_the_same_length(server: Server) -> None:
    session = await server.offer()
    server.receive(packet(1), packet(2), packet(5), packet(6))
    await server.sessions.delete(session)
    np.testing.assert_array_equal(
        server.only_recording, values((1, 960), (2, 960), (0, 1920), (5, 960), (6, 960))
    )


async def test_packets_out_of_order_are_put_in_order(server: Server) -> None:
    session = await server.offer()
    server.receive(packet(1), packet(3), packet(2), packet(3), packet(4))
    await server.sessions.delete(session)
    np.testing.assert_array_equal(server.only_recording, values(*((n, 960) for n in range(1, 5))))


async def test_broken_and_foreign_packets_cost_only_themselves(server: Server) -> None:
    session = await server.offer()
    broken = RtpPacket(111, 2, 960 * 2, 1, b"")
    foreign = RtpPacket(96, 3, 960 * 3, 1, payload(99))
    other_codec = RtpPacket(0, 4, 960 * 4, 1, payload(99))
    server.receive(packet(1), broken, foreign, other_codec, packet(5))
    await server.sessions.delete(session)
    np.testing.assert_array_equal(server.only_recording, values((1, 960), (0, 2880), (5, 960)))


async def test_a_new_source_continues_in_real_time(server: Server) -> None:
    session = await server.offer()
    server.receive(packet(1))
    server.clock.advance(1)
    for n in (2, 3):
        server.receive(packet(n, ssrc=9, sequence=40_000, timestamp=123_456))
    server.receive(packet(1))  # a late packet of the replaced source
    await server.sessions.delete(session)
    np.testing.assert_array_equal(
        server.only_recording, values((1, 960), (0, 48_000), (2, 960), (3, 960))
    )
    (stored,) = server.store.recordings.values()
    breaks = [event for event in stored.ledger["events"] if event["type"] == "discontinuity"]
    assert [(event["position"], event["reason"]) for event in breaks] == [(960, "source")]


async def test_stereo_and_telephone_senders_keep_their_format(server: Server) -> None:
    first, second = await server.offer(), await server.offer()
    server.receive(RtpPacket(111, 1, 0, 1, payload(5, stereo=True)), connection=0)
    server.receive(RtpPacket(0, 1, 0, 1, payload(6, length=160)), connection=1)
    await server.sessions.delete(first)
    await server.sessions.delete(second)
    formats = [stored.info.format for stored in server.store.recordings.values()]
    assert formats == [AudioFormat(48_000, 2), AudioFormat(8_000, 1)]


async def test_thirty_seconds_without_packets_end_a_session(server: Server) -> None:
    await server.offer()
    server.receive(packet(1))
    server.clock.advance(29.9)
    server.sessions.tick()
    assert server.sessions.session_count == 1
    server.clock.advance(0.1)
    server.sessions.tick()
    await server.spawned.join()
    assert server.seen.ended == [EndReason.INACTIVE]
    assert len(server.only_recording) == 960


async def test_an_offer_that_never_connects_leaves_nothing(server: Server) -> None:
    await server.offer()
    server.transport.connections[0].obstacle = "the peer is mute"
    server.clock.advance(15)
    server.sessions.tick()
    await server.spawned.join()
    assert server.seen.ended == [EndReason.INACTIVE]
    assert server.seen.details == ["the peer is mute"]
    assert server.sessions.session_count == 0
    assert server.transport.connections[0].closed == 1
    assert server.store.recordings == {}


async def test_a_clean_close_ends_the_recording_at_once(server: Server) -> None:
    await server.offer()
    server.receive(packet(1))
    sink = server.transport.connections[0].sink
    assert sink is not None
    sink.connection_closed()
    await server.spawned.join()
    assert server.seen.ended == [EndReason.CLOSED]
    assert server.seen.details == [None]
    assert len(server.only_recording) == 960


@pytest.mark.parametrize("is_flowing", [True, False])
async def test_a_page_that_is_reloaded_ends_nothing(server: Server, is_flowing: bool) -> None:
    mono = AudioFormat(48_000, 1)
    spool = SpoolInfo(None, mono, RestoreMode.ALL, position=0)
    accepted = await server.sessions.offer("v=0", name="", spool=spool)
    if is_flowing:
        server.receive(packet(1))
    sink = server.transport.connections[0].sink
    assert sink is not None
    sink.connection_closed()
    again = SpoolInfo(None, mono, RestoreMode.ALL, position=48_000)
    resumed = await server.sessions.offer("v=0", name="", resume=accepted.resume, spool=again)
    assert resumed.session_id == accepted.session_id
    await server.sessions.delete(accepted.session_id)
    await server.spawned.join()
    assert server.seen.ended == [EndReason.DELETED]


async def test_the_end_of_a_session_says_why_its_connection_failed(server: Server) -> None:
    await server.offer()
    sink = server.transport.connections[0].sink
    assert sink is not None
    sink.connection_closed("the handshake failed")
    await server.spawned.join()
    assert server.seen.ended == [EndReason.CLOSED]
    assert server.seen.details == ["the handshake failed"]


async def test_the_outcome_of_a_session_can_be_queried_for_a_minute(server: Server) -> None:
    session = await server.offer()
    server.receive(packet(1))
    await server.sessions.delete(session)
    await server.sessions.delete(session)
    server.clock.advance(60)
    server.sessions.tick()
    with pytest.raises(SessionUnknown):
        await server.sessions.delete(session)


async def test_a_recording_that_cannot_be_stored_ends_its_session_and_is_reported() -> None:
    server = Server()
    server.use(MemoryStore(limit_bytes=5 * 1920))
    session = await server.offer()
    server.receive(*(packet(n) for n in range(50)))
    server.sessions.tick()
    await server.spawned.join()
    assert server.seen.ended == [EndReason.STORAGE_FAILED]
    (stored,) = server.store.recordings.values()
    assert stored.ledger["end_reason"] == "storage failed"
    assert stored.ledger["events"][-1]["type"] == "storage failed"
    assert len(stored.samples) == 5 * 960
    with pytest.raises(RecordingIncomplete, match="memory"):
        await server.sessions.delete(session)
    with pytest.raises(StorageFull):
        await server.offer()


async def test_a_connection_without_packets_has_the_inactivity_timeout(
    server: Server,
) -> None:
    await server.offer()
    sink = server.transport.connections[0].sink
    assert sink is not None
    server.clock.advance(10)
    sink.connection_established(now=server.clock.now)
    server.clock.advance(29.9)
    server.sessions.tick()
    assert server.sessions.session_count == 1
    server.clock.advance(0.1)
    server.sessions.tick()
    await server.spawned.join()
    assert server.seen.ended == [EndReason.INACTIVE]


async def test_packets_that_wait_for_others_are_written_at_the_end(server: Server) -> None:
    session = await server.offer()
    server.receive(packet(1), packet(3))
    await server.sessions.delete(session)
    np.testing.assert_array_equal(server.only_recording, values((1, 960), (0, 960), (3, 960)))


async def test_a_hole_is_given_up_by_time_even_when_nothing_more_comes(server: Server) -> None:
    await server.offer()
    server.receive(*(packet(n) for n in range(20)), packet(21))
    server.clock.advance(1.0 + MAX_READ_DELAY_S)
    server.sessions.tick()
    server.receive(packet(20))
    await server.sessions.shut_down()
    assert len(server.only_recording) == 22 * 960
    assert not server.only_recording[20 * 960 : 21 * 960].any()


async def test_a_packet_that_arrived_in_time_may_be_read_late(server: Server) -> None:
    await server.offer()
    server.receive(*(packet(n) for n in range(20)), packet(21))
    came = server.clock.now
    server.clock.advance(0.2 + MAX_READ_DELAY_S / 2)
    server.sessions.tick()
    sink = server.transport.connections[-1].sink
    assert sink is not None
    sink.packets_received(0, [replace(packet(20), arrived=came)])
    await server.sessions.shut_down()
    np.testing.assert_array_equal(server.only_recording, values(*((n, 960) for n in range(22))))


async def test_the_first_packet_may_be_overtaken_too(server: Server) -> None:
    session = await server.offer()
    server.receive(packet(3), packet(4), packet(1), packet(2), packet(5))
    await server.sessions.delete(session)
    np.testing.assert_array_equal(server.only_recording, values(*((n, 960) for n in range(1, 6))))


async def test_a_shutdown_completes_every_recording_and_refuses_offers() -> None:
    server = Server()
    for n in range(3):
        await server.offer(f"s{n}")
        server.receive(packet(1))
    await server.sessions.shut_down()
    assert len(server.store.recordings) == 3
    assert server.seen.ended == [EndReason.SHUTDOWN] * 3
    with pytest.raises(ServerFull):
        await server.offer()


async def test_a_refused_offer_leaves_nothing_behind(server: Server) -> None:
    with pytest.raises(OfferRejected):
        await server.sessions.offer("bad", name="")
    assert server.sessions.session_count == 0


async def test_there_are_no_more_sessions_than_allowed() -> None:
    server = Server(max_sessions=2)
    await server.offer()
    session = await server.offer()
    with pytest.raises(ServerFull):
        await server.offer()
    await server.sessions.delete(session)
    await server.offer()


async def test_candidates_reach_their_session_and_no_other(server: Server) -> None:
    session = await server.offer()
    await server.offer()
    candidate = IceCandidate("candidate:1", "0", 0)
    server.sessions.add_candidate(session, candidate)
    assert [c.candidates for c in server.transport.connections] == [[candidate], []]
    with pytest.raises(SessionUnknown):
        server.sessions.add_candidate("nobody", candidate)


async def test_a_fault_in_one_session_ends_that_one_and_no_other(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.offer("broken")
    await server.offer("sound")
    create = server.store.create

    def fail_once(*arguments: object) -> object:
        monkeypatch.setattr(server.store, "create", create)
        raise RuntimeError("a fault")

    monkeypatch.setattr(server.store, "create", fail_once)
    server.receive(packet(1), packet(2), connection=0)
    server.receive(packet(1), packet(2), connection=1)
    server.clock.advance(0.2 + MAX_READ_DELAY_S)
    server.sessions.tick()
    await server.sessions.shut_down()
    assert [str(error) for error in server.seen.failures] == ["a fault"]
    assert server.seen.ended == [EndReason.FAILED, EndReason.SHUTDOWN]
    assert len(server.only_recording) == 1920


async def test_reports_are_about_the_packets_that_came(server: Server) -> None:
    await server.offer()
    sink = server.transport.connections[0].sink
    assert sink is not None
    assert sink.reception_reports() == ()
    server.receive(packet(1), packet(3))
    (report,) = sink.reception_reports()
    assert report is not None
    assert report.packets_lost == 1


async def test_sources_that_take_turns_make_one_break_and_no_sound_twice(server: Server) -> None:
    session = await server.offer()
    server.receive(*(packet(n) for n in range(20)))
    for n in range(20, 60):
        server.receive(packet(n, ssrc=9))
        server.receive(packet(n - 20))  # the replaced source still sends
    await server.sessions.delete(session)
    (stored,) = server.store.recordings.values()
    breaks = [event for event in stored.ledger["events"] if event["type"] == "discontinuity"]
    assert len(breaks) == 1
    assert stored.ledger["events"][-1]["rejected_left_source"] >= 38
    assert set(server.only_recording.tolist()) == set(range(60))


async def test_the_start_is_when_the_first_packet_came(server: Server) -> None:
    session = await server.offer()
    began = server.clock.utc()
    server.receive(*(packet(n) for n in range(20)))
    await server.sessions.delete(session)
    (stored,) = server.store.recordings.values()
    assert stored.info.started_at == began
    assert stored.ledger["events"][0]["at"] == stored.ledger["started_at"]


async def test_an_empty_packet_first_decides_nothing(server: Server) -> None:
    session = await server.offer()
    server.receive(RtpPacket(0, 0, 0, 1, b""))
    server.receive(*(packet(n) for n in range(1, 20)))
    await server.sessions.delete(session)
    assert len(server.only_recording) == 19 * 960


async def test_reports_start_again_with_a_restarted_sequence(server: Server) -> None:
    await server.offer()
    sink = server.transport.connections[0].sink
    assert sink is not None
    server.receive(*(packet(n) for n in range(20)))
    server.receive(*(packet(n, sequence=20_000, timestamp=77) for n in range(20, 40)))
    (report,) = sink.reception_reports()
    assert report is not None
    assert (report.packets_lost, report.fraction_lost) == (0, 0)


@pytest.mark.parametrize("let_go_by", ["packet", "clock"])
async def test_the_start_of_a_recording_is_reported_once(server: Server, let_go_by: str) -> None:
    await server.offer()
    server.receive(packet(1), packet(2))
    assert server.seen.started == []
    server.clock.advance(0.2)
    if let_go_by == "clock":
        server.sessions.tick()
    server.receive(packet(3), packet(4))
    server.sessions.tick()
    assert server.seen.started == [AudioFormat(48_000, 1)]
