"""Recordings of a killed process are resumed by their clients, or completed."""

from __future__ import annotations

import datetime
from dataclasses import replace

import numpy as np
import pytest

from adapters.storage.memory import MemoryStore
from domain.errors import OfferRejected, SessionUnknown
from domain.events.server import (
    RecordingInterrupted,
)
from domain.ports.storage import InterruptedRecording, Recovery
from domain.recording.anchors import Anchor
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, RecordingInfo, SampleKind
from domain.rtp.packets import RtpPacket
from domain.session.ice import IceCandidate
from domain.session.session import SessionState, digest_of
from domain.sound.formats import AudioFormat
from tests.fakes.media import packet, payload
from tests.fakes.time import EPOCH
from tests.unit.test_sessions_are_recorded import Server

SECRET = "the secret"
BEFORE = 50 * 960
"""Samples that the killed process recorded: one second."""


class Killed(MemoryStore):
    """A store with unfinished recordings of a killed process, for tracks of one session."""

    def __init__(
        self, ended_at: datetime.datetime, *, tracks: int = 1, codec: str = "opus"
    ) -> None:
        super().__init__()
        self.asked_since: datetime.datetime | None = None
        self._found = [self._left(ended_at, number, codec) for number in range(1, tracks + 1)]

    def recover(self, *, resumable_since: datetime.datetime) -> Recovery:
        self.asked_since = resumable_since
        return Recovery(interrupted=self._found)

    def _left(self, ended_at: datetime.datetime, number: int, codec: str) -> InterruptedRecording:
        info = RecordingInfo(
            f"recording {number}",
            f"name {number}",
            AudioFormat(48_000, 1),
            codec,
            ended_at - datetime.timedelta(seconds=1),
            digest_of(SECRET),
            Container.WAV,
            session_id="session",
            track=number,
        )
        writer = self.create(info)
        writer.append([np.full((BEFORE, 1), 9, "<i2")], SampleKind.RECEIVED)
        anchor = Anchor(position=0, rtp_timestamp=0, ssrc=1)
        return InterruptedRecording(info, BEFORE, ended_at, anchor, connections=3, writer=writer)


def restarted(*, down_s: float = 5.0, tracks: int = 1, codec: str = "opus") -> Server:
    """A server whose process was killed some seconds ago."""
    server = Server()
    server.use(
        Killed(server.clock.utc() - datetime.timedelta(seconds=down_s), tracks=tracks, codec=codec)
    )
    server.sessions.recover()
    return server


async def resume(server: Server, sdp: str = "v=0 again") -> None:
    accepted = await server.sessions.offer(sdp, name="", resume=SECRET)
    assert (accepted.session_id, accepted.resume) == ("session", SECRET)


def speak(server: Server, *numbers: int, track: int = 0, ssrc: int = 1) -> None:
    sink = server.transport.connections[-1].sink
    assert sink is not None
    for n in numbers:
        sink.packets_received(track, [replace(packet(n, ssrc=ssrc), arrived=server.clock.now)])
        server.clock.advance(0.02)


async def test_recovery_asks_for_recordings_within_the_longest_gap() -> None:
    server = restarted()
    assert isinstance(server.store, Killed)
    assert server.store.asked_since == EPOCH - datetime.timedelta(seconds=60)
    assert server.sessions.states()["interrupted"] == 1
    assert server.sessions.session_of(SECRET) == "session"


async def test_recovery_reports_the_recordings_it_found() -> None:
    server = restarted(tracks=2)
    told = [event for event in server.seen.events if isinstance(event, RecordingInterrupted)]
    assert [(event.info.name, event.length) for event in told] == [
        ("name 1", BEFORE), ("name 2", BEFORE),
    ]  # fmt: skip


async def test_before_its_client_is_back_a_session_has_no_connection() -> None:
    server = restarted()
    with pytest.raises(SessionUnknown):
        server.sessions.add_candidate("session", IceCandidate("candidate:1", "0", 0))
    with pytest.raises(SessionUnknown):
        server.sessions.connection_of(SECRET)


async def test_the_stream_continues_at_its_timestamps() -> None:
    server = restarted(down_s=5.0)
    await resume(server)
    speak(server, *range(300, 350))
    await server.sessions.delete("session")
    (stored,) = server.store.recordings.values()
    assert stored.info.name == "name 1"
    assert stored.ledger["spans"] == [
        {"start": 0, "length": BEFORE, "kind": "received"},
        {"start": BEFORE, "length": 250 * 960, "kind": "silence"},
        {"start": 300 * 960, "length": 50 * 960, "kind": "received"},
    ]
    assert server.seen.states == [SessionState.RECORDING]
    assert server.seen.resumed == [4]
    assert server.seen.started == [AudioFormat(48_000, 1)]
    events = [(e["type"], e["position"], e.get("attempt")) for e in stored.ledger["events"]]
    assert events == [
        ("process restarted", BEFORE, None), ("reconnected", BEFORE, 4),
        ("outage", BEFORE, None), ("anchor", 300 * 960, None), ("anchor", 349 * 960, None),
    ]  # fmt: skip


@pytest.mark.parametrize("down_s", [61.0, -3600.0], ids=["right", "set back"])
async def test_a_long_outage_is_as_long_as_the_timestamps_say_whatever_the_clock(
    down_s: float,
) -> None:
    """A short recording is further ahead of a clock that was set back than sound may be."""
    server = restarted(down_s=down_s)
    await resume(server)
    speak(server, *range(3100, 4000))
    await server.sessions.delete("session")
    (stored,) = server.store.recordings.values()
    assert stored.ledger["spans"] == [
        {"start": 0, "length": BEFORE, "kind": "received"},
        {"start": BEFORE, "length": 3050 * 960, "kind": "silence"},
        {"start": 3100 * 960, "length": 900 * 960, "kind": "received"},
    ]


async def test_another_source_continues_at_the_time_of_the_clock() -> None:
    server = restarted(down_s=5.0)
    await resume(server)
    speak(server, *range(40_000, 40_050), ssrc=2)
    await server.sessions.delete("session")
    (stored,) = server.store.recordings.values()
    silent = stored.ledger["spans"][1]["length"]
    assert silent / 48_000 == pytest.approx(5.0, abs=0.03)
    (broken,) = [e for e in stored.ledger["events"] if e["type"] == "discontinuity"]
    assert broken["reason"] == "source"


async def test_time_before_the_first_packet_is_not_dtx() -> None:
    server = restarted()
    await resume(server)
    speak(server, *range(60, 100))
    await server.sessions.delete("session")
    (stored,) = server.store.recordings.values()
    assert [span["kind"] for span in stored.ledger["spans"]] == ["received", "silence", "received"]


async def test_dates_continue_from_the_first_process() -> None:
    server = restarted()
    await resume(server)
    began = server.clock.utc()
    speak(server, *range(300, 350))
    await server.sessions.delete("session")
    (stored,) = server.store.recordings.values()
    assert stored.ledger["events"][0]["at"] == began.isoformat(timespec="microseconds")
    assert stored.ledger["ended_at"] == server.clock.utc().isoformat(timespec="microseconds")


async def test_connections_are_counted_across_processes() -> None:
    server = restarted()
    await resume(server)
    speak(server, *range(300, 350))
    await resume(server, "v=0 once more")
    speak(server, *range(350, 400))
    await server.sessions.delete("session")
    (stored,) = server.store.recordings.values()
    assert server.seen.resumed == [4, 5]
    connections = [e["attempt"] for e in stored.ledger["events"] if e["type"] == "reconnected"]
    assert connections == [4, 5]


async def test_every_track_is_resumed() -> None:
    server = restarted(tracks=2)
    await resume(server, "v=0 two tracks")
    speak(server, *range(300, 350), track=0)
    speak(server, *range(300, 320), track=1)
    await server.sessions.delete("session")
    stored = sorted(server.store.recordings.values(), key=lambda item: item.info.track)
    assert [len(item.samples) for item in stored] == [350 * 960, 320 * 960]
    assert all((item.samples[:BEFORE] == 9).all() for item in stored)
    assert server.sessions.session_count == 0


@pytest.mark.parametrize("codec", ["pcmu", "g722"])
async def test_another_codec_cannot_continue_an_interrupted_recording(codec: str) -> None:
    server = restarted(codec=codec)
    if codec == "g722":  # the connection does not offer this codec at all
        with pytest.raises(OfferRejected, match="codec"):
            await resume(server)
        return
    await resume(server)
    speak(server, *range(300, 310))
    sink = server.transport.connections[-1].sink
    assert sink is not None
    own = RtpPacket(0, 310, 310 * 960, 1, payload(5, length=160), arrived=server.clock.now)
    sink.packets_received(0, [own])
    await server.sessions.delete("session")
    (stored,) = server.store.recordings.values()
    (left_out,) = [e for e in stored.ledger["events"] if e["type"] == "packets left out"]
    assert left_out["rejected_payload"] == 10


@pytest.mark.parametrize("how", ["time", "shutdown"])
async def test_without_its_client_a_recording_ends_at_the_interruption(how: str) -> None:
    server = restarted(down_s=5.0)
    if how == "time":
        server.clock.advance(29.9)
        server.sessions.tick()
        assert server.sessions.session_count == 1
        server.clock.advance(0.1)
        server.sessions.tick()
        await server.spawned.join()
        assert server.seen.ended == [EndReason.RECOVERED]
    else:
        await server.sessions.shut_down()
        assert server.seen.ended == [EndReason.SHUTDOWN]
    (stored,) = server.store.recordings.values()
    assert len(stored.samples) == BEFORE
    assert stored.ledger["end_reason"] == "recovered"
    ended_at = EPOCH - datetime.timedelta(seconds=5)
    assert stored.ledger["ended_at"] == ended_at.isoformat(timespec="microseconds")


async def test_a_client_can_delete_an_interrupted_session_without_reconnecting() -> None:
    server = restarted()
    await resume(server)
    assert await server.sessions.delete("session") == 1.0
    (stored,) = server.store.recordings.values()
    assert stored.ledger["end_reason"] == "deleted"
    assert len(stored.samples) == BEFORE


async def test_a_connection_of_an_interrupted_session_with_a_path_is_kept() -> None:
    """The client may have a path before it has sound."""
    server = restarted()
    await resume(server)
    sink = server.transport.connections[0].sink
    assert sink is not None
    sink.connection_established(now=server.clock.now)
    server.clock.advance(20.0)
    server.sessions.tick()
    speak(server, *range(1250, 1300))
    await server.sessions.delete("session")
    (stored,) = server.store.recordings.values()
    assert len(stored.samples) == 1300 * 960


async def test_a_connection_of_an_interrupted_session_without_a_path_is_dropped() -> None:
    server = restarted()
    await resume(server)
    server.clock.advance(14.9)
    server.sessions.tick()
    await server.spawned.join()
    assert server.transport.connections[0].closed == 0
    server.clock.advance(0.1)
    server.sessions.tick()
    await server.spawned.join()
    assert server.transport.connections[0].closed == 1
    assert server.sessions.session_count == 1
