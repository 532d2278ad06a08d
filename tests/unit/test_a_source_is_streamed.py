"""The client's service with fake adapters."""

from __future__ import annotations

import numpy as np
import pytest

from domain.audio import AudioFormat, AudioFrame
from domain.errors import ConnectionFailed, ConnectionLost, DeviceLost, ServerRefused
from domain.ports.capture import AudioSource
from domain.services.publish import Publisher
from tests.fakes.capture import FakeSource
from tests.fakes.media import (
    FakePublisherConnection,
    FakePublisherTransport,
    PassingResampler,
    PlainEncoder,
)
from tests.fakes.observers import SeenByClient
from tests.fakes.signaling import FakeSignaling

MONO = AudioFormat(48_000, 1)


def block(position: int, length: int, value: int = 7) -> AudioFrame:
    return AudioFrame(MONO, np.full((length, 1), value, dtype="<i2"), position)


class Client:
    def __init__(
        self,
        *script: AudioFrame | Exception,
        connection: FakePublisherConnection | None = None,
        signaling: FakeSignaling | None = None,
        duration_s: float | None = None,
    ) -> None:
        self.source = FakeSource(MONO, script)
        self.connection = connection or FakePublisherConnection()
        self.signaling = signaling or FakeSignaling()
        self.seen = SeenByClient()
        source: AudioSource = self.source
        self.publisher = Publisher(
            source=source,
            resampler=PassingResampler(),
            encoder=PlainEncoder(),
            transport=FakePublisherTransport(self.connection),
            signaling=self.signaling,
            observer=self.seen,
            channels=1,
            name="desk",
            duration_s=duration_s,
        )

    @property
    def packets(self) -> list[tuple[int, int]]:
        """Timestamps and lengths of what was sent."""
        return [(item.timestamp, len(item.payload) // 2) for item in self.connection.sent]

    def assert_released(self) -> None:
        assert self.source.closed == 1
        assert self.connection.closed == 1
        assert self.signaling.closed == 1


async def test_blocks_are_framed_sent_and_the_session_ended() -> None:
    client = Client(block(0, 1000), block(1000, 1000), block(2000, 880))
    summary = await client.publisher.run()
    # 2880 samples are three frames; 10 ms more bring out the encoder's look-ahead of 312
    assert client.packets == [(0, 960), (960, 960), (1920, 960), (2880, 480)]
    assert summary.seconds == 0.06
    assert client.signaling.offers == [("v=0 offer", "desk")]
    assert [c.candidate for _, c in client.signaling.candidates] == ["candidate:1", None]
    assert client.connection.answers == ["v=0 answer"]
    assert client.signaling.deleted == ["session"]
    assert client.seen.states == ["connecting", "connected", "finishing"]
    client.assert_released()


@pytest.mark.parametrize("length", range(1, 2000, 37))
async def test_a_tail_costs_at_most_16_5_ms(length: int) -> None:
    client = Client(block(0, length))
    summary = await client.publisher.run()
    total = sum(size for _, size in client.packets)
    assert length + 312 <= total < length + 312 + 480
    assert all(size in (480, 960) for _, size in client.packets)
    assert summary.seconds == length / 48_000


async def test_an_overrun_moves_the_timestamps_on_by_the_missing_time() -> None:
    client = Client(block(0, 960), block(960 + 4800, 960))
    client.source.overrun_samples = 4800
    summary = await client.publisher.run()
    assert [timestamp for timestamp, _ in client.packets] == [0, 5760, 6720]
    assert summary.overrun_s == 0.1
    assert client.seen.progress[-1].overrun_s == 0.1


async def test_a_duration_is_kept_to_the_sample() -> None:
    client = Client(*(block(n * 700, 700) for n in range(1000)), duration_s=0.05)
    summary = await client.publisher.run()
    assert summary.seconds == 0.05


async def test_no_sound_sends_nothing_and_ends_cleanly() -> None:
    client = Client()
    assert (await client.publisher.run()).seconds == 0
    assert client.packets == []
    client.assert_released()


async def test_an_unplugged_device_ends_the_session_with_all_it_had() -> None:
    client = Client(block(0, 1000), DeviceLost("unplugged"))
    with pytest.raises(DeviceLost):
        await client.publisher.run()
    assert sum(size for _, size in client.packets) >= 1000
    assert client.signaling.deleted == ["session"]
    client.assert_released()


async def test_a_refused_offer_releases_the_device() -> None:
    client = Client(block(0, 960), signaling=FakeSignaling(ServerRefused(401, "no")))
    with pytest.raises(ServerRefused):
        await client.publisher.run()
    assert client.signaling.deleted == []
    client.assert_released()


async def test_a_path_that_is_not_found_ends_the_session_on_the_server_too() -> None:
    failing = FakePublisherConnection(ConnectionFailed("no path"))
    client = Client(block(0, 960), connection=failing)
    with pytest.raises(ConnectionFailed):
        await client.publisher.run()
    assert client.signaling.deleted == ["session"]
    client.assert_released()


async def test_a_lost_connection_is_told() -> None:
    failing = FakePublisherConnection(ConnectionLost("gone"), fail_after=2)
    client = Client(*(block(n * 960, 960) for n in range(10)), connection=failing)
    with pytest.raises(ConnectionLost):
        await client.publisher.run()
    client.assert_released()


async def test_stopping_sends_what_was_captured() -> None:
    client = Client(block(0, 960), block(960, 960))
    client.publisher.stop()
    summary = await client.publisher.run()
    assert summary.seconds == 0
    client.assert_released()
