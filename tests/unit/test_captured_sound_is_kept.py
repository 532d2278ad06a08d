"""What a client captures is in its spool from the first sample on, server or not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from domain.errors import (
    ConnectionFailed,
    DeviceLost,
    DeviceUnusable,
    EndUnconfirmed,
    GaplessError,
    InputUnreadable,
    Refusal,
    ServerRefused,
    ServerUnreachable,
    SessionOver,
    SpoolFailed,
    WrongServer,
)
from domain.events.client import (
    SpoolDelivered,
)
from domain.ports.capture import CaptureRequest
from domain.ports.spool import Spool
from domain.recording.ledger import RestoreMode, RestoreState
from domain.recording.ranges import Range
from domain.recording.restoring import LOOK_AHEAD, SpoolInfo
from domain.rtp.packetizer import Packetizer
from domain.rtp.packets import RtpPacket
from domain.services.client.kept_sound import KeptSound
from domain.services.client.lasting_source import FRESH_S
from domain.services.client.publisher import LAST_CHANCE_S, Publisher, StreamSummary
from domain.services.client.uplink import Uplink
from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat
from tests.fakes.capture import FakeCapture, FakeSource
from tests.fakes.events import SeenByClient
from tests.fakes.media import (
    FakeClientConnection,
    FakeClientTransport,
    PassingResampler,
    PlainEncoder,
)
from tests.fakes.restoring_client import FakeRestoringClient
from tests.fakes.signaling import FakeSignaling
from tests.fakes.spools import FakeSender, MemorySpool, MemorySpools
from tests.fakes.time import EPOCH, FakeClock, Spawned

MONO = AudioFormat(48_000, 1)
CD = AudioFormat(44_100, 1)
FIRST_TIMESTAMP = 2**32 - 100
NOBODY = ServerUnreachable("nobody")


def blocks(count: float, audio_format: AudioFormat = MONO, *, start: int = 0) -> list[AudioFrame]:
    """Make `count` seconds of sound in blocks of 20 ms; each sample tells its position."""
    size = audio_format.sample_rate_hz // 50
    return [
        AudioFrame(
            audio_format,
            (np.arange(size) + at + 1).astype(audio_format.sample_format.dtype).reshape(-1, 1),
            at,
        )
        for at in range(start, start + round(count * 50) * size, size)
    ]


class Scaling:
    """Resamples to 48 kHz by repeating samples; positions are scaled as those of a resampler."""

    def push(self, block: AudioFrame) -> Sequence[AudioFrame]:
        rate = block.format.sample_rate_hz
        start, end = block.position * 48_000 // rate, block.end * 48_000 // rate
        index = np.arange(end - start) * len(block) // (end - start)
        return [AudioFrame(MONO, block.samples[index].astype("<i2"), start)]

    def flush(self) -> Sequence[AudioFrame]:
        return ()


class Client:
    """A publisher with a spool, and its fakes."""

    def __init__(
        self,
        *script: AudioFrame | Exception,
        audio_format: AudioFormat = MONO,
        spools: MemorySpools | None = None,
        signaling: FakeSignaling | None = None,
        duration_s: float | None = None,
        live: bool = True,
        error: GaplessError | None = None,
        state: RestoreState = RestoreState.COMPLETE,
        mode: RestoreMode = RestoreMode.ALL,
    ) -> None:
        self.owing: list[str] = []
        self.clock = FakeClock()
        self.source = FakeSource(audio_format, script, self.clock if live else None)
        self.capture = FakeCapture(self.source)
        self.connection = FakeClientConnection(self.clock)
        self.transport = FakeClientTransport(self.connection)
        self.signaling = signaling or FakeSignaling()
        self.spools = spools or MemorySpools()
        self.restoring = FakeRestoringClient()
        self.seen = SeenByClient()
        self.spawned = Spawned()
        self.senders: list[FakeSender] = []
        uplink = Uplink(
            transport=self.transport,
            signaling=self.signaling,
            clock=self.clock,
            spawner=self.spawned,
            events=self.seen,
            random=lambda: 1.0,
            name="desk",
        )

        def sender(spool: Spool) -> FakeSender:
            self.senders.append(FakeSender(spool, error, state))
            return self.senders[-1]

        kept = KeptSound(
            spools=self.spools,
            client=self.restoring,
            sender=sender,
            clock=self.clock,
            spawner=self.spawned,
            events=self.seen,
            random_hex=lambda size: "ab" * size,
            name="desk",
            server="http://server",
            mode=mode,
        )
        self.publisher = Publisher(
            capture=self.capture,
            request=CaptureRequest(audio_format.sample_rate_hz, audio_format.channels),
            resampler=lambda given: PassingResampler() if given == MONO else Scaling(),
            encoder=PlainEncoder(),
            packetizer=Packetizer(ssrc=5, first_sequence=0, first_timestamp=FIRST_TIMESTAMP),
            uplink=uplink,
            clock=self.clock,
            spawner=self.spawned,
            events=self.seen,
            progress_interval_s=0.5,
            channels=1,
            duration_s=duration_s,
            kept=kept,
            send_owed=self.send_owed,
        )

    async def send_owed(self, paced: bool) -> None:
        if not paced:
            self.owing.append("rest" if self.signaling.deleted else "too early")
            return
        self.owing.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            self.owing.append("ended" if self.signaling.deleted == [] else "too late")

    async def run(self) -> StreamSummary:
        async with self.started():
            return await self.until_done()

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        self.running = asyncio.create_task(self.publisher.run())
        try:
            yield
        finally:
            self.running.cancel()
            await asyncio.wait({self.running})
            self.assert_released()

    async def until_done(self) -> StreamSummary:
        while not self.running.done():
            await self.clock.run(0.05)
        return await self.running

    @property
    def spool(self) -> MemorySpool:
        (writer,) = self.spools.writers
        return writer.spool

    @property
    def packets(self) -> list[RtpPacket]:
        connections = dict.fromkeys(self.transport.opened)  # one may be opened several times
        return [packet for item in connections for packet in item.sent]

    @property
    def positions(self) -> list[int]:
        """Positions in the stream of the packets that carry sound."""
        return [(p.timestamp - FIRST_TIMESTAMP) % 2**32 for p in self.packets if p.payload]

    def assert_released(self) -> None:
        assert all(source.closed >= 1 for source in self.capture.opened)
        assert all(item.closed for item in self.transport.opened)
        assert (self.signaling.closed, self.restoring.closed) == (1, 1)
        for writer in self.spools.writers:
            assert writer.finished == 1
            assert writer.spool.is_removed or writer.spool.releases == 1
        assert not any(sender.is_running for sender in self.senders)


def assert_is(spool: MemorySpool, expected: Sequence[AudioFrame]) -> None:
    assert spool.length == expected[-1].end
    captured = np.concatenate([block.samples for block in expected])
    assert (spool.samples == captured).all()


# -- the way it usually is -------------------------------------------------------------------------


async def test_everything_is_kept_sent_live_and_removed_when_the_server_has_it() -> None:
    client = Client(*blocks(1))
    summary = await client.run()
    assert_is(client.spool, blocks(1))
    assert client.positions[0] == 0
    assert summary.seconds == 1.0
    assert client.signaling.deleted == ["session"]
    assert client.spool.is_removed
    assert client.publisher.kept_s is None
    digest = await client.spool.sha256()
    assert client.seen.delivered == [
        SpoolDelivered(1.0, RestoreState.COMPLETE, digest, is_all=True)
    ]
    assert client.seen.states == ["connecting", "connected", "finishing"]


async def test_the_spool_is_described_to_whoever_finds_it_and_to_the_server() -> None:
    client = Client(*blocks(0.2), mode=RestoreMode.LOST)
    await client.run()
    timestamp = (FIRST_TIMESTAMP + PlainEncoder.look_ahead - LOOK_AHEAD) % 2**32
    found = client.spool.description
    assert found.id == "20260102T030405Z-abababab"
    assert (found.format, found.name) == (MONO, "desk")
    assert (found.started_at - EPOCH).total_seconds() < 0.2
    assert (found.server, found.rtp_timestamp) == ("http://server", timestamp)
    assert found.mode is RestoreMode.LOST
    assert client.signaling.spools == [
        SpoolInfo(timestamp, MONO, RestoreMode.LOST, found.started_at)
    ]


@pytest.mark.parametrize("look_ahead", [120, 312])
async def test_a_shorter_look_ahead_of_the_encoder_is_told(
    monkeypatch: pytest.MonkeyPatch, look_ahead: int
) -> None:
    monkeypatch.setattr(PlainEncoder, "look_ahead", look_ahead)
    client = Client(*blocks(0.2))
    await client.run()
    expected = (FIRST_TIMESTAMP + look_ahead - LOOK_AHEAD) % 2**32
    assert client.spool.description.rtp_timestamp == expected


async def test_the_session_is_noted_before_its_pieces_are_sent() -> None:
    client = Client(*blocks(1))
    await client.run()
    (session,) = client.spool.sessions
    assert (session.server, session.session_id) == ("http://server", "session")
    assert session.resume == "secret"
    (sender,) = client.senders
    assert sender.began_with == session


async def test_a_reconnection_tells_of_the_spool_again() -> None:
    client = Client(*blocks(10))
    client.transport = FakeClientTransport(client.connection, FakeClientConnection(client.clock))
    client.publisher._uplink._transport = client.transport
    async with client.started():
        await client.clock.run(2.0)
        client.connection.die()
        await client.until_done()
    assert client.signaling.resumed == [None, "secret"]
    assert client.signaling.spools[0] == client.signaling.spools[1]
    assert len(client.spool.sessions) == 1  # it is the same


@pytest.mark.parametrize("samples", [1, 960, 961, 2400])
async def test_a_duration_cuts_the_spool_to_the_sample(samples: int) -> None:
    client = Client(*blocks(1), duration_s=samples / 48_000)
    summary = await client.run()
    assert client.spool.length == samples
    assert summary.seconds == samples / 48_000


async def test_overruns_are_holes() -> None:
    script = [*blocks(0.2), *blocks(0.2, start=19_200)]
    client = Client(*script)
    await client.run()
    assert list(client.spool.captured) == [Range(0, 9600), Range(19_200, 9600)]


async def test_nothing_captured_is_nothing_kept() -> None:
    client = Client()
    await client.run()
    assert client.spool.is_removed
    assert client.seen.delivered == []
    assert client.publisher.kept_s is None


async def test_the_depth_of_the_source_is_kept() -> None:
    deep = AudioFormat(96_000, 1, SampleFormat.S24)
    client = Client(*blocks(0.5, deep), audio_format=deep)
    await client.run()
    assert client.spool.description.format == deep
    assert_is(client.spool, blocks(0.5, deep))


async def test_what_earlier_runs_have_left_is_sent_beside_the_live_stream() -> None:
    client = Client(*blocks(3), signaling=FakeSignaling(NOBODY))
    async with client.started():
        await client.clock.run(0.3)
        assert client.owing == []
        await client.clock.run(1.0)
        assert client.owing == ["begun"]
        await client.until_done()
    assert client.owing == ["begun", "ended", "rest"]


# -- without a server ------------------------------------------------------------------------------


async def test_sound_is_captured_while_there_is_no_server() -> None:
    client = Client(*blocks(10), signaling=FakeSignaling(*[NOBODY] * 3))
    async with client.started():
        await client.clock.run(3.0)
        assert client.source.closed == 0
        assert client.spool.length == pytest.approx(3 * 48_000, abs=4800)
        assert client.seen.unsent[-1].seconds == pytest.approx(3.0, abs=0.6)
        assert client.packets == []
        await client.until_done()
    assert_is(client.spool, blocks(10))
    connected_s = sum(client.seen.delays)
    # what is older is only in the spool
    assert client.positions[0] / 48_000 == pytest.approx(connected_s - FRESH_S, abs=0.15)
    assert (np.diff(client.positions) == 960).all()
    assert client.seen.ended[0].seconds == (10 * 48_000 - client.positions[0]) / 48_000
    assert client.seen.delivered[0].is_all


async def test_a_short_wait_for_the_server_loses_no_first_words() -> None:
    client = Client(*blocks(5), signaling=FakeSignaling(NOBODY, NOBODY))
    await client.run()
    assert 1.0 < sum(client.seen.delays) < FRESH_S
    assert client.positions == [n * 960 for n in range(251)]


async def test_a_source_that_ends_first_waits_a_little_for_the_server() -> None:
    client = Client(*blocks(1), signaling=FakeSignaling(*[NOBODY] * 3))
    await client.run()
    assert_is(client.spool, blocks(1))
    assert client.signaling.deleted == ["session"]
    assert client.spool.is_removed


async def test_sound_is_kept_if_no_server_comes() -> None:
    client = Client(*blocks(1), signaling=FakeSignaling(*[NOBODY] * 100))
    async with client.started():
        began = client.clock.now
        with pytest.raises(ConnectionFailed):
            await client.until_done()
        assert client.clock.now - began == pytest.approx(1 + LAST_CHANCE_S, abs=0.5)
    assert client.publisher.kept_s == 1.0
    assert client.spool.releases == 1
    assert client.senders == []


async def test_sound_is_kept_if_the_user_ends_it_before_a_server_comes() -> None:
    client = Client(*blocks(10), signaling=FakeSignaling(*[NOBODY] * 100))
    async with client.started():
        await client.clock.run(3.0)
    assert client.publisher.kept_s == pytest.approx(3.0, abs=0.1)
    assert not client.spool.is_removed


@pytest.mark.parametrize("error", [ServerRefused(Refusal.FINAL, "no"), WrongServer("no")], ids=repr)
async def test_a_refusal_ends_the_stream_at_once_and_keeps_nothing(error: GaplessError) -> None:
    client = Client(*blocks(10), signaling=FakeSignaling(error))
    async with client.started():
        with pytest.raises(type(error)):
            await client.until_done()
        assert client.clock.now < 1001.0
    assert "finishing" not in client.seen.states
    assert client.spool.is_removed
    assert client.publisher.kept_s is None


@pytest.mark.parametrize(
    "portal",
    [ServerRefused(Refusal.UNCLEAR, "log in"), WrongServer("another one")],
    ids=str,
)
async def test_another_server_in_the_way_after_a_wait_ends_nothing(portal: GaplessError) -> None:
    client = Client(*blocks(10), signaling=FakeSignaling(NOBODY, portal, portal))
    await client.run()
    assert str(portal) in str(client.seen.states)
    assert_is(client.spool, blocks(10))
    assert client.signaling.deleted == ["session"]


async def test_a_refusal_after_a_wait_keeps_what_was_captured_meanwhile() -> None:
    refused = ServerRefused(Refusal.FINAL, "no")
    client = Client(*blocks(10), signaling=FakeSignaling(NOBODY, NOBODY, refused))
    async with client.started():
        with pytest.raises(ServerRefused):
            await client.until_done()
    assert not client.spool.is_removed
    assert client.publisher.kept_s == pytest.approx(sum(client.seen.delays), abs=0.2)


# -- a session that is over ------------------------------------------------------------------------


async def test_a_session_that_ends_at_the_server_does_not_end_the_capture() -> None:
    client = Client(*blocks(10))
    async with client.started():
        await client.clock.run(2.0)
        client.connection.close_by_server()
        await client.clock.run(5.0)
        assert client.senders[0].is_running
        sent = len(client.packets)
        await client.until_done()
    assert len(client.packets) == sent
    assert client.seen.states == [
        "connecting",
        "connected",
        "live recording ended: the server closed the connection: the session is over",
        "finishing",
    ]
    assert_is(client.spool, blocks(10))
    assert client.signaling.deleted == []
    assert client.spool.is_removed
    assert client.seen.delivered[0].captured_s == 10.0
    assert client.seen.unsent


async def test_sound_that_the_server_will_never_want_is_kept() -> None:
    """The session has ended before the sound, and the server does not restore."""
    client = Client(*blocks(5), state=RestoreState.OFF)
    async with client.started():
        await client.clock.run(2.0)
        client.connection.close_by_server()
        with pytest.raises(SessionOver):
            await client.until_done()
    assert client.publisher.kept_s == 5.0


async def test_a_server_that_does_not_restore_has_what_it_wants_with_the_live_recording() -> None:
    client = Client(*blocks(1), state=RestoreState.OFF)
    await client.run()
    assert client.spool.is_removed
    assert client.seen.delivered[0].state is RestoreState.OFF


async def test_an_expired_recording_is_not_all_that_was_captured() -> None:
    client = Client(*blocks(1), state=RestoreState.EXPIRED)
    with pytest.raises(SessionOver):
        await client.run()
    assert client.publisher.kept_s == 1.0


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [ServerUnreachable("gone"), ServerRefused(Refusal.FINAL, "no"), SpoolFailed("damaged")],
    ids=repr,
)
async def test_what_cannot_be_delivered_is_kept(error: GaplessError) -> None:
    client = Client(*blocks(1), error=error)
    with pytest.raises(type(error)):
        await client.run()
    assert client.publisher.kept_s == 1.0
    assert client.seen.ended  # the live recording is complete all the same
    assert client.seen.delivered == []


async def test_sound_is_kept_if_the_end_is_not_confirmed() -> None:
    client = Client(*blocks(10))
    async with client.started():
        await client.clock.run(1.0)
        client.signaling.unreachable_at_end = NOBODY
        client.publisher.stop()
        with pytest.raises(EndUnconfirmed):
            await client.until_done()
    assert client.publisher.kept_s == pytest.approx(1.0, abs=0.1)


async def test_a_source_that_fails_is_told_after_all_that_it_gave_is_delivered() -> None:
    client = Client(*blocks(1), InputUnreadable("damaged"))
    with pytest.raises(InputUnreadable):
        await client.run()
    assert client.spool.is_removed
    assert client.seen.delivered[0].captured_s == 1.0


# -- a disk that is full ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [RestoreMode.LOST, RestoreMode.ALL])
async def test_a_full_disk_ends_the_spool_and_not_the_stream(mode: RestoreMode) -> None:
    # in mode `all` the server keeps what it has received behind the end of the spool
    client = Client(*blocks(3), spools=MemorySpools(room=48_000), mode=mode)
    summary = await client.run()
    assert client.spool.length == 48_000
    assert summary.seconds == 3.0
    assert client.seen.states.count("spool ended: disk full") == 1
    assert client.seen.delivered[0].captured_s == 1.0
    assert not client.seen.delivered[0].is_all


async def test_a_session_that_ends_when_the_spool_has_ended_ends_the_client() -> None:
    client = Client(*blocks(10), spools=MemorySpools(room=48_000))
    async with client.started():
        await client.clock.run(2.0)
        client.connection.close_by_server()
        with pytest.raises(SessionOver):
            await client.until_done()
        assert client.clock.now < 1005.0


async def test_where_no_spool_can_be_made_the_stream_is_as_it_is_without_one() -> None:
    client = Client(
        *blocks(10), spools=MemorySpools(SpoolFailed("read-only")), signaling=FakeSignaling(NOBODY)
    )
    client.capture._script.append(FakeSource(MONO, blocks(1)))
    running = asyncio.create_task(client.publisher.run())
    while not running.done():
        await client.clock.run(0.05)
    summary = await running
    assert client.seen.states[:3] == ["spool ended: read-only", "connecting", "waiting: nobody"]
    assert client.source.closed == 1
    assert summary.seconds == 1.0
    assert client.signaling.spools == [None]


# -- a device that goes and comes back -------------------------------------------------------------


@pytest.mark.parametrize("audio_format", [MONO, CD], ids=str)
async def test_positions_in_the_spool_are_those_of_the_stream(audio_format: AudioFormat) -> None:
    client = Client(*blocks(1, audio_format), DeviceLost("gone"), audio_format=audio_format)
    back = FakeSource(audio_format, blocks(1, audio_format), client.clock)
    back._opened_at = client.clock.now + 3.0123
    client.capture._script += [*[DeviceUnusable("not there")] * 3, back]
    await client.run()
    first, second = client.spool.captured
    assert first == Range(0, audio_format.sample_rate_hz)
    assert second.length == audio_format.sample_rate_hz
    ticks, rest = divmod(second.start * 48_000, audio_format.sample_rate_hz)
    assert rest == 0
    assert ticks / 48_000 == pytest.approx(3.0, abs=0.2)
    again = next(at for at in client.positions if at > 50_000)
    assert again == ticks
    assert client.seen.delivered[0].is_all


async def test_a_device_may_come_back_before_there_is_a_server() -> None:
    client = Client(*blocks(1), DeviceLost("gone"), signaling=FakeSignaling(*[NOBODY] * 5))
    back = FakeSource(MONO, blocks(20), client.clock)
    back._opened_at = client.clock.now + 3.0
    client.capture._script += [*[DeviceUnusable("not there")] * 3, back]
    await client.run()
    first, second = client.spool.captured
    assert (first, second.length) == (Range(0, 48_000), 20 * 48_000)
    assert second.start / 48_000 == pytest.approx(3.0, abs=0.2)
    assert client.positions[0] >= second.start
    offset = (client.positions[0] - second.start) / 48_000
    assert offset == pytest.approx(sum(client.seen.delays) - FRESH_S - 3.0, abs=0.3)


async def test_a_connection_that_is_made_while_the_device_is_away_begins_with_fresh_sound() -> None:
    client = Client(*blocks(1), DeviceLost("gone"), signaling=FakeSignaling(NOBODY, NOBODY))
    client.capture._script += [DeviceUnusable("not there")] * 100
    async with client.started():
        await client.clock.run(4.0)
        client.publisher.stop()
        await client.until_done()
    assert client.positions == [n * 960 for n in range(51)]
    heartbeats = [p for p in client.packets if not p.payload]
    assert heartbeats
    timestamps = [(p.timestamp - FIRST_TIMESTAMP) % 2**32 for p in client.packets]
    assert timestamps == sorted(timestamps)
    assert client.spool.length == 48_000


async def test_a_device_with_another_format_ends_the_spool() -> None:
    client = Client(*blocks(1), DeviceLost("gone"), mode=RestoreMode.LOST)
    back = FakeSource(CD, blocks(1, CD), client.clock)
    back._opened_at = client.clock.now + 2.0
    client.capture._script += [back]
    await client.run()
    assert client.spool.length == 48_000
    assert any(state.startswith("spool ended: ") for state in client.seen.states)
    assert not client.seen.delivered[0].is_all
