"""The client's end of a connection: ready-made RTP packets over ICE and DTLS-SRTP."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence

import pylibsrtp
from aiortc import RTCCertificate
from aiortc.rtp import RtcpPacket, RtcpRrPacket

from adapters.transport.dtls.transport import DtlsTransport
from adapters.transport.ice.agent import IceOptions
from adapters.transport.rtcp.reports import sender_report
from adapters.transport.sdp.descriptions import RemoteAudio, parse_answer, write_offer
from adapters.transport.sockets.datagrams import Datagram
from domain.errors import ConnectionFailed, OfferRejected
from domain.ports.clock import Clock
from domain.ports.signaling import ClientConnection
from domain.rtp.packetizer import OPUS_PAYLOAD_TYPE, RTP_RATE_HZ
from domain.rtp.packets import RtpPacket, is_rtcp, write_rtp
from domain.session.ice import IceCandidate, IceDescription, IceServer

CONNECT_S = 15.0
REPORT_INTERVAL_S = 1.0


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
        # a certificate for each connection: nobody can link two of them by it
        certificate = RTCCertificate.generateCertificate()
        link = DtlsTransport(self._options, controlling=True, certificate=certificate)
        offer = write_offer(link.describe(), channels=self._channels)
        return _Connection(link, offer, self._ice_servers, self._clock)


class _Connection:
    def __init__(
        self, link: DtlsTransport, offer: str, ice_servers: Sequence[IceServer], clock: Clock
    ) -> None:
        self._link = link
        self._ice_servers = ice_servers
        self._clock = clock
        self._cname = secrets.token_hex(8)
        self._prompt: RtpPacket | None = None  # the one that says best when its sound was
        self._prompt_at = 0.0
        self._packets = 0
        self._octets = 0
        self._reported_at = 0.0
        self.offer_sdp = offer
        self.is_closed_by_server = False
        self.heard_at = 0.0
        self.highest_reported: int | None = None

    @property
    def is_open(self) -> bool:
        return self._link.is_open

    @property
    def ice_tag(self) -> str:
        return self._link.ice.remote.username

    async def connect(
        self,
        answer_sdp: str,
        *,
        ice_servers: Sequence[IceServer],
        send_candidate: Callable[[IceCandidate], Awaitable[None]],
    ) -> None:
        answer = _parse(answer_sdp)
        self._ice_servers = self._ice_servers or ice_servers
        self._link.ice.set_remote(answer.username, answer.password)
        found: asyncio.Queue[str | None] = asyncio.Queue()
        self._link.ice.gather_own(found.put_nowait)
        asking = asyncio.create_task(self._ask(found), name="gather candidates")
        trickling = asyncio.create_task(_trickle(found, send_candidate), name="trickle")
        path = asyncio.create_task(
            self._link.connect(answer, dtls_role=answer.dtls_role), name="connect"
        )
        try:
            async with asyncio.timeout(CONNECT_S):
                # once there is a path, candidates that are still to come are of no use
                await asyncio.wait({trickling, path}, return_when=asyncio.FIRST_COMPLETED)
                if not path.done():
                    await trickling
                await path
        except (TimeoutError, ConnectionFailed) as error:
            problems = "; ".join(self._link.ice.problems) or "is UDP blocked?"
            raise ConnectionFailed(f"no media path to the server ({problems})") from error
        finally:
            for task in (asking, trickling, path):
                task.cancel()
            await asyncio.gather(asking, trickling, path, return_exceptions=True)
        self.heard_at = self._clock.monotonic()
        self._link.ice.on_media = self._media_received
        self._link.on_closed = self._closed_by_server
        self._reported_at = self.heard_at

    async def restart_ice(
        self, exchange: Callable[[IceDescription], Awaitable[IceDescription]]
    ) -> None:
        await self._link.ice.restart(self._ice_servers, exchange)
        self.heard_at = self._clock.monotonic()

    def send(self, packet: RtpPacket) -> None:
        self._packets += 1
        self._octets += len(packet.payload)
        self._link.send(write_rtp(packet))
        now, prompt = self._clock.monotonic(), self._prompt
        if prompt is None or _seconds(prompt, packet) >= now - self._prompt_at:
            self._prompt, self._prompt_at = packet, now
        # reports go with packets: libsrtp's session is for one thread at a time
        if now - self._reported_at >= REPORT_INTERVAL_S:
            self._report(now)
            self._prompt, self._prompt_at, self._reported_at = packet, now, now

    def _report(self, now: float) -> None:
        """Tell the server what it should have, and which timestamp it is now.

        Packets may be late, after a stall or since a device delivers many together, but never
        early: the promptest of the last second says it.
        """
        assert self._prompt is not None
        since = round((now - self._prompt_at) * RTP_RATE_HZ)
        self._link.send_reports(
            sender_report(
                ssrc=self._prompt.ssrc,
                cname=self._cname,
                rtp_timestamp=self._prompt.timestamp + since,
                packets=self._packets,
                octets=self._octets,
                at=self._clock.utc(),
            )
        )

    async def close(self, *, tell_server: bool = True) -> None:
        await self._link.close(goodbye=tell_server)

    def _closed_by_server(self) -> None:
        self.is_closed_by_server = True

    async def _ask(self, found: asyncio.Queue[str | None]) -> None:
        try:
            await self._link.ice.ask(self._ice_servers, found.put_nowait)
        finally:
            found.put_nowait(None)

    def _media_received(self, datagrams: Sequence[Datagram]) -> None:
        """What the server sends: its reports, which say that it is there and how far it is."""
        unprotector = self._link.unprotector
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
                    if self._prompt is not None and report.ssrc == self._prompt.ssrc:
                        self.highest_reported = report.highest_sequence & 0xFFFF


def _seconds(first: RtpPacket, second: RtpPacket) -> float:
    """The time from one packet's sound to another's."""
    return (second.timestamp - first.timestamp) % 2**32 / RTP_RATE_HZ


def _parse(answer_sdp: str) -> RemoteAudio:
    try:
        answer = parse_answer(answer_sdp)
    except OfferRejected as error:
        raise ConnectionFailed(f"the server's answer is of no use: {error}") from error
    codec = answer.codecs.get(OPUS_PAYLOAD_TYPE)
    if codec is None or codec.name != "opus":
        raise ConnectionFailed("the server did not take Opus")
    return answer


async def _trickle(
    found: asyncio.Queue[str | None], send_candidate: Callable[[IceCandidate], Awaitable[None]]
) -> None:
    """Each candidate as it comes, and the end of them."""
    while (candidate := await found.get()) is not None:
        await send_candidate(IceCandidate(f"candidate:{candidate}", sdp_mid="0", sdp_mline_index=0))
    await send_candidate(IceCandidate(None, sdp_mid="0", sdp_mline_index=0))
