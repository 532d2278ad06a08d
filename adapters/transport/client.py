"""The client's end of a connection: sends RTP packets over ICE and DTLS-SRTP."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Awaitable, Callable, Sequence

import pylibsrtp
from aiortc import RTCCertificate
from aiortc.rtp import (
    RTCP_RTPFB_NACK,
    RtcpPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpRtpfbPacket,
)

from adapters.transport.dtls.transport import DtlsTransport
from adapters.transport.ice.options import IceOptions
from adapters.transport.rtcp.reports import lsr_of, sender_report
from adapters.transport.sdp.descriptions import LocalTransport, RemoteDescription
from adapters.transport.sdp.parsing import parse_answer
from adapters.transport.sdp.writing import write_offer
from adapters.transport.sockets.datagrams import Datagram
from domain.errors import ConnectionFailed, NoMediaPath, OfferRejected
from domain.ports.clock import Clock
from domain.ports.media import PathReport
from domain.ports.signaling import ClientConnection
from domain.rtp.counters import signed
from domain.rtp.packetizer import OPUS_PAYLOAD_TYPE, RTP_RATE_HZ
from domain.rtp.packets import RtpPacket, is_rtcp, write_rtp
from domain.session.ice import IceCandidate, IceDescription, IceServer

CONNECT_S = 15.0
REPORT_INTERVAL_S = 0.5
PAUSE_S = 0.1
"""After a pause that timestamps do not count, the next report waits for its whole interval."""
_KEPT_REPORTS = 16
"""Sender reports whose times are kept: a round trip takes less than their eight seconds."""


class WebRtcClientTransport:
    """Opens connections to servers."""

    def __init__(
        self,
        options: IceOptions,
        *,
        ice_servers: Sequence[IceServer],
        channels: int,
        clock: Clock,
    ) -> None:
        self._options = options
        self._ice_servers = ice_servers
        self._channels = channels
        self._clock = clock

    def open(self) -> ClientConnection:
        # a new certificate for each connection, so that connections cannot be linked by it
        certificate = RTCCertificate.generateCertificate()
        transport = DtlsTransport(self._options, controlling=True, certificate=certificate)
        local = LocalTransport(
            transport.ice.username, transport.ice.password, transport.fingerprint
        )
        offer = write_offer(local, channels=self._channels)
        return _Connection(transport, offer, self._ice_servers, self._clock)


class _Connection:
    def __init__(
        self,
        transport: DtlsTransport,
        offer: str,
        ice_servers: Sequence[IceServer],
        clock: Clock,
    ) -> None:
        self._transport = transport
        self._ice_servers = ice_servers
        self._clock = clock
        self._cname = secrets.token_hex(8)
        self._reference: RtpPacket | None = None  # the least delayed packet since a report
        self._reference_at = 0.0  # when it was sent
        self._first_sequence = 0  # of the first packet that was sent
        self._sending = threading.Lock()  # a libsrtp session may be used by one thread at a time
        self._packets = 0
        self._octets = 0
        self._reported_at = 0.0
        self._latest: RtpPacket | None = None
        self._sent_at = 0.0  # when the latest packet was sent
        self._report_times: dict[int, float] = {}  # when sender reports were sent, by their LSR
        self._answered = 0  # the LSR in the latest receiver report
        self.offer_sdp = offer
        self.is_closed_by_server = False
        self.heard_at = 0.0
        self.highest_reported: int | None = None
        self.path_report: PathReport | None = None
        self.on_requested: Callable[[Sequence[int]], None] | None = None

    @property
    def is_open(self) -> bool:
        return self._transport.is_open

    @property
    def ice_tag(self) -> str:
        return self._transport.ice.remote.username

    @property
    def path_kinds(self) -> tuple[str, str] | None:
        return self._transport.ice.path_kinds

    async def connect(
        self,
        answer_sdp: str,
        *,
        ice_servers: Sequence[IceServer],
        send_candidate: Callable[[IceCandidate], Awaitable[None]],
    ) -> None:
        answer = _parse(answer_sdp)
        self._ice_servers = self._ice_servers or ice_servers
        self._transport.ice.set_remote(answer.username, answer.password, is_lite=answer.is_ice_lite)
        candidates: asyncio.Queue[str | None] = asyncio.Queue()
        self._transport.ice.gather_host(candidates.put_nowait)
        gathering = asyncio.create_task(self._gather(candidates), name="gather candidates")
        trickling = asyncio.create_task(_trickle(candidates, send_candidate), name="trickle")
        connecting = asyncio.create_task(
            self._transport.connect(
                answer.dtls,
                role=answer.dtls_role,
                candidates=answer.candidates,
                candidates_complete=answer.candidates_complete,
            ),
            name="connect",
        )
        try:
            async with asyncio.timeout(CONNECT_S):
                # once there is a path, no further candidates are needed
                await asyncio.wait({trickling, connecting}, return_when=asyncio.FIRST_COMPLETED)
                if not connecting.done():
                    await trickling
                await connecting
        except (TimeoutError, ConnectionFailed) as error:
            if self._transport.has_path:
                raise ConnectionFailed(
                    f"no secure connection to the server: {self._transport.obstacle}"
                ) from error
            problems = "; ".join(("to the server", *self._transport.ice.problems))
            raise NoMediaPath(problems) from error
        finally:
            for task in (gathering, trickling, connecting):
                task.cancel()
            await asyncio.gather(gathering, trickling, connecting, return_exceptions=True)
        self.heard_at = self._clock.monotonic()
        self._transport.ice.on_media = self._media_received
        self._transport.on_closed = self._closed_by_server
        self._reported_at = self.heard_at

    async def restart_ice(
        self, exchange: Callable[[IceDescription], Awaitable[IceDescription]]
    ) -> None:
        await self._transport.ice.restart(self._ice_servers, exchange)
        self.heard_at = self._clock.monotonic()

    def send(self, packet: RtpPacket) -> None:
        data = write_rtp(packet)
        with self._sending:
            self._send(packet, data)
            now, reference = self._clock.monotonic(), self._reference
            if reference is None:
                self._first_sequence = packet.sequence
            latest, sent_at = self._latest, self._sent_at
            is_late = latest is not None and now - sent_at - _seconds(latest, packet) > PAUSE_S
            self._latest, self._sent_at = packet, now
            if packet.captured_s is not None:
                self._reference, self._reference_at = packet, packet.captured_s
                if latest is None or is_late or now - self._reported_at >= REPORT_INTERVAL_S:
                    self._report(now)
                    self._reported_at = now
                return
            if is_late:
                # capture stalled, or is late: what follows shows which timestamp belongs to now
                reference = None
                self._reported_at = now
            if reference is None or _seconds(reference, packet) >= now - self._reference_at:
                self._reference, self._reference_at = packet, now
            if now - self._reported_at >= REPORT_INTERVAL_S:
                self._report(now)
                self._reference, self._reference_at, self._reported_at = packet, now, now

    def send_again(self, packet: RtpPacket) -> None:
        data = write_rtp(packet)
        with self._sending:
            if self._reference is not None and not self._is_of_earlier_cycle(packet):
                self._send(packet, data)

    def _send(self, packet: RtpPacket, data: bytes) -> None:
        self._packets += 1
        self._octets += len(packet.payload)
        self._transport.send(data)

    def _is_of_earlier_cycle(self, packet: RtpPacket) -> bool:
        """Whether sequence numbers wrapped between a packet and the first one sent here.

        SRTP counts the wraps (RFC 3711 § 3.3.1) from the first packet of a connection, so that
        libsrtp would take an earlier number for one that is far ahead.
        """
        is_earlier = signed(packet.sequence - self._first_sequence, bits=16) < 0
        return is_earlier and packet.sequence > self._first_sequence

    def _report(self, now: float) -> None:
        """Send a sender report: what was sent, and which RTP timestamp belongs to this moment.

        Packets may be late (after a stall, or from a device with large blocks) but never early. So
        the timestamp is derived from the least delayed packet since the previous report.
        """
        assert self._reference is not None
        since = round((now - self._reference_at) * RTP_RATE_HZ)
        at = self._clock.utc()
        self._report_times[lsr_of(at)] = now
        if len(self._report_times) > _KEPT_REPORTS:
            del self._report_times[next(iter(self._report_times))]
        self._transport.send_reports(
            sender_report(
                ssrc=self._reference.ssrc,
                cname=self._cname,
                rtp_timestamp=self._reference.timestamp + since,
                packets=self._packets,
                octets=self._octets,
                at=at,
            )
        )

    async def close(self, *, tell_server: bool = True) -> None:
        await self._transport.close(tell_peer=tell_server)

    def _closed_by_server(self) -> None:
        self.is_closed_by_server = True

    async def _gather(self, candidates: asyncio.Queue[str | None]) -> None:
        try:
            await self._transport.ice.gather_from(self._ice_servers, candidates.put_nowait)
        finally:
            candidates.put_nowait(None)

    def _media_received(self, datagrams: Sequence[Datagram]) -> None:
        """Receive reports of the server."""
        unprotector = self._transport.unprotector
        if unprotector is None:
            return
        for data, _ in datagrams:
            with contextlib.suppress(pylibsrtp.Error, ValueError):
                if is_rtcp(data):
                    self._rtcp_received(unprotector.rtcp(data))

    def _rtcp_received(self, data: bytes) -> None:
        for packet in RtcpPacket.parse(data):
            if isinstance(packet, RtcpRrPacket):
                self.heard_at = self._clock.monotonic()
                for report in packet.reports:
                    if self._reference is not None and report.ssrc == self._reference.ssrc:
                        self.highest_reported = report.highest_sequence & 0xFFFF
                        self.path_report = self._path(report, self.heard_at)
            elif isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
                is_ours = self._reference and packet.media_ssrc == self._reference.ssrc
                if is_ours and self.on_requested is not None:
                    self.on_requested([sequence % 2**16 for sequence in packet.lost])

    def _path(self, report: RtcpReceiverInfo, now: float) -> PathReport:
        """Return what a report block says of the path (RFC 3550 § 6.4.1)."""
        round_trip_s = None
        if report.lsr != self._answered:
            self._answered = report.lsr
            sent_at = self._report_times.get(report.lsr)
            if sent_at is not None:
                round_trip_s = max(0.0, now - sent_at - report.dlsr / 65536)
        return PathReport(round_trip_s, report.fraction_lost / 256, now)


def _seconds(first: RtpPacket, second: RtpPacket) -> float:
    """The time between two packets by their timestamps."""
    return (second.timestamp - first.timestamp) % 2**32 / RTP_RATE_HZ


def _parse(answer_sdp: str) -> RemoteDescription:
    try:
        answer = parse_answer(answer_sdp)
    except OfferRejected as error:
        raise ConnectionFailed(f"the server's answer cannot be used: {error}") from error
    codec = answer.tracks[0].codecs.get(OPUS_PAYLOAD_TYPE)
    if codec is None or codec.name != "opus":
        raise ConnectionFailed("the server did not accept Opus")
    return answer


async def _trickle(
    candidates: asyncio.Queue[str | None],
    send_candidate: Callable[[IceCandidate], Awaitable[None]],
) -> None:
    """Send each candidate when it is found, and then the end of the list."""
    while (candidate := await candidates.get()) is not None:
        await send_candidate(IceCandidate(f"candidate:{candidate}", sdp_mid="0", sdp_mline_index=0))
    await send_candidate(IceCandidate(None, sdp_mid="0", sdp_mline_index=0))
