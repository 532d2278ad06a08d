"""Ends, take-overs and faults: no packet that arrives is lost, and no other session suffers."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from domain.errors import (
    OfferRejected,
    OfferRepeated,
    RecordingIncomplete,
    ServerFull,
    SessionUnknown,
    StorageFailed,
)
from domain.events.server import (
    RecordingCompleted,
)
from domain.ports.media import MediaSink
from domain.recording.effects import EndReason
from domain.recording.restoring import SpoolInfo
from domain.rtp.packets import RtpPacket
from domain.rtp.reports import SenderReport
from domain.services.server.answers import Accepted
from domain.services.server.delivery import DECODED_TOGETHER
from domain.session.ice import IceCandidate
from domain.sound.formats import AudioFormat
from tests.fakes.media import FakeConnection, PlainDecoder, packet
from tests.fakes.restoring import FakePieceStore
from tests.unit.test_sessions_are_recorded import Server, values


@pytest.fixture
def server() -> Server:
    return Server()


def sink_of(server: Server, number: int) -> MediaSink:
    sink = server.transport.connections[number - 1].sink
    assert sink is not None
    return sink


def arriving(server: Server, *numbers: int) -> list[RtpPacket]:
    """Packets that arrive now, or arrived in time and are read now if sound is `flowing`."""
    if (began := server.began) is None:
        return [replace(packet(n), arrived=server.clock.now) for n in numbers]
    return [replace(packet(n), arrived=began + 0.02 * n) for n in numbers]


def hold_back_in_flight(server: Server, connection: FakeConnection, *numbers: int) -> None:
    """Let packets arrive while the connection drains."""

    async def drain() -> None:
        await asyncio.sleep(0)
        assert connection.sink is not None
        connection.sink.packets_received(0, arriving(server, *numbers))

    connection.drain = drain  # type: ignore[method-assign]


class Turns:
    """A spawner whose work runs when the test says so."""

    def __init__(self, server: Server) -> None:
        self._calls: list[Callable[[], None]] = []
        server.spawned.soon = self._calls.append  # type: ignore[method-assign]

    def __len__(self) -> int:
        return len(self._calls)

    def run_one(self) -> None:
        self._calls.pop(0)()

    def run(self) -> None:
        while self._calls:
            self.run_one()


# -- packets in flight -----------------------------------------------------------------------------


async def test_packets_that_arrive_while_a_session_is_deleted_are_recorded(server: Server) -> None:
    session = await server.offer()
    server.receive(*(packet(n) for n in range(1, 20)))
    hold_back_in_flight(server, server.transport.connections[0], 20, 21)
    assert await server.sessions.delete(session) == pytest.approx(21 * 0.02)
    np.testing.assert_array_equal(server.only_recording, values(*((n, 960) for n in range(1, 22))))


async def test_packets_that_arrive_during_a_shutdown_are_recorded(server: Server) -> None:
    for n in range(3):
        await server.offer()
        server.receive(*(packet(n) for n in range(1, 20)), connection=n)
        hold_back_in_flight(server, server.transport.connections[n], 20, 21)
    await server.sessions.shut_down()
    lengths = [len(stored.samples) for stored in server.store.recordings.values()]
    assert lengths == [21 * 960] * 3


async def test_an_offer_in_progress_is_refused_at_a_shutdown(
    server: Server,
) -> None:
    accept, may_go_on = server.transport.accept, asyncio.Event()

    async def slowly(*arguments: object, **more: object) -> FakeConnection:
        await may_go_on.wait()
        return await accept(*arguments, **more)  # type: ignore[arg-type]

    server.transport.accept = slowly  # type: ignore[method-assign]
    offering = asyncio.ensure_future(server.offer())
    await asyncio.sleep(0.0)
    await asyncio.sleep(0.0)
    assert server.sessions.places_taken == 1
    going_down = asyncio.ensure_future(server.sessions.shut_down())
    await asyncio.sleep(0.0)
    may_go_on.set()
    with pytest.raises(ServerFull, match="shutting down"):
        await offering
    await going_down
    assert server.transport.connections[0].closed == 1
    assert (server.sessions.places_taken, server.seen.opened) == (0, [])


async def test_offers_in_progress_count_as_sessions() -> None:
    server = Server(max_sessions=1)
    first, second = server.offer(), server.offer()
    done = await asyncio.gather(first, second, return_exceptions=True)
    assert sum(isinstance(result, ServerFull) for result in done) == 1
    assert server.sessions.places_taken == 1


async def test_offers_count_as_sessions_while_the_disk_is_waited_for() -> None:
    pieces = FakePieceStore()
    pieces.may_go_on.clear()
    server = Server(pieces=pieces, max_sessions=1)
    spool = SpoolInfo(0, AudioFormat(48_000, 1))
    first = asyncio.ensure_future(server.sessions.offer("v=0 1", name="", spool=spool))
    while not pieces.is_waiting:
        await asyncio.sleep(0)
    with pytest.raises(ServerFull):
        await server.sessions.offer("v=0 2", name="", spool=spool)
    pieces.may_go_on.set()
    await first
    assert server.sessions.places_taken == 1


# -- answers ---------------------------------------------------------------------------------------


async def test_an_offer_of_a_session_that_has_ended_opens_no_other_one(server: Server) -> None:
    await server.sessions.offer("v=0 same", name="")
    server.receive(packet(1))
    sink_of(server, 1).connection_closed()
    for _ in range(2):  # while it ends, and after that
        with pytest.raises(OfferRepeated):
            await server.sessions.offer("v=0 same", name="")
        await server.spawned.join()
    assert len(server.transport.connections) == 1


async def test_an_offer_whose_connection_was_replaced_is_spent(server: Server) -> None:
    first = await server.sessions.offer("v=0 first", name="")
    server.receive(packet(1))
    resumed = await server.sessions.offer("v=0 second", name="", resume=first.resume)
    server.receive(*(packet(n) for n in (2, 3)))
    assert await server.sessions.offer("v=0 second", name="", resume=first.resume) == resumed
    with pytest.raises(OfferRepeated):
        await server.sessions.offer("v=0 first", name="")


async def test_the_same_description_for_another_session_is_another_offer(server: Server) -> None:
    one, two = [await server.sessions.offer(f"v=0 {n}", name="") for n in range(2)]
    answers = [
        await server.sessions.offer("v=0 same", name="", resume=item.resume) for item in (one, two)
    ]
    assert [answer.session_id for answer in answers] == [one.session_id, two.session_id]
    assert len(server.transport.connections) == 4


async def test_a_client_that_gives_up_waiting_finds_its_answer_later(server: Server) -> None:
    accept, may_go_on = server.transport.accept, asyncio.Event()

    async def slowly(*arguments: object, **more: object) -> FakeConnection:
        await may_go_on.wait()
        return await accept(*arguments, **more)  # type: ignore[arg-type]

    server.transport.accept = slowly  # type: ignore[method-assign]
    asking = asyncio.ensure_future(server.sessions.offer("v=0", name=""))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    again = asyncio.ensure_future(server.sessions.offer("v=0", name=""))
    await asyncio.sleep(0)
    may_go_on.set()
    accepted = await again
    assert accepted.answer_sdp == "v=0 answer 1"
    assert server.sessions.session_count == 1


async def test_an_offer_that_was_refused_may_be_made_again(server: Server) -> None:
    accept = server.transport.accept

    async def refuse(*arguments: object, **more: object) -> FakeConnection:
        raise OfferRejected("not now")

    server.transport.accept = refuse  # type: ignore[method-assign]
    with pytest.raises(OfferRejected):
        await server.sessions.offer("v=0", name="")
    server.transport.accept = accept  # type: ignore[method-assign]
    await server.sessions.offer("v=0", name="")


async def test_secrets_are_long_and_are_not_shown(server: Server) -> None:
    accepted = await server.sessions.offer("v=0", name="")
    assert (len(accepted.session_id), len(accepted.resume)) == (16, 32)
    shown = repr(Accepted("id", "the secret", "the description", "tag", ()))
    assert "the secret" not in shown
    assert "the description" not in shown


# -- decoding together -----------------------------------------------------------------------------


async def flowing(server: Server, count: int) -> None:
    """Open sessions, each with its first packet recorded."""
    server.began = server.clock.now
    for n in range(count):
        await server.offer()
        sink_of(server, n + 1).packets_received(0, arriving(server, 0))
    server.clock.advance(1.0)
    server.sessions.tick()
    assert len(server.seen.started) == count


async def test_sessions_are_decoded_twelve_at_a_time_and_then_stored(server: Server) -> None:
    log: list[str] = []

    class Decoder(PlainDecoder):
        def decode(self, payload: bytes) -> int:
            log.append("decode")
            return super().decode(payload)

    server.sessions._tracks._decoders = lambda _codec, audio_format: Decoder(audio_format)
    await flowing(server, 30)
    store = server.sessions._sessions
    for live in store.values():
        (track,) = live.tracks
        writer = track._recorder._writer._writer
        assert writer is not None
        append = writer.append

        def logged(*arguments: object, append: Callable[..., None] = append) -> None:
            log.append("store")
            append(*arguments)

        writer.append = logged  # type: ignore[method-assign]
    turns = Turns(server)
    log.clear()
    for n in range(30):
        sink_of(server, n + 1).packets_received(0, arriving(server, 1))
    assert log == []
    steps = []
    while len(turns):
        assert len(turns) == 1
        turns.run_one()
        steps.append((log.count("decode"), log.count("store")))
        assert log == sorted(log)  # all sessions are decoded before any is stored
        log.clear()
    assert DECODED_TOGETHER == 12
    assert steps == [(12, 12), (12, 12), (6, 6)]


async def test_a_single_packet_does_not_wait_for_others(server: Server) -> None:
    await flowing(server, 1)
    turns = Turns(server)
    sink_of(server, 1).packets_received(0, arriving(server, 1))
    assert len(turns) == 1
    turns.run()
    assert recorded(server, 0) == 2 * 960
    assert len(turns) == 0


async def test_packets_released_by_a_take_over_are_decoded(
    server: Server,
) -> None:
    await flowing(server, 2)
    await server.sessions.offer("v=0 again", name="", resume=_secret(server, 0))
    sink_of(server, 1).packets_received(0, arriving(server, 3))  # waits for 1 and 2
    turns = Turns(server)
    sink_of(server, 2).packets_received(0, arriving(server, 1))  # decoding is due before
    # of another source: the old one's packets wait no longer
    another = [replace(item, ssrc=2) for item in arriving(server, 4)]
    sink_of(server, 3).packets_received(0, another)
    turns.run()
    assert [recorded(server, n) for n in range(2)] == [4 * 960, 2 * 960]


async def test_sender_reports_that_come_before_a_take_over_are_passed_on_behind_its_packets(
    server: Server,
) -> None:
    await flowing(server, 1)
    await server.sessions.offer("v=0 again", name="", resume=_secret(server, 0))
    (track,) = next(iter(server.sessions._sessions.values())).tracks
    passed: list[SenderReport] = []
    track.sender_reported = lambda report: not passed.append(report)  # type: ignore[method-assign]
    turns = Turns(server)
    sink_of(server, 2).packets_received(0, arriving(server, 1, 2))
    report = SenderReport(ssrc=1, ntp=5 << 32, rtp_timestamp=960, arrived=server.clock.now)
    sink_of(server, 2).sender_reported(report)
    assert passed == []
    turns.run()
    assert passed == [report]


async def test_a_take_over_needs_no_old_connection(server: Server) -> None:
    await flowing(server, 1)
    await server.sessions.offer("v=0 again", name="", resume=_secret(server, 0))
    turns = Turns(server)
    sink_of(server, 2).packets_received(0, arriving(server, 1, 2))
    sink_of(server, 1).connection_closed()
    turns.run()
    assert server.seen.failures == []
    await server.sessions.shut_down()
    assert len(server.only_recording) == 3 * 960


def recorded(server: Server, number: int) -> int:
    """Samples of a session that are on their way to the store."""
    live = list(server.sessions._sessions.values())[number]
    return live.tracks[0]._recorder._recording.length


async def test_a_fault_while_decoding_ends_its_session_and_no_other(server: Server) -> None:
    await flowing(server, 3)

    def fail(*_arguments: object) -> None:
        raise RuntimeError("a fault")

    live = list(server.sessions._sessions.values())[1]
    live.tracks[0].decode = fail  # type: ignore[method-assign]
    turns = Turns(server)
    for n in range(3):
        sink_of(server, n + 1).packets_received(0, arriving(server, 1))
    turns.run()
    await server.sessions.shut_down()
    assert sorted(reason.value for reason in server.seen.ended) == [
        "failed",
        "shutdown",
        "shutdown",
    ]
    assert [str(error) for error in server.seen.failures][:1] == ["a fault"]
    lengths = [len(stored.samples) for stored in server.store.recordings.values()]
    assert lengths.count(2 * 960) == 2


@pytest.mark.parametrize("step", ["packets_received", "poll", "connect"])
async def test_a_fault_while_receiving_ends_its_session_and_no_other(
    server: Server, step: str
) -> None:
    await flowing(server, 2)

    def fail(*_arguments: object, **_more: object) -> bool:
        raise RuntimeError("a fault")

    live = next(iter(server.sessions._sessions.values()))
    setattr(live.tracks[0], step, fail)
    if step == "connect":
        await server.sessions.offer("v=0 again", name="", resume=_secret(server, 0))
        sink_of(server, 3).packets_received(0, arriving(server, 1))
    for n in range(2):
        sink_of(server, n + 1).packets_received(0, arriving(server, 1))
    server.sessions.tick()
    for n in range(2):
        sink_of(server, n + 1).packets_received(0, arriving(server, 2))  # nothing more is recorded
    await server.sessions.shut_down()
    assert sorted(reason.value for reason in server.seen.ended) == ["failed", "shutdown"]
    assert [str(error) for error in server.seen.failures] == ["a fault"]
    assert max(len(stored.samples) for stored in server.store.recordings.values()) == 3 * 960


def _secret(server: Server, number: int) -> str:
    """Return the secret of a session; the fake counter makes one for each."""
    return f"{number:032d}"


# -- one connection after the other ----------------------------------------------------------------


async def test_a_take_over_reads_the_old_connection_first_and_happens_once(server: Server) -> None:
    await flowing(server, 1)
    await server.sessions.offer("v=0 again", name="", resume=_secret(server, 0))
    turns = Turns(server)
    old, new = server.transport.connections
    old.unread = arriving(server, 1, 2)
    sink_of(server, 2).packets_received(0, arriving(server, 3))
    sink_of(server, 2).packets_received(0, arriving(server, 4, 5))
    turns.run()
    assert (old.closed, new.closed) == (0, 0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (old.closed, new.closed) == (1, 0)
    sink_of(server, 1).packets_received(0, arriving(server, 99))
    sink_of(server, 2).packets_received(0, arriving(server, 6))
    turns.run()
    assert server.seen.resumed == [2]
    await server.sessions.shut_down()
    np.testing.assert_array_equal(server.only_recording, values(*((n, 960) for n in range(7))))


async def test_a_take_over_that_comes_after_the_end_does_nothing(server: Server) -> None:
    await flowing(server, 1)
    await server.sessions.offer("v=0 again", name="", resume=_secret(server, 0))
    turns = Turns(server)
    sink_of(server, 2).packets_received(0, arriving(server, 1))
    (session_id,) = server.sessions._sessions
    deleting = asyncio.ensure_future(server.sessions.delete(session_id))
    while server.sessions.session_count:
        await asyncio.sleep(0)
    turns.run()
    await deleting
    assert server.seen.ended == [EndReason.DELETED]
    assert server.seen.resumed == []
    assert [item.closed for item in server.transport.connections] == [1, 1]


async def test_a_connection_that_closes_before_its_packets_are_taken_ends_behind_them(
    server: Server,
) -> None:
    await flowing(server, 1)
    await server.sessions.offer("v=0 again", name="", resume=_secret(server, 0))
    turns = Turns(server)
    sink_of(server, 2).packets_received(0, arriving(server, 1, 2))
    sink_of(server, 2).connection_closed()
    assert server.sessions.session_count == 1
    turns.run()
    await server.spawned.join()
    assert server.seen.ended == [EndReason.CLOSED]
    assert len(server.only_recording) == 3 * 960


async def test_a_reconnection_is_dated_by_its_first_packet(server: Server) -> None:
    await flowing(server, 1)
    await server.sessions.offer("v=0 again", name="", resume=_secret(server, 0))
    turns = Turns(server)
    first, second, third = arriving(server, 1, 2, 3)
    at = server.clock.now
    for batch in ([first, replace(second, arrived=at + 1)], [replace(third, arrived=at + 2)]):
        sink_of(server, 2).packets_received(0, batch)
    turns.run()
    await server.sessions.shut_down()
    (stored,) = server.store.recordings.values()
    (noted,) = [event for event in stored.ledger["events"] if event["type"] == "reconnected"]
    when = server.clock.utc() + datetime.timedelta(seconds=1)
    assert noted["at"] == when.isoformat(timespec="microseconds")


async def test_requests_refer_to_the_latest_connection(server: Server) -> None:
    await flowing(server, 1)
    await server.sessions.offer("v=0 again", name="", resume=_secret(server, 0))
    old, new = server.transport.connections
    assert server.sessions.connection_of(_secret(server, 0)) is new
    sink_of(server, 1).connection_closed()
    assert old.closed == 0
    assert sink_of(server, 1).reception_reports() == ()
    assert server.sessions.connection_of(_secret(server, 0)) is new


async def test_the_latest_packet_of_a_read_keeps_a_session_alive(server: Server) -> None:
    await flowing(server, 1)
    early, late = arriving(server, 1, 2)
    sink_of(server, 1).packets_received(0, [early, replace(late, arrived=server.clock.now + 20)])
    server.clock.advance(49)
    server.sessions.tick()
    server.sessions.tick()
    assert server.sessions.session_count == 1
    server.clock.advance(1)
    server.sessions.tick()
    assert server.sessions.session_count == 0


async def test_a_connection_without_packets_is_dropped_at_its_deadline(
    server: Server,
) -> None:
    await flowing(server, 1)
    await server.sessions.offer("v=0 again", name="", resume=_secret(server, 0))
    sink_of(server, 2).connection_established(now=server.clock.now)
    for advance, closed in ((14.9, 0), (0.1, 1)):
        server.clock.advance(advance)
        sink_of(server, 1).packets_received(0, arriving(server, round(server.clock.now)))
        server.sessions.tick()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [item.closed for item in server.transport.connections] == [0, closed]


async def test_a_connection_that_was_up_ends_the_session_when_it_closes(server: Server) -> None:
    await flowing(server, 1)
    sink_of(server, 1).connection_established(now=server.clock.now)
    await server.sessions.offer("v=0 again", name="", resume=_secret(server, 0))
    sink_of(server, 2).connection_established(now=server.clock.now)
    sink_of(server, 1).connection_closed()
    assert server.sessions.session_count == 1  # the other one is there
    sink_of(server, 2).connection_closed()
    await server.spawned.join()
    assert server.seen.ended == [EndReason.CLOSED]


async def test_a_failed_connection_does_not_end_the_session(server: Server) -> None:
    await flowing(server, 1)
    sink_of(server, 1).connection_closed()
    assert server.sessions.session_count == 0
    await flowing_again(server)


async def flowing_again(server: Server) -> None:
    accepted = await server.sessions.offer("v=0 more", name="")
    sink_of(server, 2).connection_closed()  # the connection failed, and the session has no other
    await server.spawned.join()
    assert server.seen.ended[-1] is EndReason.CLOSED
    assert accepted.session_id not in server.sessions._sessions


# -- the outcome -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("after_s", "is_known"), [(59.9, True), (60.0, False)])
async def test_an_outcome_is_known_for_a_minute(
    server: Server, after_s: float, is_known: bool
) -> None:
    accepted = await server.sessions.offer("v=0", name="")
    server.receive(packet(1))
    await server.sessions.delete(accepted.session_id)
    server.clock.advance(after_s)
    server.sessions.tick()
    assert (accepted.session_id in server.sessions._outcomes) is is_known
    assert (len(server.sessions._ids) == 1) is is_known


async def test_a_recording_that_cannot_be_completed_is_reported_and_released(
    server: Server,
) -> None:
    session = await server.offer()
    server.receive(*(packet(n) for n in range(20)))
    (live,) = server.sessions._sessions.values()

    async def fail(*_arguments: object, **_more: object) -> None:
        raise StorageFailed("the disk is gone")

    live.tracks[0].end = fail  # type: ignore[assignment,method-assign]
    with pytest.raises(RecordingIncomplete, match="the disk is gone"):
        await server.sessions.delete(session)
    assert [str(error) for error in server.seen.failures] == ["the disk is gone"]
    assert server.seen.ended == [EndReason.DELETED]
    assert server.transport.connections[0].closed == 1
    with pytest.raises(RecordingIncomplete):
        await server.sessions.delete(session)


async def test_a_session_without_sound_has_no_seconds_and_no_recording(server: Server) -> None:
    session = await server.offer("desk")
    assert server.seen.opened == ["desk"]
    assert await server.sessions.delete(session) == 0.0
    assert server.store.recordings == {}


async def test_a_session_that_is_being_completed_takes_no_candidates(server: Server) -> None:
    session = await server.offer()
    server.receive(packet(1))
    deleting = asyncio.ensure_future(server.sessions.delete(session))
    while server.sessions.session_count:
        await asyncio.sleep(0)
    with pytest.raises(SessionUnknown):
        server.sessions.add_candidate(session, IceCandidate("candidate:1", "0", 0))
    with pytest.raises(SessionUnknown):
        await server.sessions.offer("v=0 again", name="", resume=_secret(server, 0))
    await deleting


# -- several tracks --------------------------------------------------------------------------------


async def test_each_track_is_a_recording_with_its_number(server: Server) -> None:
    accepted = await server.sessions.offer("v=0 two tracks", name="")
    sink = sink_of(server, 1)
    for n in range(20):
        sink.packets_received(1, arriving(server, n))
        if n < 10:
            sink.packets_received(0, arriving(server, n))
        server.clock.advance(0.02)
    reports = sink.reception_reports()
    assert [report.highest_sequence for report in reports] == [9, 19]
    assert await server.sessions.delete(accepted.session_id) == pytest.approx(0.4)
    stored = sorted(server.store.recordings.values(), key=lambda item: item.info.track)
    assert [item.info.track for item in stored] == [1, 2]
    assert [len(item.samples) for item in stored] == [10 * 960, 20 * 960]
    completed = [event for event in server.seen.events if isinstance(event, RecordingCompleted)]
    assert [(event.track, event.recording.length) for event in completed] == [
        (1, 10 * 960), (2, 20 * 960),
    ]  # fmt: skip


async def test_a_connection_with_fewer_tracks_serves_those_that_it_has(server: Server) -> None:
    accepted = await server.sessions.offer("v=0 two tracks", name="")
    for track in (0, 1):
        sink_of(server, 1).packets_received(track, arriving(server, *range(10)))
    await server.sessions.offer("v=0 one", name="", resume=accepted.resume)
    sink_of(server, 2).packets_received(0, arriving(server, *range(10, 20)))
    await server.sessions.delete(accepted.session_id)
    stored = sorted(server.store.recordings.values(), key=lambda item: item.info.track)
    assert [len(item.samples) for item in stored] == [20 * 960, 10 * 960]
