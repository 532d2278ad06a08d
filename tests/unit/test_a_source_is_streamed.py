"""The client's service with fake adapters and a fake clock, without sockets or sleeping."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from domain.errors import (
    ConnectionFailed,
    DeviceLost,
    DeviceUncertain,
    DeviceUnusable,
    DriverBusy,
    EndUnconfirmed,
    GaplessError,
    InputUnreadable,
    NoSuchDevice,
    Refusal,
    ServerRefused,
    ServerUnreachable,
    SessionOver,
    WrongServer,
)
from domain.events.client import (
    StreamEnded,
)
from domain.ports.capture import AudioSource, CaptureRequest, DeviceIdentity
from domain.rtp.packetizer import Packetizer
from domain.rtp.packets import RtpPacket
from domain.services.client.publisher import Publisher, StreamSummary
from domain.services.client.uplink import DEAD_AFTER_S, Uplink
from domain.session.ice import IceDescription
from domain.sound.formats import AudioFormat, AudioFrame
from domain.sound.levels import measure
from tests.fakes.capture import FakeCapture, FakeSource
from tests.fakes.events import SeenByClient
from tests.fakes.media import (
    FakeClientConnection,
    FakeClientTransport,
    PassingResampler,
    PlainEncoder,
)
from tests.fakes.signaling import FakeSignaling
from tests.fakes.time import FakeClock, Spawned

MONO = AudioFormat(48_000, 1)


def block(position: int, length: int, value: int = 7) -> AudioFrame:
    return AudioFrame(MONO, np.full((length, 1), value, dtype="<i2"), position)


def seconds(count: float) -> list[AudioFrame]:
    """Make `count` seconds of sound in blocks of 20 ms."""
    return [block(n * 960, 960) for n in range(round(count * 50))]


PROGRESS_S = 0.1


class Client:
    """A `Publisher` with its fakes."""

    def __init__(
        self,
        *script: AudioFrame | Exception,
        signaling: FakeSignaling | None = None,
        duration_s: float | None = None,
        live: bool = False,
    ) -> None:
        self.clock = FakeClock()
        self.source = FakeSource(MONO, script, self.clock if live else None)
        self.capture = FakeCapture(self.source)
        self.connection = FakeClientConnection(self.clock)
        self.transport = FakeClientTransport(self.connection)
        self.signaling = signaling or FakeSignaling()
        self.seen = SeenByClient()
        self.spawned = Spawned()
        self.duration_s = duration_s
        self.running: asyncio.Task[StreamSummary] | None = None

    def make(self) -> Publisher:
        uplink = Uplink(
            transport=self.transport,
            signaling=self.signaling,
            clock=self.clock,
            spawner=self.spawned,
            events=self.seen,
            random=lambda: 1.0,
            name="desk",
        )
        self.publisher = Publisher(
            capture=self.capture,
            request=CaptureRequest(48_000, 1),
            resampler=lambda _format: PassingResampler(),
            encoder=PlainEncoder(),
            packetizer=Packetizer(ssrc=5, first_sequence=65_535, first_timestamp=0),
            uplink=uplink,
            clock=self.clock,
            spawner=self.spawned,
            events=self.seen,
            progress_interval_s=PROGRESS_S,
            channels=1,
            duration_s=self.duration_s,
        )
        return self.publisher

    async def run(self) -> StreamSummary:
        """Run to the end while time passes."""
        self.running = asyncio.create_task(self.make().run())
        while not self.running.done():
            await self.clock.run(0.05)
        return await self.running

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        self.running = asyncio.create_task(self.make().run())
        try:
            yield
        finally:
            self.running.cancel()
            await asyncio.wait({self.running})

    async def until_done(self) -> StreamSummary:
        assert self.running is not None
        while not self.running.done():
            await self.clock.run(0.05)
        return await self.running

    @property
    def packets(self) -> list[RtpPacket]:
        return [packet for item in self.transport.opened for packet in item.sent]

    @property
    def sent(self) -> list[tuple[int, int]]:
        """Timestamps and lengths of the sent packets."""
        return [(packet.timestamp, len(packet.payload) // 2) for packet in self.packets]

    def assert_released(self) -> None:
        assert all(source.closed == 1 for source in self.capture.opened)
        assert all(item.closed for item in self.transport.opened)
        assert self.signaling.closed == 1


async def test_blocks_are_framed_sent_and_the_session_ended() -> None:
    client = Client(block(0, 1000), block(1000, 1000), block(2000, 880))
    summary = await client.run()
    # 2880 samples are three frames; another 10 ms flush the encoder's look-ahead of 312
    assert client.sent == [(0, 960), (960, 960), (1920, 960), (2880, 480)]
    assert [packet.sequence for packet in client.packets] == [65_535, 0, 1, 2]
    assert [packet.marker for packet in client.packets] == [True, False, False, False]
    assert (summary.seconds, summary.safe_s) == (0.06, 1.0)
    assert client.signaling.offers == [("v=0 offer", "desk")]
    assert [c.candidate for _, c in client.signaling.candidates] == ["candidate:1", None]
    assert client.connection.answers == ["v=0 answer"]
    assert client.signaling.deleted == ["session"]
    assert client.seen.states == ["connecting", "connected", "finishing"]
    assert client.seen.ended == [StreamEnded(summary.seconds, 0.0, 1.0)]
    assert client.connection.closed == [True]
    client.assert_released()


@pytest.mark.parametrize("length", range(1, 2000, 37))
async def test_a_tail_costs_at_most_16_5_ms(length: int) -> None:
    client = Client(block(0, length))
    summary = await client.run()
    total = sum(size for _, size in client.sent)
    assert length + 312 <= total < length + 312 + 480
    assert all(size in (480, 960) for _, size in client.sent)
    assert summary.seconds == length / 48_000


async def test_an_overrun_moves_the_timestamps_on_and_leaves_a_hole_in_the_sequence() -> None:
    client = Client(block(0, 960), block(960 + 4800, 960), live=True)
    async with client.started():
        await client.clock.run(0.05)
        client.source.overrun_samples = 4800
        summary = await client.until_done()
    assert [timestamp for timestamp, _ in client.sent] == [0, 5760, 6720]
    assert [packet.sequence for packet in client.packets] == [65_535, 1, 2]
    assert summary.lost_s == 0.1
    assert client.seen.progress[-1].lost_s == 0.1


async def test_levels_are_reported_at_the_interval_of_the_view() -> None:
    client = Client(*seconds(60), live=True)
    async with client.started():
        await client.clock.run(2.0)
        told = client.seen.progress
        # the fake clock moves by half of the reporting interval
        assert 2.0 / 1.6 <= len(told) * PROGRESS_S <= 2.0
        assert told[-1].seconds == pytest.approx(2.0, abs=0.2)
        expected = measure(block(0, 960)).peak_dbfs
        assert {progress.levels.peak_dbfs for progress in told} == {expected}


async def test_a_duration_is_kept_to_the_sample() -> None:
    client = Client(*(block(n * 700, 700) for n in range(1000)), duration_s=0.05)
    summary = await client.run()
    assert summary.seconds == 0.05


async def test_no_sound_sends_nothing_and_ends_cleanly() -> None:
    client = Client()
    assert (await client.run()).seconds == 0
    assert client.sent == []
    client.assert_released()


async def test_a_source_that_fails_ends_the_session_with_all_it_had() -> None:
    client = Client(block(0, 1000), InputUnreadable("damaged"))
    with pytest.raises(InputUnreadable):
        await client.run()
    assert sum(size for _, size in client.sent) >= 1000
    assert client.signaling.deleted == ["session"]
    client.assert_released()


@pytest.mark.parametrize(
    "error",
    [
        ServerRefused(Refusal.FINAL, "no"),
        ServerRefused(Refusal.UNCLEAR, "not implemented"),
        WrongServer("no"),
    ],
)
async def test_a_refused_offer_releases_the_device(error: GaplessError) -> None:
    client = Client(block(0, 960), signaling=FakeSignaling(error))
    with pytest.raises(type(error)):
        await client.run()
    assert client.signaling.deleted == []
    client.assert_released()


async def test_stopping_sends_what_was_captured() -> None:
    client = Client(*seconds(60), live=True)
    async with client.started():
        await client.clock.run(1.0)
        client.publisher.stop()
        summary = await client.until_done()
    assert summary.seconds == pytest.approx(1.0, abs=0.1)
    client.assert_released()


async def test_being_cancelled_releases_everything() -> None:
    client = Client(*seconds(60), live=True)
    async with client.started():
        await client.clock.run(1.0)
    client.assert_released()


# -- the server ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [ServerUnreachable("nobody"), ServerRefused(Refusal.TEMPORARY, "full")],
    ids=["gone", "full"],
)
async def test_while_a_client_waits_for_its_server_the_device_is_released(
    error: GaplessError,
) -> None:
    client = Client(*seconds(1), live=True, signaling=FakeSignaling(*[error] * 6))
    again = FakeSource(MONO, seconds(1))
    client.capture = FakeCapture(client.source, again)
    async with client.started():
        await client.clock.run(1.0)
        assert client.source.closed == 1
        summary = await client.until_done()
    assert client.seen.delays == pytest.approx([0.95 * d for d in (0.5, 1, 2, 4, 8, 8)])
    assert client.seen.states[1:7] == [f"waiting: {error}"] * 6
    assert summary.seconds == 1.0
    assert client.sent[0][0] == 0
    client.assert_released()


async def test_a_device_that_went_while_the_server_was_waited_for_is_waited_for_too() -> None:
    client = Client(live=True, signaling=FakeSignaling(ServerUnreachable("nobody")))
    identity = DeviceIdentity("USB Mic (hw:1,0)", "ALSA", "usb1/1-1")
    client.source = FakeSource(MONO, seconds(1), device=identity)
    absent = [NoSuchDevice("USB Mic (hw:1,0)", []), *[DeviceUncertain("a twin")] * 3]
    back = FakeSource(MONO, seconds(1), client.clock)
    client.capture = FakeCapture(client.source, *absent, back)
    back._opened_at = client.clock.now + 2.0
    summary = await client.run()
    assert client.seen.states == [
        "connecting",
        "waiting: nobody",
        "connected",
        "device lost: no input device 'USB Mic (hw:1,0)'; no input devices were found",
        "device not reopened: a twin",
        "device back",
        "finishing",
    ]
    assert summary.lost_s == pytest.approx(1.5, abs=0.6)
    assert summary.seconds == pytest.approx(summary.lost_s + 1)
    first = next(packet for packet in client.packets if packet.payload)
    assert first.timestamp == pytest.approx(summary.lost_s * 48_000, abs=1)
    client.assert_released()


async def test_sound_from_before_a_slow_connection_is_not_sent_late() -> None:
    client = Client(*seconds(1), live=True)
    again = FakeSource(MONO, seconds(1))
    client.capture = FakeCapture(client.source, again)
    client.source.overrun_samples = 48_000  # lost while there was no connection
    summary = await client.run()
    assert client.source.closed == 1
    assert (summary.seconds, summary.lost_s) == (1.0, 0.0)
    assert client.sent[0][0] == 0
    client.assert_released()


async def test_a_session_without_a_path_is_deleted_and_another_one_is_tried() -> None:
    client = Client(block(0, 960))
    failing = FakeClientConnection(client.clock, ConnectionFailed("no path"))
    client.transport = FakeClientTransport(failing, client.connection)
    client.capture = FakeCapture(client.source, FakeSource(MONO, [block(0, 960)]))
    await client.run()
    assert client.signaling.deleted == ["session", "session"]
    assert client.signaling.resumed == [None, None]
    assert failing.closed == [False]
    client.assert_released()


async def test_a_dead_path_is_noticed_within_three_seconds_and_replaced() -> None:
    client = Client(*seconds(20), live=True)
    second = FakeClientConnection(client.clock)
    client.transport = FakeClientTransport(client.connection, second)
    async with client.started():
        await client.clock.run(5.0)
        client.connection.die()
        await client.clock.run(DEAD_AFTER_S + 0.4)
        assert client.seen.states[-2:] == ["interrupted", "resumed"]
        await client.until_done()
    assert client.signaling.resumed == [None, "secret"]
    assert client.connection.closed == [
        False
    ]  # a close alert might still arrive, and would end the session
    # both connections have the same sequence, clock and source
    packets = client.packets
    assert {packet.ssrc for packet in packets} == {5}
    assert [p.sequence for p in packets] == [(65_535 + n) % 2**16 for n in range(len(packets))]
    assert [packet.timestamp for packet in packets] == [n * 960 for n in range(len(packets))]
    client.assert_released()


async def test_a_path_that_recovers_by_itself_stays_in_use() -> None:
    client = Client(*seconds(20), live=True)
    stuck = FakeClientConnection(client.clock, ConnectionFailed("no path"))
    client.transport = FakeClientTransport(client.connection, stuck)
    async with client.started():
        await client.clock.run(2.0)
        client.connection.die()
        await client.clock.run(6.0)
        client.connection.revive()
        await client.clock.run(0.3)
        assert client.seen.states[-1] == "resumed"
        await client.until_done()
    assert client.connection.closed == [True]
    assert [p.timestamp for p in client.connection.sent] == [n * 960 for n in range(1001)]
    client.assert_released()


async def test_a_dead_path_is_replaced_by_an_ice_restart_where_there_is_another() -> None:
    client = Client(*seconds(20), live=True)
    client.connection = FakeClientConnection(client.clock, can_restart=True)
    client.transport = FakeClientTransport(client.connection)
    async with client.started():
        for _ in range(2):  # and again if the new path dies, too
            await client.clock.run(3.0)
            client.connection.die()
            await client.clock.run(DEAD_AFTER_S + 0.4)
            assert client.seen.states[-2:] == ["interrupted", "resumed"]
        await client.until_done()
    assert client.signaling.restarts == [("secret", "tag")] * 2
    assert len(client.transport.opened) == 1
    client.assert_released()


async def test_an_ice_restart_waits_for_the_server_and_is_tried_once() -> None:
    client = Client(*seconds(30), live=True)
    stuck = FakeClientConnection(client.clock, ConnectionFailed("no path"))
    client.transport = FakeClientTransport(client.connection, stuck)
    async with client.started():
        await client.clock.run(2.0)
        client.connection.die()
        client.signaling.unreachable = ServerUnreachable("no network")
        await client.clock.run(6.0)
        assert client.signaling.restarts == []
        client.signaling.unreachable = None
        await client.clock.run(15.0)
        assert len(client.signaling.restarts) == 1
        assert len(client.transport.opened) > 2
        client.connection.revive()
        await client.until_done()
    client.assert_released()


async def test_an_ice_restart_that_the_server_has_answered_is_not_interrupted() -> None:
    client = Client(*seconds(20), live=True)
    client.connection = FakeClientConnection(client.clock, can_restart=True)
    client.transport = FakeClientTransport(client.connection)
    found, done = asyncio.Event(), []

    async def restart_ice(exchange: Callable[..., Awaitable[object]]) -> None:
        await exchange(IceDescription("user", "password"))
        await found.wait()
        done.append(True)

    client.connection.restart_ice = restart_ice  # type: ignore[assignment]
    async with client.started():
        await client.clock.run(2.0)
        client.connection.die()
        await client.clock.run(4.0)
        client.connection.revive()  # the old path recovers while both ends switch to another one
        await client.clock.run(1.0)
        found.set()
        await client.until_done()
    assert done
    assert len(client.transport.opened) == 1
    client.assert_released()


async def test_an_attempt_that_hangs_is_given_up_for_another() -> None:
    client = Client(*seconds(20), live=True)
    hanging = FakeClientConnection(client.clock)

    async def hang(*_arguments: object, **_more: object) -> None:
        await asyncio.Event().wait()

    hanging.connect = hang  # type: ignore[method-assign]
    third = FakeClientConnection(client.clock)
    client.transport = FakeClientTransport(client.connection, hanging, third)
    async with client.started():
        await client.clock.run(2.0)
        client.connection.die()
        await client.clock.run(9.0)
        assert third.is_open
        await client.until_done()
    assert hanging.closed == [False]
    client.assert_released()


async def test_a_slow_path_gets_more_time_with_each_attempt() -> None:
    client = Client(*seconds(60), live=True)
    slow = [FakeClientConnection(client.clock) for _ in range(2)]
    for item in slow:

        async def connect(
            *arguments: Any, connect: Callable[..., Awaitable[None]] = item.connect, **more: Any
        ) -> None:
            await client.clock.sleep(8.0)
            await connect(*arguments, **more)

        item.connect = connect  # type: ignore[method-assign]
    client.transport = FakeClientTransport(client.connection, *slow)
    async with client.started():
        await client.clock.run(2.0)
        client.connection.die()
        await client.clock.run(20.0)
        assert [item.is_open for item in slow] == [False, True]
        await client.until_done()
    client.assert_released()


@pytest.mark.parametrize(
    "portal",
    [ServerRefused(Refusal.UNCLEAR, "log in"), WrongServer("another one")],
    ids=str,
)
async def test_answers_of_other_servers_in_an_outage_do_not_end_the_session(
    portal: GaplessError,
) -> None:
    client = Client(*seconds(20), live=True, signaling=FakeSignaling(None, portal, portal))
    client.transport = FakeClientTransport(
        client.connection, *(FakeClientConnection(client.clock) for _ in range(3))
    )
    async with client.started():
        await client.clock.run(2.0)
        client.connection.die()
        await client.until_done()
    assert client.signaling.resumed == [None, "secret"]
    client.assert_released()


async def test_a_session_that_is_over_ends_the_client_with_the_servers_words() -> None:
    over = ServerRefused(Refusal.FINAL, "the session is over")
    client = Client(*seconds(60), live=True, signaling=FakeSignaling(None, over))
    async with client.started():
        await client.clock.run(2.0)
        client.connection.die()
        with pytest.raises(ServerRefused, match="over"):
            await client.until_done()
    assert client.signaling.deleted == []
    client.assert_released()


async def test_a_close_by_the_server_ends_the_client() -> None:
    client = Client(*seconds(60), live=True)
    async with client.started():
        await client.clock.run(2.0)
        client.connection.close_by_server()
        with pytest.raises(SessionOver):
            await client.until_done()
    assert client.signaling.resumed == [None]
    client.assert_released()


async def test_a_missing_server_is_retried_for_a_while_at_the_end() -> None:
    client = Client(*seconds(60), live=True)
    async with client.started():
        await client.clock.run(2.0)
        client.connection.die()
        client.signaling.unreachable = ServerUnreachable("nobody")
        await client.clock.run(5.0)
        client.publisher.stop()
        stopped_at = client.clock.now
        with pytest.raises(EndUnconfirmed, match="nobody"):
            await client.until_done()
    assert 5 < client.clock.now - stopped_at < 15
    client.assert_released()


async def test_at_the_end_the_client_waits_for_the_report_of_the_last_packet() -> None:
    client = Client(*seconds(2), live=True)
    send = client.connection.send

    def send_without_report(packet: RtpPacket) -> None:
        send(packet)
        client.connection.highest_reported = None

    client.connection.send = send_without_report  # type: ignore[method-assign]
    async with client.started():
        await client.clock.run(3.0)
        assert client.connection.closed == []
        client.connection.highest_reported = client.packets[-1].sequence
        await client.clock.run(0.2)
        assert client.connection.closed == [True]
        await client.until_done()


# -- the device ----------------------------------------------------------------------------------


async def test_a_device_that_returns_continues_at_the_position_of_the_clock() -> None:
    client = Client(*seconds(1), DeviceLost("unplugged"), live=True)
    again = FakeSource(MONO, [], client.clock)
    again._script = list(seconds(1))
    missing = [DeviceUnusable("not there")] * 5
    client.capture = FakeCapture(client.source, *missing, again)
    again._opened_at = client.clock.now + 3.5  # after five attempts, half a second each
    summary = await client.run()
    assert client.seen.states[2:5] == ["device lost: unplugged", "device back", "finishing"]
    heartbeats = [p for p in client.packets if not p.payload]
    assert len(heartbeats) >= 4
    sounding = [p for p in client.packets if p.payload]
    jumps = [
        (b.timestamp - a.timestamp - 960) / 48_000
        for a, b in itertools.pairwise(sounding)
        if b.timestamp - a.timestamp > 960
    ]
    assert jumps == [pytest.approx(2.5, abs=0.3)]
    assert summary.lost_s == pytest.approx(2.5, abs=0.3)
    assert summary.seconds == pytest.approx(4.5, abs=0.3)
    # the sequence has a hole, too, so this is not intended silence
    assert [p.sequence for p in client.packets] != [
        (65_535 + n) % 2**16 for n in range(len(client.packets))
    ]
    assert [p.timestamp for p in client.packets] == sorted(p.timestamp for p in client.packets)
    client.assert_released()


async def test_the_client_waits_for_the_same_device() -> None:
    client = Client()
    script = [*seconds(1), DeviceLost("unplugged")]
    first = DeviceIdentity("USB Mic (hw:1,0)", "ALSA", "usb1/1-1")
    second = DeviceIdentity("USB Mic (hw:2,0)", "ALSA", "usb1/1-1")
    client.source = FakeSource(MONO, script, device=first)
    again = FakeSource(MONO, [*seconds(1), DeviceLost("unplugged")], device=second)
    last = FakeSource(MONO, seconds(1), device=second)
    client.capture = FakeCapture(client.source, NoSuchDevice("USB Mic (hw:1,0)", []), again, last)
    await client.run()
    assert [request.same_as for request in client.capture.requests] == [
        None, first, first, second,
    ]  # fmt: skip
    client.assert_released()


async def test_why_a_device_is_not_opened_again_is_said_once() -> None:
    client = Client(*seconds(1), DeviceLost("unplugged"), live=True)
    uncertain, busy = DeviceUncertain("two of them"), DriverBusy("it hangs")
    errors = [uncertain, busy, uncertain, busy, NoSuchDevice("USB Mic", []), DeviceUnusable("no")]
    client.capture = FakeCapture(client.source, *errors, FakeSource(MONO, seconds(1)))
    await client.run()
    assert client.seen.states[2:6] == [
        "device lost: unplugged",
        "device not reopened: two of them",
        "device not reopened: it hangs",
        "device back",
    ]
    client.assert_released()


@pytest.mark.parametrize("length", [48_000, 48_500])
async def test_sound_captured_before_a_device_is_lost_is_sent_before_the_silence(
    length: int,
) -> None:
    blocks = [block(start, min(500, length - start)) for start in range(0, length, 500)]
    client = Client(*blocks, DeviceLost("unplugged"), live=True)
    again = FakeSource(MONO, seconds(1))
    client.capture = FakeCapture(client.source, *[DeviceUnusable("not there")] * 3, again)
    await client.run()
    timestamps = [packet.timestamp for packet in client.packets]
    assert timestamps == sorted(timestamps)
    before = itertools.takewhile(lambda packet: packet.payload, client.packets)
    assert sum(len(packet.payload) // 2 for packet in before) >= length + PlainEncoder.look_ahead


async def test_a_path_that_works_in_one_direction_only_is_dead() -> None:
    client = Client(*seconds(20), live=True)
    second = FakeClientConnection(client.clock)
    client.transport = FakeClientTransport(client.connection, second)
    async with client.started():
        await client.clock.run(2.0)
        # the server still reports, but its reports do not progress
        client.connection.__class__ = DeafConnection
        await client.clock.run(DEAD_AFTER_S + 0.5)
        assert second.is_open
        await client.until_done()
    client.assert_released()


async def test_a_device_that_opens_slowly_is_not_a_dead_path() -> None:
    client = Client(*seconds(1), live=True, signaling=FakeSignaling(ServerUnreachable("nobody")))
    slow = FakeSource(MONO, seconds(1))
    client.capture = FakeCapture(client.source, slow)
    open_at_once = client.capture.open

    async def open_slowly(request: CaptureRequest) -> AudioSource:
        if client.capture.opened:
            await client.clock.sleep(2 * DEAD_AFTER_S)
        return await open_at_once(request)

    client.capture.open = open_slowly  # type: ignore[method-assign]
    await client.run()
    assert "interrupted" not in client.seen.states


class DeafConnection(FakeClientConnection):
    def send(self, packet: RtpPacket) -> None:
        self.sent.append(packet)


async def test_cancelling_the_confirmation_of_the_end_still_closes_the_connection() -> None:
    client = Client(*seconds(1), live=True)
    client.connection.__class__ = DeafConnection
    async with client.started():
        await client.clock.run(1.3)
        assert client.seen.states[-1] == "finishing"
    assert client.connection.closed == [True]
    client.assert_released()


async def test_a_busy_gateway_is_retried_at_the_end() -> None:
    client = Client(*seconds(1), live=True)
    async with client.started():
        client.signaling.unreachable = None
        await client.clock.run(0.5)
        client.signaling.unreachable = ServerRefused(Refusal.TEMPORARY, "busy")
        await client.clock.run(1.0)
        client.signaling.unreachable = None
        assert (await client.until_done()).safe_s == 1.0


async def test_a_failed_recording_is_reported_at_once() -> None:
    client = Client(*seconds(1))
    failed = ServerRefused(Refusal.FINAL, "the recording could not be completed")
    client.signaling.unreachable_at_end = failed
    with pytest.raises(ServerRefused, match="could not be completed"):
        await client.run()
    assert client.signaling.deletions == 1
    client.assert_released()


async def test_stopping_while_the_device_is_being_opened_again_ends_the_stream() -> None:
    client = Client(*seconds(1), DeviceLost("unplugged"), live=True)
    again = FakeSource(MONO, seconds(60), client.clock)
    client.capture = FakeCapture(client.source, again)
    open_again = client.capture.open

    async def stopped_meanwhile(request: CaptureRequest) -> AudioSource:
        source = await open_again(request)
        if source is again:
            client.publisher.stop()
        return source

    client.capture.open = stopped_meanwhile  # type: ignore[method-assign]
    assert (await client.run()).seconds == 1.0
    client.assert_released()


async def test_a_duration_ends_though_the_device_is_gone() -> None:
    client = Client(*seconds(1), DeviceLost("unplugged"), live=True, duration_s=2.2)
    client.capture = FakeCapture(client.source, *[DeviceUnusable("not there")] * 1000)
    summary = await client.run()
    assert max(packet.timestamp for packet in client.packets) == round(2.2 * 48_000)
    assert (summary.seconds, summary.lost_s) == (1.0, pytest.approx(1.2))


async def test_stopping_while_the_device_is_gone_ends_the_stream() -> None:
    client = Client(*seconds(1), DeviceLost("unplugged"), live=True)
    client.capture = FakeCapture(client.source, *[DeviceUnusable("not there")] * 1000)
    async with client.started():
        await client.clock.run(3.0)
        client.publisher.stop()
        summary = await client.until_done()
    assert summary.seconds == 1.0
    assert client.signaling.deleted == ["session"]
    client.assert_released()
