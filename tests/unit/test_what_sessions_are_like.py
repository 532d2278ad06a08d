"""The status of sessions: levels, kinds of samples, losses, and what they wait for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from domain.errors import SessionUnknown
from domain.events.server import StorageDelayed, StorageWritable
from domain.recording.ledger import SampleKind
from domain.services.server.track_meter import KEPT_SLOTS, TrackMeter
from domain.services.server.watching import StatusSource
from domain.session.session import SessionState
from domain.session.status import SessionStatus, TrackStatus
from domain.sound.formats import AudioFormat
from domain.sound.pieces import EncodedSound
from tests.fakes.media import packet
from tests.unit.test_sessions_are_recorded import Server

RATE = 48_000
STEREO = AudioFormat(RATE, 2)
SLOT = RATE // 10


def stereo(left: int, right: int, length: int = 960) -> np.ndarray:
    return np.tile(np.array([left, right], "<i2"), (length, 1))


def meter(audio_format: AudioFormat = STEREO, *, is_decoded: bool = True) -> TrackMeter:
    made = TrackMeter()
    made.begin(audio_format, position=0, is_decoded=is_decoded)
    made.change_kind(SampleKind.RECEIVED)
    return made


def track_of(status: SessionStatus) -> TrackStatus:
    (track,) = status.tracks
    return track


def test_each_channel_has_its_levels() -> None:
    tone = np.sin(np.arange(RATE) * 2 * math.pi * 1000 / RATE)
    track = meter()
    for start in range(0, RATE, 960):
        piece = np.zeros((960, 2), "<i2")
        piece[:, 0] = np.round(tone[start : start + 960] * 32767)
        track.add([piece])
    left, right = track.levels()
    assert left.peak_dbfs == pytest.approx(0, abs=0.01)
    assert left.rms_dbfs == pytest.approx(-3.01, abs=0.01)
    assert left.clipped == 1000
    assert (right.peak_dbfs, right.rms_dbfs, right.clipped) == (-math.inf, -math.inf, 0)


def test_readers_do_not_take_levels_from_each_other() -> None:
    """Each gets each slot once, however often others ask."""
    generator = np.random.default_rng(1)
    track, full = meter(), generator.integers(0, 400, 960 * 300)
    frequent, rare = [(0, 0)], [(0, 0)]
    for n in range(300):
        piece = np.zeros((960, 2), "<i2")
        piece[:, 1] = np.where(full[960 * n : 960 * (n + 1)] == 7, -32768, 5)
        track.add([piece])
        for seen, interval in ((frequent, 3), (rare, 97)):
            if n % interval == 0 or n == 299:
                levels = track.levels(since=seen[-1][0])
                seen.append((track.position, levels[1].clipped if levels else 0))
    expected = int(np.count_nonzero(full == 7))
    assert sum(clipped for _, clipped in frequent) == expected
    assert sum(clipped for _, clipped in rare) == expected


def test_levels_of_the_latest_second_are_told_to_whoever_has_not_asked_before() -> None:
    track = meter()
    track.add([stereo(20_000, 100)] * 50)
    track.add([stereo(200, 10_000)] * 60)
    left, right = track.levels()
    assert 10 ** (left.peak_dbfs / 20) * 2**15 == pytest.approx(200)
    assert 10 ** (right.peak_dbfs / 20) * 2**15 == pytest.approx(10_000)


def test_silence_is_heard_and_bounded() -> None:
    track = meter()
    track.add([stereo(9, 9)] * 7)
    track.add_silence(RATE * 3600)
    assert {level.peak_dbfs for level in track.levels(since=0)} == {-math.inf}
    assert len(track._slots) <= KEPT_SLOTS
    track.add([stereo(9, 9)] * 10)
    assert track.levels()[0].peak_dbfs > -math.inf
    assert track.position == RATE * 3600 + 17 * 960


def test_sound_that_is_kept_undecoded_has_kinds_but_no_levels() -> None:
    track = meter(is_decoded=False)
    track.add([EncodedSound(b"x", 960)] * 100)
    assert track.levels() == ()
    assert track.kinds == {SampleKind.RECEIVED: 96_000}


def test_levels_begin_anew_when_a_second_channel_comes() -> None:
    track = meter(AudioFormat(RATE, 1))
    track.add([stereo(1, 1)[:, :1]] * 33)
    track.change_channels(2)
    track.add([stereo(1, 30_000)] * 33)
    assert len(track.levels(since=0)) == 2


def test_kinds_are_counted_in_all_and_over_the_last_minute() -> None:
    track = meter()
    track.add_silence(RATE * 100)
    track.change_kind(SampleKind.CONCEALED)
    track.add_silence(RATE * 5)
    track.change_kind(SampleKind.RECEIVED)
    track.add_silence(RATE * 58)
    assert track.kinds == {SampleKind.RECEIVED: RATE * 158, SampleKind.CONCEALED: RATE * 5}
    assert track.recent_kinds == {SampleKind.RECEIVED: RATE * 58, SampleKind.CONCEALED: RATE * 2}
    track.add_silence(RATE * 100)
    assert track.recent_kinds == {SampleKind.RECEIVED: RATE * 60}


def test_a_sender_that_changes_kinds_all_the_time_takes_no_memory() -> None:
    track = meter()
    for n in range(20_000):
        track.change_kind(list(SampleKind)[n % 2])
        track.add([stereo(0, 0, 480)])
    assert len(track._seconds) <= 61
    assert sum(track.recent_kinds.values()) == pytest.approx(RATE * 60, abs=RATE)


async def test_a_recorded_session_is_described() -> None:
    server = Server()
    session = await server.offer("desk")
    opened_at = server.clock.utc()
    server.transport.connections[0].round_trip_s = 0.03
    server.receive(*(packet(n) for n in range(100)))
    status = server.sessions.status(session)
    assert (status.id, status.name, status.opened_at) == (session, "desk", opened_at)
    assert (status.state, status.waits_for) == (SessionState.RECORDING, None)
    assert (status.round_trip_s, status.silent_s) == (0.03, pytest.approx(0.02))
    track = track_of(status)
    assert track.recording is not None and session in track.recording
    assert (track.codec, track.sample_rate_hz, track.channels) == ("opus", RATE, 1)
    assert (track.length, track.kinds) == (96_000, {SampleKind.RECEIVED: 96_000})
    assert track.recent_kinds == track.kinds
    assert (track.lost, track.expected, track.stalls, track.fault) == (0, 100, 0, None)
    (level,) = track.levels
    assert 10 ** (level.peak_dbfs / 20) * 2**15 == pytest.approx(99)
    assert server.sessions.statuses() == [server.sessions.status(session)]
    (again,) = server.sessions.statuses({session: status})
    assert track_of(again).levels == ()


async def test_alarms_are_made_of_it() -> None:
    server = Server()
    session = await server.offer()
    source: StatusSource = server.sessions
    assert [status.id for status in source.statuses({})] == [session]


async def test_losses_are_told() -> None:
    server = Server()
    session = await server.offer()
    server.receive(*(packet(n) for n in range(50) if n not in (10, 20)))
    server.receive(*(packet(n) for n in range(100, 150)))
    for _ in range(20):
        server.clock.advance(0.1)
        server.sessions.tick()
    track = track_of(server.sessions.status(session))
    assert (track.lost, track.expected) == (52, 150)
    assert track.kinds[SampleKind.RECEIVED] == 98 * 960
    assert track.length == 150 * 960
    assert track.jitter_s > 0


async def test_losses_of_earlier_sources_count() -> None:
    server = Server()
    session = await server.offer()
    server.receive(*(packet(n) for n in range(50) if n != 10))
    server.receive(*(replace(packet(n), ssrc=99) for n in range(50, 120)))
    track = track_of(server.sessions.status(session))
    assert (track.lost, track.expected) == (1, 120)


async def test_what_a_session_waits_for_is_said() -> None:
    server = Server()
    session = await server.offer()
    server.transport.connections[0].obstacle = "the peer is mute"
    status = server.sessions.status(session)
    assert status.waits_for is not None
    assert status.waits_for.startswith("a path to its client (the peer is mute), until ")
    sink = server.transport.connections[0].sink
    assert sink is not None
    sink.connection_established(now=server.clock.now)
    status = server.sessions.status(session)
    assert (status.state, track_of(status).recording) == (SessionState.SILENT, None)
    assert (status.waits_for or "").startswith("its first packet, until ")
    server.receive(packet(0))
    server.clock.advance(3)
    server.sessions.tick()
    status = server.sessions.status(session)
    assert (status.waits_for or "").startswith("its next packet, until ")
    assert status.silent_s == pytest.approx(3.02)
    await server.sessions.delete(session)
    with pytest.raises(SessionUnknown):
        server.sessions.status(session)
    assert server.sessions.statuses() == []


async def test_a_disk_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    session = await server.offer()
    server.receive(packet(0))
    told = [[StorageDelayed("no space left")], [], [StorageWritable(2.0)]]
    monkeypatch.setattr(server.store, "poll_events", lambda: told.pop(0))
    for fault in ("no space left", "no space left", None):
        server.sessions.tick()
        assert track_of(server.sessions.status(session)).fault == fault
