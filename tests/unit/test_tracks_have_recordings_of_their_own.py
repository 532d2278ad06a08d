"""A session with several tracks: one connection, one end, a recording for each track."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from adapters.storage.memory import MemoryStore
from domain.errors import RecordingIncomplete
from domain.events.server import (
    PartCompleted,
    RecordingCompleted,
    RecordingFailed,
    TrackStarted,
)
from domain.recording.effects import EndReason
from domain.rtp.packets import RtpPacket
from domain.sound.formats import AudioFormat
from tests.fakes.media import packet, payload
from tests.unit.test_sessions_are_recorded import Server, values


def receive(server: Server, track: int, *packets: RtpPacket, connection: int = -1) -> None:
    sink = server.transport.connections[connection].sink
    assert sink is not None
    for item in packets:
        sink.packets_received(track, [replace(item, arrived=server.clock.now)])


def speak(server: Server, numbers: range, *, tracks: tuple[int, ...] = (0, 1)) -> None:
    """Send packets of both tracks; the second has its own SSRC and values."""
    for n in numbers:
        if 0 in tracks:
            receive(server, 0, packet(n))
        if 1 in tracks:
            other = packet(n, ssrc=2, sequence=500, timestamp=10**6)
            receive(server, 1, replace(other, payload=payload(1000 + n)))
        server.clock.advance(0.02)


def samples(server: Server, track: int) -> np.ndarray:
    (found,) = [
        stored.samples[:, 0]
        for stored in server.store.recordings.values()
        if stored.info.track == track
    ]
    return found


def ledgers(server: Server) -> list[dict[str, Any]]:
    """Of all tracks, in their order."""
    stored = sorted(server.store.recordings.values(), key=lambda item: item.info.track)
    return [item.ledger for item in stored]


async def offer(server: Server, sdp: str = "v=0 two tracks", resume: str | None = None) -> str:
    accepted = await server.sessions.offer(sdp, name="Duo", resume=resume)
    server.resume = accepted.resume  # type: ignore[attr-defined]
    return accepted.session_id


@pytest.fixture
def server() -> Server:
    return Server()


async def test_each_track_is_recorded_by_itself(server: Server) -> None:
    session = await offer(server)
    speak(server, range(1, 20))
    seconds = await server.sessions.delete(session)
    assert seconds == pytest.approx(19 * 0.02)
    np.testing.assert_array_equal(samples(server, 1), values(*((n, 960) for n in range(1, 20))))
    np.testing.assert_array_equal(
        samples(server, 2), values(*((1000 + n, 960) for n in range(1, 20)))
    )
    infos = [stored.info for stored in server.store.recordings.values()]
    assert [(info.id, info.session_id, info.track) for info in infos] == [
        (session, session, 1),
        (f"{session}_2", session, 2),
    ]
    assert infos[0].name.endswith(f"-duo-{session}")
    assert infos[1].name.endswith(f"-duo-{session}_2")
    ledgers = [stored.ledger for stored in server.store.recordings.values()]
    assert [ledger["track"] for ledger in ledgers] == [1, 2]


async def test_events_say_which_track_they_are_about(server: Server) -> None:
    session = await offer(server)
    speak(server, range(20))
    await server.sessions.delete(session)
    told = [
        (type(event), event.track)
        for event in server.seen.events
        if isinstance(event, TrackStarted | PartCompleted | RecordingCompleted)
    ]
    assert told == [
        (TrackStarted, 1),
        (TrackStarted, 2),
        (PartCompleted, 1),
        (RecordingCompleted, 1),
        (PartCompleted, 2),
        (RecordingCompleted, 2),
    ]
    assert server.seen.ended == [EndReason.DELETED]


async def test_a_track_that_begins_later_or_stops_earlier_is_as_long_as_it_was(
    server: Server,
) -> None:
    session = await offer(server)
    speak(server, range(30), tracks=(0,))
    speak(server, range(30, 40))
    speak(server, range(40, 60), tracks=(1,))
    assert await server.sessions.delete(session) == pytest.approx(40 * 0.02)
    assert len(samples(server, 1)) == 40 * 960
    assert len(samples(server, 2)) == 30 * 960


async def test_a_track_without_packets_has_no_recording(server: Server) -> None:
    session = await offer(server)
    speak(server, range(20), tracks=(1,))
    await server.sessions.delete(session)
    assert [stored.info.track for stored in server.store.recordings.values()] == [2]
    assert server.seen.started == [AudioFormat(48_000, 1)]


async def test_any_track_keeps_the_session_alive(server: Server) -> None:
    await offer(server)
    speak(server, range(2))
    for n in range(1, 5):
        server.clock.advance(10)
        speak(server, range(n * 500, n * 500 + 1), tracks=(n % 2,))
        server.sessions.tick()
    assert server.sessions.session_count == 1


async def test_both_tracks_continue_over_another_connection(server: Server) -> None:
    session = await offer(server)
    speak(server, range(10))
    await offer(server, "v=0 two tracks again", server.resume)  # type: ignore[attr-defined]
    server.clock.advance(0.2)
    speak(server, range(20, 30))
    await server.sessions.delete(session)
    for track, first in ((1, 0), (2, 1000)):
        found = samples(server, track)
        assert len(found) == 30 * 960
        assert not found[10 * 960 : 20 * 960].any()
        assert found[20 * 960] == first + 20
    assert server.seen.resumed == [2]


async def test_a_connection_with_more_tracks_adds_recordings(server: Server) -> None:
    session = await offer(server, "v=0 one")
    speak(server, range(10), tracks=(0,))
    await offer(server, "v=0 two tracks", server.resume)  # type: ignore[attr-defined]
    speak(server, range(10, 20))
    await server.sessions.delete(session)
    assert len(samples(server, 1)) == 20 * 960
    assert len(samples(server, 2)) == 10 * 960


async def test_reports_are_about_every_track(server: Server) -> None:
    await offer(server)
    speak(server, range(5))
    sink = server.transport.connections[0].sink
    assert sink is not None
    assert [report.ssrc for report in sink.reception_reports()] == [1, 2]


async def test_a_recording_that_cannot_be_stored_affects_no_other() -> None:
    server = Server()
    server.use(MemoryStore(limit_bytes_each=50 * 1920))
    session = await offer(server)
    speak(server, range(15))
    speak(server, range(15, 60), tracks=(1,))
    server.sessions.tick()
    failed = [event for event in server.seen.events if isinstance(event, RecordingFailed)]
    assert [event.track for event in failed] == [2]
    speak(server, range(40, 45), tracks=(0,))
    with pytest.raises(RecordingIncomplete):
        await server.sessions.delete(session)
    assert server.seen.ended == [EndReason.DELETED]
    assert [ledger["end_reason"] for ledger in ledgers(server)] == ["deleted", "storage failed"]
    assert len(samples(server, 1)) == 45 * 960
    assert len(samples(server, 2)) == 50 * 960
    assert [event for event in server.seen.events if isinstance(event, RecordingFailed)] == failed


async def test_a_session_whose_recordings_have_all_failed_is_over() -> None:
    server = Server()
    server.use(MemoryStore(limit_bytes_each=20 * 1920))
    await offer(server)
    speak(server, range(40))
    server.sessions.tick()
    await server.spawned.join()
    assert server.seen.ended == [EndReason.STORAGE_FAILED]


async def test_all_tracks_end_at_the_same_time(server: Server) -> None:
    session = await offer(server)
    speak(server, range(20))
    end = server.sessions._sessions[session].tracks[0].end

    async def slowly(*arguments: Any, **named: Any) -> Any:
        server.clock.advance(3.0)  # a slow disk
        return await end(*arguments, **named)

    server.sessions._sessions[session].tracks[0].end = slowly  # type: ignore[method-assign]
    await server.sessions.delete(session)
    first, second = ledgers(server)
    assert first["ended_at"] == second["ended_at"]


async def test_reports_are_about_what_the_connection_carries(server: Server) -> None:
    await offer(server)
    speak(server, range(5))
    await offer(server, "v=0 one", server.resume)  # type: ignore[attr-defined]
    speak(server, range(5, 10), tracks=(0,))
    sink = server.transport.connections[1].sink
    assert sink is not None
    assert [report.ssrc for report in sink.reception_reports()] == [1]
