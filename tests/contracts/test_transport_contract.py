"""The contract of the media path: both real ends joined over loopback, and the fakes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import pytest

from adapters.runtime.asyncio_runtime import BackgroundTasks, SystemClock
from adapters.transport.client import WebRtcClientTransport
from adapters.transport.ice.options import IceOptions
from adapters.transport.sdp.codecs import OpusPreferences
from adapters.transport.server import WebRtcServerTransport
from adapters.transport.sockets.coalescing import ReadTiming
from domain.errors import (
    CandidateRejected,
    ConnectionFailed,
    OfferRejected,
    Refusal,
    ServerRefused,
)
from domain.ports.signaling import ClientConnection, ServerConnection, ServerTransport
from domain.rtp.packets import RtpPacket
from domain.rtp.reports import ReceptionReport, ReceptionStatistics
from domain.session.ice import IceCandidate, IceDescription
from tests.fakes.media import FakeServerTransport

OPTIONS = IceOptions(loopback=("127.0.0.1",))
SLOW = ReadTiming(interval_s=0.005, poll_interval_s=0.0, delay_s=60.0, reschedules=False)
"""A timing whose reads wait longer than a test runs."""


class Heard:
    """A sink that records what is delivered to it."""

    def __init__(self) -> None:
        self.packets: list[RtpPacket] = []
        self.established = 0
        self.closed = 0
        self._statistics: ReceptionStatistics | None = None
        self._news = asyncio.Event()

    def connection_established(self, *, now: float) -> None:
        self.established += 1
        self._news.set()

    def packets_received(self, track: int, packets: Sequence[RtpPacket]) -> None:
        self._statistics = self._statistics or ReceptionStatistics(
            packets[0].ssrc, clock_rate_hz=48_000
        )
        self._statistics.received(packets)
        self.packets += packets
        self._news.set()

    def connection_closed(self) -> None:
        self.closed += 1
        self._news.set()

    def reception_reports(self) -> Sequence[ReceptionReport]:
        report = self._statistics.report() if self._statistics else None
        return () if report is None else (report,)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():
                self._news.clear()
                await self._news.wait()


def real_server(spawner: BackgroundTasks) -> WebRtcServerTransport:
    return WebRtcServerTransport(
        OPTIONS, preferences=OpusPreferences(), clock=SystemClock(), spawner=spawner
    )


def real_publisher() -> ClientConnection:
    publisher = WebRtcClientTransport(OPTIONS, ice_servers=(), channels=1, clock=SystemClock())
    return publisher.open()


async def connect(
    publisher: ClientConnection, server: ServerConnection, *, answer_sdp: str = ""
) -> None:
    async def send_candidate(candidate: IceCandidate) -> None:
        server.add_candidate(candidate)

    await publisher.connect(
        answer_sdp or server.answer_sdp, ice_servers=(), send_candidate=send_candidate
    )


@pytest.fixture(params=["aiortc", "fake"])
def ingest(request: pytest.FixtureRequest) -> ServerTransport:
    if request.param == "fake":
        return FakeServerTransport()
    return real_server(BackgroundTasks())


@pytest.fixture(params=["actpass", "active"])
async def joined(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[ClientConnection, ServerConnection, Heard]]:
    """Both ends, connected, with each of the two as the DTLS client."""
    spawner, heard = BackgroundTasks(), Heard()
    publisher = real_publisher()
    offer = publisher.offer_sdp.replace("a=setup:actpass", f"a=setup:{request.param}")
    server = await real_server(spawner).accept(offer, ice_servers=())
    server.start(heard)
    await connect(publisher, server)
    await heard.until(lambda: heard.established == 1)  # the last flight is the client's
    yield publisher, server, heard
    await publisher.close()
    await server.close()
    await spawner.join()


async def test_an_invalid_offer_is_refused_and_leaves_nothing(ingest: ServerTransport) -> None:
    before = len(asyncio.all_tasks())
    with pytest.raises(OfferRejected):
        await ingest.accept("bad", ice_servers=())
    assert len(asyncio.all_tasks()) == before


async def test_an_offer_is_answered_and_the_codecs_are_known(ingest: ServerTransport) -> None:
    publisher = real_publisher()
    server = await ingest.accept(publisher.offer_sdp, ice_servers=())
    assert server.answer_sdp.startswith("v=0")
    assert server.tracks[0].codecs[111].name == "opus"
    for _ in range(2):
        await server.close()
        await publisher.close()


@pytest.mark.parametrize("liar", ["client", "server"])
@pytest.mark.parametrize("setup", ["actpass", "active"])
async def test_a_certificate_that_does_not_match_the_fingerprint_is_refused(
    setup: str, liar: str
) -> None:
    spawner, heard = BackgroundTasks(), Heard()
    publisher = real_publisher()
    other = real_publisher()
    fingerprint = fingerprint_in(other.offer_sdp)

    def altered(text: str, who: str) -> str:
        return text.replace(fingerprint_in(text), fingerprint) if who == liar else text

    offer = publisher.offer_sdp.replace("a=setup:actpass", f"a=setup:{setup}")
    server = await real_server(spawner).accept(altered(offer, "client"), ice_servers=())
    server.start(heard)
    connecting = connect(publisher, server, answer_sdp=altered(server.answer_sdp, "server"))
    if liar == "server":
        with pytest.raises(ConnectionFailed):
            await connecting
        assert not publisher.is_open
    else:
        await connecting  # the client fails first
        publisher.send(RtpPacket(111, 0, 0, 7, b"\x78x"))
        await heard.until(lambda: heard.closed == 1)
        assert heard.established == len(heard.packets) == 0
    await publisher.close()
    await other.close()
    await server.close()
    await spawner.join()


def fingerprint_in(description: str) -> str:
    return description.partition("a=fingerprint:")[2].splitlines()[0]


@pytest.mark.parametrize("setup", ["actpass", "active"])
async def test_handshakes_are_not_delayed_by_coalesced_reads(
    setup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.transport.sockets.coalescing.LOW_LATENCY", SLOW)
    spawner, heard = BackgroundTasks(), Heard()
    publisher = real_publisher()
    offer = publisher.offer_sdp.replace("a=setup:actpass", f"a=setup:{setup}")
    server = await real_server(spawner).accept(offer, ice_servers=())
    server.start(heard)
    async with asyncio.timeout(10):
        await connect(publisher, server)
        await heard.until(lambda: heard.established == 1)
    await publisher.close()
    await server.close()
    await spawner.join()


async def test_packets_arrive_once_in_order_with_their_timestamps(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    publisher, _, heard = joined
    payloads = [bytes([0x78, n]) for n in range(50)]
    sent = [
        RtpPacket(111, 65_530 + n & 0xFFFF, n * 960, 7, item) for n, item in enumerate(payloads)
    ]
    began = time.monotonic()
    for packet in sent:
        publisher.send(packet)
    await heard.until(lambda: len(heard.packets) == 50)
    assert heard.established == 1
    assert [replace(packet, arrived=0.0) for packet in heard.packets] == sent
    arrived = [packet.arrived for packet in heard.packets]
    assert arrived == sorted(arrived)
    assert (
        began - 0.01 < arrived[0] <= arrived[-1] < time.monotonic()
    )  # the kernel's clock and ours


async def test_reports_arrive_before_packets_and_state_the_highest_sequence_number(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    publisher, _, _ = joined
    connected_at = publisher.heard_at
    async with asyncio.timeout(10):
        while publisher.heard_at == connected_at:  # before the first packet
            await asyncio.sleep(0.05)
        assert publisher.highest_reported is None
        publisher.send(RtpPacket(111, 500, 0, 7, b"\x78x"))
        while publisher.highest_reported != 500:
            await asyncio.sleep(0.05)


async def test_a_client_that_closes_silently_is_not_reported_as_closed(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    publisher, server, heard = joined
    await publisher.close(tell_server=False)
    await server.drain()
    assert heard.closed == 0


async def test_packets_that_wait_in_sockets_can_be_read_before_the_end(
    joined: tuple[ClientConnection, ServerConnection, Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, server, heard = joined
    monkeypatch.setattr("adapters.transport.sockets.coalescing.LOW_LATENCY", SLOW)
    for number in range(10):
        publisher.send(RtpPacket(111, number, number * 960, 7, b"\x78x"))
    await asyncio.sleep(0.1)  # their read is scheduled, but not due
    assert not heard.packets
    server.read_pending()
    assert len(heard.packets) == 10
    draining = asyncio.create_task(server.drain())
    await asyncio.sleep(0)
    for number in range(10, 20):
        publisher.send(RtpPacket(111, number, number * 960, 7, b"\x78x"))
    await draining
    assert len(heard.packets) == 20


async def test_media_continues_over_ice_restarts_of_the_client(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    publisher, server, heard = joined
    numbers = itertools.count()

    def send(count: int) -> None:
        for number in itertools.islice(numbers, count):
            publisher.send(RtpPacket(111, number, number * 960, 7, b"\x78x"))

    async def exchange(local: IceDescription) -> IceDescription:
        send(10)
        remote = await server.restart_ice(local, ice_servers=())
        send(10)
        return remote

    for _ in range(3):
        tag = publisher.ice_tag
        await publisher.restart_ice(exchange)
        assert publisher.ice_tag == server.ice_tag != tag
        send(10)
    await heard.until(lambda: len(heard.packets) == 90)
    assert sorted(packet.sequence for packet in heard.packets) == list(range(90))


async def test_a_restart_without_a_path_leaves_the_old_one_and_nothing_behind(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    publisher, _, heard = joined

    async def nowhere(_local: IceDescription) -> IceDescription:
        return IceDescription("abcd", "x" * 22, complete=True)

    async def refused(_local: IceDescription) -> IceDescription:
        raise ServerRefused(Refusal.FINAL, "another ICE session")

    before, tag = len(asyncio.all_tasks()), publisher.ice_tag
    with pytest.raises(ConnectionFailed):
        await publisher.restart_ice(nowhere)
    with pytest.raises(ServerRefused):
        await publisher.restart_ice(refused)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await publisher.restart_ice(silent)
    assert publisher.ice_tag == tag
    publisher.send(RtpPacket(111, 1, 0, 7, b"\x78x"))
    await heard.until(lambda: len(heard.packets) == 1)
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)


async def silent(_local: IceDescription) -> IceDescription:
    await asyncio.Event().wait()
    raise AssertionError


async def test_media_continues_over_an_ice_restart(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    _, server, _ = joined
    before = server.ice_tag
    answer = await server.restart_ice(IceDescription("abcd", "x" * 22), ice_servers=())
    assert server.ice_tag != before
    assert (server.remote_ice.username, server.remote_ice.password) == ("abcd", "x" * 22)
    assert answer.candidates
    assert answer.complete


async def test_packets_arrive_before_the_close_and_the_close_is_reported_once(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    publisher, server, heard = joined
    for n in range(20):
        publisher.send(RtpPacket(111, n, n * 960, 7, b"\x78x"))
    await publisher.close()
    await heard.until(lambda: heard.closed > 0)
    assert len(heard.packets) == 20
    await server.drain()
    await server.close()
    assert heard.closed == 1


async def test_a_server_that_closes_is_noticed(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    publisher, server, heard = joined
    assert publisher.is_open
    await server.close()
    async with asyncio.timeout(10):
        while publisher.is_open:
            await asyncio.sleep(0.01)
    publisher.send(RtpPacket(111, 0, 0, 7, b"\x78x"))  # lost without an error
    assert heard.closed == 0  # the close was the server's own


async def test_a_malformed_candidate_is_refused(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    _, server, _ = joined
    with pytest.raises(CandidateRejected):
        server.add_candidate(IceCandidate("rubbish"))
    server.add_candidate(IceCandidate(None))
