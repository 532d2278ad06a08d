"""The server's end of a connection: RTP taken before aiortc's jitter buffer.

aiortc's `RTCRtpReceiver` drops the packets that wait in front of a hole and ends at a BYE, so
none of it is used: each SRTP packet goes from the socket through libsrtp to the sink in one
synchronous step, in the order of arrival.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Mapping, Sequence

import pylibsrtp
from aiortc.rtp import (
    RtcpPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSdesPacket,
    RtcpSourceInfo,
    RtcpSrPacket,
)

from adapters.transport.ice import parse_candidate
from adapters.transport.link import SecureLink
from adapters.transport.sdp import RemoteAudio, parse_offer, write_answer
from domain.detection import CodecParameters
from domain.errors import ConnectionFailed, PacketInvalid
from domain.ports.clock import Clock, Spawner
from domain.ports.transport import IceCandidate, IngestConnection, MediaSink
from domain.rtp import is_rtcp, parse_rtp
from domain.settings import IceServer

REPORT_INTERVAL_S = 1.0
DRAIN_S = 0.2
_MAX_EARLY_PACKETS = 64
"""Packets kept while the last flight of the handshake is still under way (1.3 s of 20 ms)."""
_SDES_CNAME = 1


class AiortcIngest:
    """Accepts offers."""

    def __init__(
        self,
        *,
        ice_servers: Sequence[IceServer],
        loopback: bool,
        clock: Clock,
        spawner: Spawner,
    ) -> None:
        self._ice_servers = ice_servers
        self._loopback = loopback
        self._clock = clock
        self._spawner = spawner

    async def accept(self, offer_sdp: str) -> IngestConnection:
        remote = parse_offer(offer_sdp)
        link = SecureLink(controlling=False, ice_servers=self._ice_servers, loopback=self._loopback)
        try:
            candidates = await link.ice.gather()
        except BaseException:
            await link.close()
            raise
        answer = write_answer(remote, link.describe(candidates=candidates, complete=True))
        return _IngestConnection(remote, link, answer, self._clock, self._spawner)


class _IngestConnection:
    def __init__(
        self, remote: RemoteAudio, link: SecureLink, answer: str, clock: Clock, spawner: Spawner
    ) -> None:
        self._remote = remote
        self._link = link
        self._clock = clock
        self._spawner = spawner
        self._sink: MediaSink | None = None
        self._closed = asyncio.Event()
        self._early: deque[bytes] = deque(maxlen=_MAX_EARLY_PACKETS)
        self._ssrc = random.getrandbits(32)
        self._sender_report: tuple[int, int, float] | None = None
        self.answer_sdp = answer
        self.rejected = 0
        """Packets that were no valid SRTP."""

    @property
    def codecs(self) -> Mapping[int, CodecParameters]:
        return self._remote.codecs

    def start(self, sink: MediaSink) -> None:
        self._sink = sink
        self._link.ice.on_media = self._media_received
        self._link.on_closed = self._lost
        self._spawner.spawn(self._serve(sink), name="serve connection")

    def add_candidate(self, candidate: IceCandidate) -> None:
        parsed = parse_candidate(candidate.candidate) if candidate.candidate else None
        # an mDNS name takes up to a second to resolve, which must not hold up the signaling
        self._spawner.spawn(self._link.ice.add_remote_candidate(parsed), name="add candidate")

    async def drain(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._closed.wait()

    async def close(self) -> None:
        self._closed.set()
        await self._link.close()

    async def _serve(self, sink: MediaSink) -> None:
        try:
            await self._link.connect(self._remote, dtls_role=self._remote.dtls_role)
        except ConnectionFailed:
            self._lost()
            return
        sink.connection_established(now=self._clock.monotonic())
        early, self._early = self._early, deque(maxlen=0)
        for data in early:
            self._media_received(data)
        while not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_INTERVAL_S):
                    await self._closed.wait()
            await self._send_report(sink)

    def _lost(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            assert self._sink is not None
            self._sink.connection_closed()

    def _media_received(self, data: bytes) -> None:
        keys = self._link.receive_keys
        if keys is None:
            self._early.append(data)
            return
        assert self._sink is not None
        try:
            if is_rtcp(data):
                self._rtcp_received(keys.unprotect_rtcp(data))
            else:
                packet = parse_rtp(keys.unprotect(data))
                self._sink.packet_received(packet, now=self._clock.monotonic())
        except (pylibsrtp.Error, PacketInvalid, ValueError):  # ValueError: longer than 1500 bytes
            self.rejected += 1

    def _rtcp_received(self, data: bytes) -> None:
        try:
            packets = RtcpPacket.parse(data)
        except ValueError:
            self.rejected += 1
            return
        for packet in packets:
            if isinstance(packet, RtcpSrPacket):
                middle = packet.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF
                self._sender_report = (packet.ssrc, middle, self._clock.monotonic())

    async def _send_report(self, sink: MediaSink) -> None:
        """A receiver report (RFC 3550 § 6.4.2), with the CNAME that has to go with it."""
        report = sink.reception_report()
        if report is None:
            return
        lsr, delay = 0, 0
        if self._sender_report is not None and self._sender_report[0] == report.ssrc:
            _, lsr, received_at = self._sender_report
            delay = round((self._clock.monotonic() - received_at) * 65536) & 0xFFFFFFFF
        info = RtcpReceiverInfo(
            ssrc=report.ssrc,
            fraction_lost=report.fraction_lost,
            packets_lost=report.packets_lost,
            highest_sequence=report.highest_sequence,
            jitter=report.jitter,
            lsr=lsr,
            dlsr=delay,
        )
        name = RtcpSourceInfo(ssrc=self._ssrc, items=[(_SDES_CNAME, b"gapless")])
        await self._link.send_rtcp(
            bytes(RtcpRrPacket(ssrc=self._ssrc, reports=[info]))
            + bytes(RtcpSdesPacket(chunks=[name]))
        )
