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
from adapters.transport.sockets.ports import UdpPorts
from domain.errors import (
    CandidateRejected,
    ConnectionFailed,
    OfferRejected,
    Refusal,
    ServerRefused,
)
from domain.ports.signaling import ClientConnection, ServerConnection, ServerTransport
from domain.rtp.packets import RtpPacket
from domain.rtp.reports import ReceptionReport, ReceptionStatistics, SenderReport
from domain.session.ice import IceCandidate, IceDescription
from tests.fakes.media import FakeServerTransport

OPTIONS = IceOptions(loopback=("127.0.0.1",))


class Heard:
    """A sink that records what is delivered to it."""

    def __init__(self) -> None:
        self.packets: list[RtpPacket] = []
        self.repeated: list[tuple[int, int]] = []
        self.reports: list[SenderReport] = []
        self.established = 0
        self.closed = 0
        self.reason: str | None = None
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

    def sender_reported(self, report: SenderReport) -> None:
        self.reports.append(report)

    def packet_repeated(self, ssrc: int, sequence: int, *, now: float) -> None:
        self.repeated.append((ssrc, sequence))
        self._news.set()

    def connection_closed(self, reason: str | None = None) -> None:
        self.closed += 1
        self.reason = reason
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
    options = replace(OPTIONS, shared=UdpPorts())
    return WebRtcServerTransport(
        options, preferences=OpusPreferences(), clock=SystemClock(), spawner=spawner
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


async def test_packets_are_asked_for_and_sent_again(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    publisher, server, heard = joined
    packets = [RtpPacket(111, (65_530 + n) % 2**16, n * 960, 7, b"\x78x") for n in range(1000)]
    lost = {3, 4, 9, 500}
    requested: list[int] = []

    def send_again(sequences: Sequence[int]) -> None:
        requested.extend(sequences)
        for sequence in sequences:
            publisher.send_again(packets[(sequence - 65_530) % 2**16])

    publisher.on_requested = send_again
    for n, packet in enumerate(packets):
        if n not in lost:
            publisher.send(packet)
        if n % 50 == 0:
            await asyncio.sleep(0)  # the server's socket buffer is not that large
    await heard.until(lambda: len(heard.packets) == 996)
    sequences = [packets[n].sequence for n in sorted(lost)]
    server.request_retransmission(0, 7, sequences)
    await heard.until(lambda: len(heard.packets) == 1000)  # twenty seconds of packets later
    assert requested == sequences
    again = [replace(packet, arrived=0.0) for packet in heard.packets[996:]]
    assert again == [packets[n] for n in sorted(lost)]
    assert heard.repeated == []
    # a packet that arrives for the second time is told, and not delivered
    server.request_retransmission(0, 7, sequences[:1])
    await heard.until(lambda: len(heard.repeated) == 1)
    assert heard.repeated == [(7, sequences[0])]
    assert len(heard.packets) == 1000


async def test_requests_for_other_sources_are_ignored(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    publisher, server, heard = joined
    requested: list[int] = []
    publisher.on_requested = requested.extend
    publisher.send(RtpPacket(111, 5, 0, 7, b"\x78x"))
    await heard.until(lambda: len(heard.packets) == 1)
    server.request_retransmission(0, 8, [5])
    server.request_retransmission(0, 7, [6])
    async with asyncio.timeout(10):
        while not requested:
            await asyncio.sleep(0.01)
    assert requested == [6]


@pytest.mark.parametrize(
    ("first", "earlier", "arrives"),
    [(100, 90, True), (100, 65_530, False), (65_530, 65_000, True), (40_000, 39_990, True)],
)
async def test_packets_of_an_earlier_connection_are_sent_again(
    joined: tuple[ClientConnection, ServerConnection, Heard],
    first: int,
    earlier: int,
    arrives: bool,
) -> None:
    """SRTP counts the wraps of sequence numbers from the first packet of a connection."""
    publisher, _, heard = joined
    publisher.send_again(RtpPacket(111, earlier, 0, 7, b"\x78x"))  # before the first packet
    publisher.send(RtpPacket(111, first, 96_000, 7, b"\x78x"))
    await heard.until(lambda: len(heard.packets) == 1)
    publisher.send_again(RtpPacket(111, earlier, 0, 7, b"\x78x"))
    publisher.send(RtpPacket(111, first + 1, 96_960, 7, b"\x78x"))
    await heard.until(lambda: len(heard.packets) == 2 + arrives)
    sequences = [packet.sequence for packet in heard.packets]
    assert sequences == ([first, earlier, first + 1] if arrives else [first, first + 1])


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


async def test_reports_tell_the_round_trip_and_what_was_lost(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    publisher, _, _ = joined
    began, numbers = time.monotonic(), itertools.count()

    async def send_until(true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true():
                number = next(numbers)
                if number % 2 == 0 and number > 100:
                    continue  # lost on the way
                publisher.send(RtpPacket(111, number, number * 960, 7, b"sound"))
                await asyncio.sleep(0.02)

    def measured() -> bool:
        report = publisher.path_report
        return report is not None and report.round_trip_s is not None

    assert publisher.path_report is None
    await send_until(measured)
    report = publisher.path_report
    assert report is not None
    assert report.round_trip_s is not None
    assert 0 <= report.round_trip_s < 1.0  # loopback, and a busy machine
    assert began < report.at <= time.monotonic()
    assert report.fraction_lost == 0
    await send_until(lambda: (now := publisher.path_report) is not None and now.fraction_lost > 0.4)


@pytest.mark.parametrize("is_known", [False, True])
async def test_reports_of_a_client_show_time_that_was_not_captured(
    joined: tuple[ClientConnection, ServerConnection, Heard], is_known: bool
) -> None:
    """If the time of capture is known, a packet that is sent late shows no stall."""
    publisher, _, heard = joined
    began, number = time.monotonic(), 0

    async def send_for(seconds: float) -> None:
        nonlocal number
        for _ in range(round(seconds / 0.02)):
            captured_s = began + 0.02 * number if is_known else None
            publisher.send(RtpPacket(111, number, number * 960, 5, b"sound", captured_s=captured_s))
            number += 1
            await asyncio.sleep(0.02)

    await send_for(1.2)
    await heard.until(lambda: len(heard.packets) == number)
    before = heard.reports[-1]
    paused_s = -time.monotonic()
    await asyncio.sleep(0.5)
    paused_s += time.monotonic()
    reports = len(heard.reports)
    await send_for(1.2)
    await heard.until(lambda: len(heard.packets) == number and len(heard.reports) > reports)
    after = heard.reports[-1]
    stalled_s = (after.ntp - before.ntp) / 2**32
    stalled_s -= (after.rtp_timestamp - before.rtp_timestamp) / 48_000
    if is_known:
        assert stalled_s == pytest.approx(0.0, abs=0.02)
    else:
        # on a busy machine packets are late, besides
        assert paused_s - 0.05 <= stalled_s <= paused_s + 0.5


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
    publisher.send(RtpPacket(111, 0, 0, 7, b"\x78x"))
    for pause in ("READ_S", "HANDSHAKE_S"):
        monkeypatch.setattr(f"adapters.transport.sockets.rounds.{pause}", 60.0)
    await heard.until(lambda: len(heard.packets) == 1)
    for number in range(1, 10):
        publisher.send(RtpPacket(111, number, number * 960, 7, b"\x78x"))
    await asyncio.sleep(0.1)  # the next read is not due
    assert len(heard.packets) == 1
    server.read_pending()
    assert len(heard.packets) == 10


async def test_packets_in_flight_arrive_before_the_end(
    joined: tuple[ClientConnection, ServerConnection, Heard],
) -> None:
    publisher, server, heard = joined
    draining = asyncio.create_task(server.drain())
    await asyncio.sleep(0)
    for number in range(10):
        publisher.send(RtpPacket(111, number, number * 960, 7, b"\x78x"))
    await draining
    assert len(heard.packets) == 10


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
