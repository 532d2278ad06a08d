"""The sound of a microphone is sent with each sample at its time, and with gaps as gaps."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from domain.errors import DeviceLost, DeviceUnusable, InputUnreadable
from domain.events import (
    Event,
)
from domain.events.client import (
    MicrophoneLost,
    MicrophoneReturned,
)
from domain.ports.capture import AudioSource, BlockConsumer, CaptureRequest
from domain.rtp.packetizer import Packetizer
from domain.rtp.packets import RtpPacket
from domain.services.client.publisher import Publisher, StreamSummary
from domain.services.client.uplink import Uplink
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
NARROW = AudioFormat(16_000, 1)


def block(position: int, length: int = 960, value: int = 7) -> AudioFrame:
    return AudioFrame(MONO, np.full((length, 1), value, dtype="<i2"), position)


def seconds(count: float, *, start: int = 0) -> list[AudioFrame]:
    return [block(start + n * 960) for n in range(round(count * 50))]


class Microphone(FakeSource):
    """A source whose time begins when it is opened; it records when each block was consumed."""

    def __init__(
        self,
        clock: FakeClock,
        script: Sequence[AudioFrame | Exception],
        audio_format: AudioFormat = MONO,
    ) -> None:
        super().__init__(audio_format, script, clock)
        self.taken: list[tuple[float, AudioFrame]] = []
        self._time = clock

    def opened(self) -> None:
        self._opened_at = self._time.now

    async def deliver(self, consume: BlockConsumer) -> None:
        def keep(item: AudioFrame) -> bool:
            self.taken.append((self._time.now, item))
            return consume(item)

        await super().deliver(keep)


class Microphones(FakeCapture):
    def __init__(self, clock: FakeClock, *script: FakeSource | Exception) -> None:
        super().__init__(*script)
        self.asked_at: list[float] = []
        self._time = clock

    async def open(self, request: CaptureRequest) -> AudioSource:
        self.asked_at.append(self._time.now)
        source = await super().open(request)
        if isinstance(source, Microphone):
            source.opened()
        return source


class LoggingEncoder(PlainEncoder):
    """An encoder that records its calls in order."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def encode(self, frame: AudioFrame, *, last: bool = False) -> bytes | None:
        self.log.append(f"{frame.position}{' last' if last else ''}")
        return super().encode(frame, last=last)

    def reset(self) -> None:
        self.log.append("reset")


class Tripling:
    """Resamples from 16 to 48 kHz; the flush returns the last ten samples."""

    def __init__(self) -> None:
        self._position = 0
        self._kept: list[np.ndarray] = []

    def push(self, item: AudioFrame) -> list[AudioFrame]:
        samples = np.concatenate([*self._kept, np.repeat(item.samples, 3, axis=0)])
        samples, self._kept = samples[:-10], [samples[-10:]]
        return [self._part(samples)]

    def flush(self) -> list[AudioFrame]:
        return [self._part(samples) for samples in self._kept]

    def _part(self, samples: np.ndarray) -> AudioFrame:
        part = AudioFrame(MONO, samples, self._position)
        self._position += len(samples)
        return part


class Stream:
    """A publisher between microphones and a server that accepts everything."""

    def __init__(self, *, duration_s: float | None = None, progress_interval_s: float = 0.1):
        self.clock = FakeClock()
        self.encoder = LoggingEncoder()
        self.seen = SeenByClient()
        self.connection = FakeClientConnection(self.clock)
        self.signaling = FakeSignaling()
        self.duration_s = duration_s
        self.progress_interval_s = progress_interval_s
        self.stop_at: float | None = None

    def microphone(
        self, script: Sequence[AudioFrame | Exception], audio_format: AudioFormat = MONO
    ) -> Microphone:
        return Microphone(self.clock, script, audio_format)

    async def run(self, *script: FakeSource | Exception) -> StreamSummary:
        self.capture = Microphones(self.clock, *script)
        spawned = Spawned()
        self.publisher = Publisher(
            capture=self.capture,
            request=CaptureRequest(48_000, 1),
            resampler=lambda given: Tripling() if given == NARROW else PassingResampler(),
            encoder=self.encoder,
            packetizer=Packetizer(ssrc=5, first_sequence=100, first_timestamp=0),
            uplink=Uplink(
                transport=FakeClientTransport(self.connection),
                signaling=self.signaling,
                clock=self.clock,
                spawner=spawned,
                events=self.seen,
                random=lambda: 0.0,
                name="desk",
            ),
            clock=self.clock,
            spawner=spawned,
            events=self.seen,
            progress_interval_s=self.progress_interval_s,
            channels=1,
            duration_s=self.duration_s,
        )
        running = asyncio.create_task(self.publisher.run())
        while not running.done():
            if self.stop_at is not None and self.clock.now >= self.stop_at:
                self.publisher.stop()
            await self.clock.run(0.05)
        return await running

    @property
    def sent(self) -> list[RtpPacket]:
        return self.connection.sent

    @property
    def sounding(self) -> list[RtpPacket]:
        return [packet for packet in self.sent if packet.payload]

    def is_hole_before(self, packet: RtpPacket) -> bool:
        """Whether a sequence number is missing before a packet: sound was lost before sending."""
        before = self.sent[self.sent.index(packet) - 1]
        return (packet.sequence - before.sequence) % 2**16 == 2


# -- holes -----------------------------------------------------------------------------------------


async def test_nothing_is_reset_in_contiguous_sound() -> None:
    stream = Stream()
    await stream.run(FakeSource(MONO, seconds(0.1)))
    assert stream.encoder.log == ["0", "960", "1920", "2880", "3840", "4800 last"]
    assert [packet.sequence for packet in stream.sent] == list(range(100, 106))


async def test_a_gap_resets_the_encoder_and_skips_a_sequence_number() -> None:
    stream = Stream()
    await stream.run(FakeSource(MONO, [block(0), block(9600), block(10_560)]))
    assert stream.encoder.log == ["0", "reset", "9600", "10560", "11520 last"]
    assert [packet.sequence for packet in stream.sent] == [100, 102, 103, 104]
    assert [packet.marker for packet in stream.sent] == [True, True, False, False]


async def test_a_source_that_begins_late_causes_no_gap() -> None:
    stream = Stream()
    await stream.run(FakeSource(MONO, [block(4800), block(5760)]))
    assert [packet.timestamp for packet in stream.sent] == [4800, 5760, 6720]
    assert [packet.sequence for packet in stream.sent] == [100, 101, 102]
    assert "reset" not in stream.encoder.log


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 168, 169, 648, 649, 959, 960, 1128, 1129, 1608, 1609])
async def test_the_end_is_the_tail_the_look_ahead_and_silence_in_steps_of_10_ms(
    length: int,
) -> None:
    stream = Stream()
    summary = await stream.run(FakeSource(MONO, [block(0, length)]))
    sent = np.concatenate([np.frombuffer(packet.payload, "<i2") for packet in stream.sent])
    total = length // 960 * 960 + -(-(length % 960 + 312) // 480) * 480
    assert len(sent) == total
    assert (sent[:length] == 7).all()
    assert not sent[length:].any()
    assert summary.seconds == length / 48_000
    assert [entry for entry in stream.encoder.log if "last" in entry] == stream.encoder.log[-1:]
    for before, packet in itertools.pairwise(stream.sent):
        assert packet.timestamp == before.timestamp + len(before.payload) // 2


async def test_a_source_that_never_sounded_has_no_end_to_send() -> None:
    stream = Stream()
    summary = await stream.run(FakeSource(MONO, []))
    assert (stream.sent, summary.seconds, summary.lost_s) == ([], 0.0, 0.0)


async def test_samples_in_the_resampler_are_sent_at_the_end() -> None:
    stream = Stream()
    script = [AudioFrame(NARROW, np.full((320, 1), 7, "<i2"), n * 320) for n in range(5)]
    summary = await stream.run(FakeSource(NARROW, script))
    assert summary.seconds == pytest.approx(0.1)
    assert [packet.timestamp for packet in stream.sent] == [n * 960 for n in range(6)]


# -- a duration ------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 959, 960, 961, 2400])
async def test_a_duration_ends_at_its_last_sample(samples: int) -> None:
    stream = Stream(duration_s=samples / 48_000)
    source = FakeSource(MONO, [block(n * 700, 700) for n in range(50)])
    summary = await stream.run(source)
    assert summary.seconds == samples / 48_000
    sent = np.concatenate([np.frombuffer(packet.payload, "<i2") for packet in stream.sent])
    assert np.count_nonzero(sent) == samples
    read = 50 - len(source._script)
    assert read == -(-samples // 700)  # no further block is requested


# -- a device that goes and comes back -------------------------------------------------------------


@pytest.mark.parametrize("missing", [0, 1, 7])
@pytest.mark.parametrize("length", [960, 480, 1440])
async def test_sound_after_an_absence_is_where_the_clock_says(missing: int, length: int) -> None:
    stream = Stream()
    gone = stream.microphone([*seconds(1), DeviceLost("unplugged")])
    back = stream.microphone([block(n * length, length) for n in range(20)])
    summary = await stream.run(gone, *[DeviceUnusable("not there")] * missing, back)
    lost_at, (came_at, first) = gone.taken[-1][0], back.taken[0]
    # the first block was captured just before it arrived
    elapsed = round((came_at - lost_at) * 48_000) - len(first)
    again = next(packet for packet in stream.sounding if packet.timestamp >= 48_000 + 480)
    assert again.timestamp == 48_000 + elapsed
    assert summary.lost_s == pytest.approx(elapsed / 48_000)
    assert summary.seconds == pytest.approx((48_000 + elapsed + 20 * length) / 48_000)
    assert stream.is_hole_before(again)
    assert again.marker
    following = itertools.pairwise(packet for packet in stream.sounding if packet is again or
                                   packet.timestamp > again.timestamp)  # fmt: skip
    assert all(b.timestamp - a.timestamp == 960 for a, b in following)


async def test_sound_of_a_returned_device_never_overlaps_sent_sound() -> None:
    """The clock may give an earlier position than a keepalive has claimed."""
    stream = Stream()
    gone = stream.microphone([*seconds(1), DeviceLost("unplugged")])
    long = stream.microphone([block(0, 48_000), block(48_000, 960)])
    await stream.run(gone, long)
    for before, packet in itertools.pairwise(stream.sent):
        assert packet.timestamp >= before.timestamp + len(before.payload) // 2
    assert stream.encoder.log.count("reset") == 1  # though not a sample seems to be missing


async def test_the_server_hears_of_an_absence_every_half_second() -> None:
    stream = Stream()
    gone = stream.microphone([*seconds(1), DeviceLost("unplugged")])
    back = stream.microphone(seconds(0.2))
    await stream.run(gone, *[DeviceUnusable("not there")] * 6, back)
    asked = np.diff(stream.capture.asked_at[1:])
    assert asked == pytest.approx([0.5] * 6, abs=0.051)
    heartbeats = [packet for packet in stream.sent if not packet.payload]
    assert len(heartbeats) in (6, 7)
    steps = np.diff([packet.timestamp for packet in heartbeats]) / 48_000
    assert steps == pytest.approx([0.5] * len(steps), abs=0.051)
    assert not any(packet.marker for packet in heartbeats)
    assert all(stream.is_hole_before(packet) for packet in heartbeats)


async def test_a_device_that_opens_and_delivers_nothing_is_not_back() -> None:
    stream = Stream()
    gone = stream.microphone([*seconds(1), DeviceLost("unplugged")])
    dead, silent = stream.microphone([DeviceLost("again")]), stream.microphone([])
    back = stream.microphone(seconds(0.2))
    summary = await stream.run(gone, dead, silent, back)
    assert (dead.closed, silent.closed, back.closed) == (1, 1, 1)
    assert stream.seen.states.count("device back") == 1
    assert summary.lost_s == pytest.approx(1.0, abs=0.15)


async def test_an_absence_that_never_ends_is_lost_until_it_is_given_up() -> None:
    stream = Stream()
    gone = stream.microphone([*seconds(1), DeviceLost("unplugged")])
    stream.stop_at = stream.clock.now + 4.0
    summary = await stream.run(gone, *[DeviceUnusable("not there")] * 100)
    assert summary.seconds == 1.0
    heartbeats = [packet.timestamp for packet in stream.sent if not packet.payload]
    assert not stream.sent[-1].payload  # there is no sound whose end would have to be sent
    assert summary.lost_s == (heartbeats[-1] - 48_000) / 48_000
    assert summary.lost_s == pytest.approx(3.0, abs=0.6)


async def test_a_device_that_goes_before_its_first_block_was_there_from_the_beginning() -> None:
    stream = Stream()
    gone = stream.microphone([DeviceLost("unplugged")])
    back = stream.microphone(seconds(0.2))
    began: list[float] = []
    stream.seen.publish = lambda event: (  # type: ignore[method-assign]
        began.append(stream.clock.now) if isinstance(event, MicrophoneLost) else None
    )
    await stream.run(gone, *[DeviceUnusable("not there")] * 3, back)
    came_at, first = back.taken[0]
    assert stream.sounding[0].timestamp == round((came_at - began[0]) * 48_000) - len(first)


async def test_a_stream_that_is_stopped_when_its_device_goes_has_lost_nothing() -> None:
    stream = Stream()
    stream.seen.publish = lambda event: (  # type: ignore[method-assign]
        stream.publisher.stop() if isinstance(event, MicrophoneLost) else None
    )
    summary = await stream.run(stream.microphone([*seconds(1), DeviceLost("unplugged")]))
    assert (summary.seconds, summary.lost_s) == (1.0, 0.0)


async def test_samples_in_the_resampler_are_sent_once_even_if_the_device_never_returns() -> None:
    stream = Stream()
    script = [AudioFrame(NARROW, np.full((320, 1), 7, "<i2"), n * 320) for n in range(5)]
    gone = stream.microphone([*script, DeviceLost("unplugged")], NARROW)
    stream.stop_at = stream.clock.now + 2.0
    summary = await stream.run(gone, *[DeviceUnusable("not there")] * 20)
    assert summary.seconds == pytest.approx(0.1)
    sent = np.concatenate([np.frombuffer(packet.payload, "<i2") for packet in stream.sounding])
    assert np.count_nonzero(sent) == 5 * 960


async def test_an_absence_counts_for_the_duration() -> None:
    stream = Stream(duration_s=2.5)
    gone = stream.microphone([*seconds(1), DeviceLost("unplugged")])
    back = stream.microphone(seconds(60))
    summary = await stream.run(gone, *[DeviceUnusable("not there")] * 2, back)
    assert summary.seconds == 2.5


async def test_a_fault_while_the_device_is_away_is_not_the_end() -> None:
    stream = Stream()
    gone = stream.microphone([*seconds(1), DeviceLost("unplugged")])
    back = stream.microphone([*seconds(0.2), InputUnreadable("damaged")])
    with pytest.raises(InputUnreadable):
        await stream.run(gone, InputUnreadable("busy"), back)
    assert stream.signaling.deleted == ["session"]


# -- what is reported ------------------------------------------------------------------------------


async def test_lost_samples_are_counted_in_time_whatever_their_rate() -> None:
    stream = Stream()
    source = FakeSource(NARROW, [AudioFrame(NARROW, np.full((320, 1), 7, "<i2"), 0)])
    run = asyncio.create_task(stream.run(source))
    while not stream.connection.is_open:
        await asyncio.sleep(0)
    source.overrun_samples = 8000
    assert (await run).lost_s == 0.5


async def test_levels_cover_at_most_the_latest_minute() -> None:
    for quiet, is_loud in ((2999, True), (3000, False)):
        stream = Stream(progress_interval_s=1000)
        script = [block(0, value=30_000)] + [block(n * 960) for n in range(1, quiet + 1)]
        await stream.run(FakeSource(MONO, script))
        (told,) = stream.seen.progress
        loud = measure(block(0, value=30_000)).peak_dbfs
        assert (told.levels.peak_dbfs == loud) is is_loud
        assert told.seconds == len(script) / 50


async def test_levels_of_frames_are_reported_once() -> None:
    stream = Stream()
    source = stream.microphone([block(0, value=30_000), *seconds(1, start=960)])
    await stream.run(source)
    loud = measure(block(0, value=30_000)).peak_dbfs
    assert [told.levels.peak_dbfs == loud for told in stream.seen.progress].count(True) == 1
    assert stream.seen.progress[0].levels.peak_dbfs == loud
    assert [told.seconds for told in stream.seen.progress] == sorted(
        told.seconds for told in stream.seen.progress
    )


async def test_the_length_of_an_absence_of_the_device_is_reported() -> None:
    stream = Stream()
    told: list[Event] = []
    stream.seen.publish = told.append  # type: ignore[method-assign]
    gone = stream.microphone([*seconds(1), DeviceLost("unplugged")])
    back = stream.microphone(seconds(0.2))
    await stream.run(gone, *[DeviceUnusable("not there")] * 3, back)
    (returned,) = [event for event in told if isinstance(event, MicrophoneReturned)]
    assert returned == MicrophoneReturned(pytest.approx(back.taken[0][0] - gone.taken[-1][0]))


async def test_the_device_is_let_go_before_the_end_is_waited_for() -> None:
    stream = Stream()
    source = stream.microphone(seconds(0.2))
    run = asyncio.create_task(stream.run(source))
    while not stream.sent:
        await asyncio.sleep(0)
    send = stream.connection.send

    def send_in_vain(item: RtpPacket) -> None:
        send(item)
        stream.connection.highest_reported = 0

    stream.connection.send = send_in_vain  # type: ignore[method-assign]
    while "finishing" not in stream.seen.states:
        await asyncio.sleep(0)
    assert source.closed == 1
    await run


async def test_the_stream_says_when_sound_is_on_its_way() -> None:
    stream = Stream()
    run = asyncio.create_task(stream.run(stream.microphone(seconds(1))))
    await asyncio.sleep(0)
    assert not stream.publisher.streaming
    await run
    assert stream.publisher.streaming
