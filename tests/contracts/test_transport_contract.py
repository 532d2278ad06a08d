"""What the media path promises: both real ends joined over loopback, and the fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from adapters.runtime.asyncio_runtime import BackgroundTasks, SystemClock
from adapters.transport.ingest import AiortcIngest
from adapters.transport.publisher import AiortcPublisher
from domain.errors import CandidateRejected, ConnectionLost, OfferRejected
from domain.ports.codec import EncodedPacket
from domain.ports.transport import (
    IceCandidate,
    IngestConnection,
    IngestTransport,
    PublisherConnection,
)
from domain.rtp import ReceptionReport, ReceptionStatistics, RtpPacket
from tests.fakes.media import FakeIngestTransport


class Heard:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.packets: list[RtpPacket] = []
        self.established = 0
        self.closed = 0
        self._statistics: ReceptionStatistics | None = None
        self._news = asyncio.Event()

    def connection_established(self, *, now: float) -> None:
        self.established += 1
        self._news.set()

    def packet_received(self, packet: RtpPacket, *, now: float) -> None:
        self._statistics = self._statistics or ReceptionStatistics(
            packet.ssrc, clock_rate_hz=48_000
        )
        self._statistics.received(packet, now=now)
        self.packets.append(packet)
        self._news.set()

    def connection_closed(self) -> None:
        self.closed += 1
        self._news.set()

    def reception_report(self) -> ReceptionReport | None:
        return self._statistics.report() if self._statistics else None

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():
                self._news.clear()
                await self._news.wait()


def real_ingest(spawner: BackgroundTasks) -> AiortcIngest:
    return AiortcIngest(ice_servers=(), loopback=True, clock=SystemClock(), spawner=spawner)


def real_publisher() -> PublisherConnection:
    return AiortcPublisher(ice_servers=(), loopback=True, channels=1).open()


@pytest.fixture(params=["aiortc", "fake"])
def ingest(request: pytest.FixtureRequest) -> IngestTransport:
    if request.param == "fake":
        return FakeIngestTransport()
    return real_ingest(BackgroundTasks())


@pytest.fixture
async def joined() -> AsyncIterator[tuple[PublisherConnection, IngestConnection, Heard]]:
    """Both ends, connected."""
    spawner, heard = BackgroundTasks(), Heard()
    publisher = real_publisher()
    server = await real_ingest(spawner).accept(publisher.offer_sdp)
    server.start(heard)

    async def send_candidate(candidate: IceCandidate) -> None:
        server.add_candidate(candidate)

    await publisher.connect(server.answer_sdp, send_candidate)
    yield publisher, server, heard
    await publisher.close()
    await server.close()
    await spawner.join()


async def test_an_offer_that_is_none_is_refused_and_leaves_nothing(ingest: IngestTransport) -> None:
    before = len(asyncio.all_tasks())
    with pytest.raises(OfferRejected):
        await ingest.accept("bad")
    assert len(asyncio.all_tasks()) == before


async def test_an_offer_is_answered_with_the_codecs_to_expect(ingest: IngestTransport) -> None:
    publisher = real_publisher()
    server = await ingest.accept(publisher.offer_sdp)
    assert server.answer_sdp.startswith("v=0")
    assert server.codecs[111].name == "opus"
    for _ in range(2):
        await server.close()
        await publisher.close()


async def test_packets_arrive_once_in_order_with_their_timestamps(
    joined: tuple[PublisherConnection, IngestConnection, Heard],
) -> None:
    publisher, _, heard = joined
    payloads = [bytes([0x78, n]) for n in range(50)]
    for n, payload in enumerate(payloads):
        await publisher.send(EncodedPacket(payload, n * 960))
    await heard.until(lambda: len(heard.packets) == 50)
    assert heard.established == 1
    assert [packet.payload for packet in heard.packets] == payloads
    first = heard.packets[0]
    for n, packet in enumerate(heard.packets):
        assert packet.sequence == (first.sequence + n) % 2**16
        assert packet.timestamp == (first.timestamp + n * 960) % 2**32
        assert (packet.ssrc, packet.payload_type) == (first.ssrc, 111)


async def test_what_was_sent_before_a_close_arrives_before_it_and_the_close_is_heard_once(
    joined: tuple[PublisherConnection, IngestConnection, Heard],
) -> None:
    publisher, server, heard = joined
    for n in range(20):
        await publisher.send(EncodedPacket(b"\x78x", n * 960))
    await publisher.close()
    await heard.until(lambda: heard.closed > 0)
    assert len(heard.packets) == 20
    await server.drain()
    await server.close()
    assert heard.closed == 1


async def test_a_server_that_closes_is_noticed_when_something_is_sent(
    joined: tuple[PublisherConnection, IngestConnection, Heard],
) -> None:
    publisher, server, heard = joined
    await publisher.send(EncodedPacket(b"\x78x", 0))
    await server.close()

    async def send_on() -> None:
        async with asyncio.timeout(10):
            while True:
                await publisher.send(EncodedPacket(b"\x78x", 960))
                await asyncio.sleep(0.01)

    with pytest.raises(ConnectionLost):
        await send_on()
    assert heard.closed == 0  # nobody is told of what they did themselves


async def test_a_candidate_that_cannot_be_read_is_refused(
    joined: tuple[PublisherConnection, IngestConnection, Heard],
) -> None:
    _, server, _ = joined
    with pytest.raises(CandidateRejected):
        server.add_candidate(IceCandidate("rubbish"))
    server.add_candidate(IceCandidate(None))
