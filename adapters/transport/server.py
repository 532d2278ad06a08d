"""The server's end of a connection: RTP taken before aiortc's jitter buffer.

aiortc's `RTCRtpReceiver` drops the packets that wait in front of a hole and ends at a BYE, so
none of it is used: each SRTP packet goes from the socket through libsrtp to the sink in one
synchronous step, in the order of arrival, together with the others that came with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
from collections import deque
from collections.abc import Sequence

import pylibsrtp
from aiortc import RTCCertificate

from adapters.transport.dtls.transport import DtlsTransport
from adapters.transport.ice.agent import IceOptions, parse_candidate
from adapters.transport.rtcp.reports import receiver_report, sender_time, source_description
from adapters.transport.rtcp.schedule import PeriodicCalls
from adapters.transport.sdp.descriptions import (
    OpusPreferences,
    RemoteAudio,
    parse_offer,
    write_answer,
)
from adapters.transport.sockets.coalescing import MAX_READ_DELAY_S
from adapters.transport.sockets.datagrams import Datagram
from domain.errors import CandidateRejected, ConnectionFailed, NoRelay, PacketInvalid, ServerFull
from domain.ports.clock import Clock, Spawner
from domain.ports.media import MediaSink, RemoteTrack
from domain.ports.signaling import ServerConnection
from domain.rtp.packets import RtpPacket, parse_rtp
from domain.session.ice import IceCandidate, IceDescription, IceServer

_log = logging.getLogger("gapless")

REPORT_INTERVAL_S = 0.5
"""Reports are heartbeats, too: a client that hears none for some of these has lost its way."""
DRAIN_S = 0.2
CERTIFICATE_S = 86_400.0
_MAX_EARLY_PACKETS = 64
"""Packets kept while the last flight of the handshake is still under way (1.3 s of 20 ms)."""
# one for all: an empty one of one's own takes 0.7 kB
_NO_PACKETS: deque[Datagram] = deque(maxlen=0)


class WebRtcServerTransport:
    """Accepts offers."""

    def __init__(
        self,
        options: IceOptions,
        *,
        wishes: OpusPreferences,
        clock: Clock,
        spawner: Spawner,
    ) -> None:
        self._options = options
        self._wishes = wishes
        self._clock = clock
        self._spawner = spawner
        self._reports = PeriodicCalls(REPORT_INTERVAL_S)
        self._own: tuple[RTCCertificate, float] | None = None

    @property
    def max_read_delay_s(self) -> float:
        return MAX_READ_DELAY_S

    async def accept(self, offer_sdp: str, *, ice_servers: Sequence[IceServer]) -> ServerConnection:
        remote = parse_offer(offer_sdp)
        link = DtlsTransport(self._options, controlling=False, certificate=self._certificate())
        link.ice.set_remote(remote.username, remote.password)
        try:
            candidates = await link.ice.gather(ice_servers)
            for problem in link.ice.problems:
                _log.warning("%s", problem)
            if not candidates:
                why = "; ".join(link.ice.problems)
                if self._options.relay_only:
                    raise NoRelay(why or "no TURN server is named")
                raise ServerFull(why or "there is no address to be reached at")
        except BaseException:
            await link.close()
            raise
        local = link.describe(candidates=candidates, complete=True)
        answer = write_answer(remote, local, self._wishes)
        return _Connection(remote, link, answer, self._clock, self._spawner, self._reports)

    def _certificate(self) -> RTCCertificate:
        """One for all connections of a day: whoever comes knows which server this is.

        To make one takes milliseconds, in which the streams that there are would wait.
        """
        now = self._clock.monotonic()
        if self._own is None or now >= self._own[1]:
            self._own = RTCCertificate.generateCertificate(), now + CERTIFICATE_S
        return self._own[0]


class _Connection:
    def __init__(
        self,
        remote: RemoteAudio,
        link: DtlsTransport,
        answer: str,
        clock: Clock,
        spawner: Spawner,
        reports: PeriodicCalls,
    ) -> None:
        self._remote = remote
        self._link = link
        self._clock = clock
        self._spawner = spawner
        self._sink: MediaSink | None = None
        self._closed = asyncio.Event()
        self._early: deque[Datagram] = deque(maxlen=_MAX_EARLY_PACKETS)
        self._reports = reports
        self._ssrc = random.getrandbits(32)
        self._description = source_description(self._ssrc, "gapless")
        self._sender_report: tuple[int, int, float] | None = None
        self.answer_sdp = answer
        self.rejected = 0
        """Packets that were no valid SRTP."""

    @property
    def tracks(self) -> Sequence[RemoteTrack]:
        return (RemoteTrack(self._remote.codecs),)

    @property
    def ice_tag(self) -> str:
        return self._link.ice.username

    @property
    def remote_ice(self) -> IceDescription:
        return self._link.ice.remote

    def start(self, sink: MediaSink) -> None:
        self._sink = sink
        self._link.ice.on_media = self._media_received
        self._link.on_closed = self._lost
        self._spawner.spawn(self._serve(sink), name="serve connection")

    def add_candidate(self, candidate: IceCandidate) -> None:
        parsed = parse_candidate(candidate.candidate) if candidate.candidate else None
        if candidate.candidate and parsed is None:
            return
        username = candidate.username or _username_in(candidate.candidate or "")
        # an mDNS name takes up to a second to resolve, which must not hold up the signaling
        self._spawner.spawn(
            self._link.ice.add_remote_candidate(parsed, username=username), name="add candidate"
        )

    async def restart_ice(
        self, remote: IceDescription, *, ice_servers: Sequence[IceServer]
    ) -> IceDescription:
        try:
            return await self._link.ice.answer_restart(remote, ice_servers)
        except ConnectionFailed as error:
            raise CandidateRejected(str(error)) from error

    def read_pending(self) -> None:
        self._link.ice.receive()

    async def drain(self) -> None:
        self._link.ice.receive_at_once()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._closed.wait()

    async def close(self) -> None:
        self._stop()
        await self._link.close()

    async def _serve(self, sink: MediaSink) -> None:
        try:
            await self._link.connect(self._remote, dtls_role=self._remote.dtls_role)
        except ConnectionFailed:
            self._lost()
            return
        sink.connection_established(now=self._clock.monotonic())
        # the answer is written, and the candidates are in use
        self._remote = dataclasses.replace(
            self._remote, candidates=(), media_lines=(), mids=(), carrier_codecs=()
        )
        early, self._early = self._early, _NO_PACKETS
        self._media_received(early)
        if not self._closed.is_set():
            self._reports.join(self._report)

    def _stop(self) -> None:
        self._closed.set()
        self._reports.leave(self._report)

    def _lost(self) -> None:
        if not self._closed.is_set():
            self._stop()
            assert self._sink is not None
            self._sink.connection_closed()

    def _media_received(self, datagrams: Sequence[Datagram]) -> None:
        unprotector = self._link.unprotector
        if unprotector is None:
            self._early.extend(datagrams)
            return
        unprotect = unprotector.rtp
        assert self._sink is not None
        unwanted = self._remote.unwanted
        packets: list[RtpPacket] = []
        for data, arrived in datagrams:
            try:
                if len(data) > 1 and 192 <= data[1] <= 223:  # as `is_rtcp`, without the call
                    self._rtcp_received(unprotector.rtcp(data), arrived)
                    continue
                packet = parse_rtp(unprotect(data), arrived)
            except (pylibsrtp.Error, PacketInvalid, ValueError):  # ValueError: too long, or no RTCP
                self.rejected += 1
                continue
            if packet.payload_type not in unwanted:
                packets.append(packet)
        if packets:
            self._sink.packets_received(0, packets)

    def _rtcp_received(self, data: bytes, arrived: float) -> None:
        if (told := sender_time(data)) is not None:
            self._sender_report = (*told, arrived)

    def _report(self) -> None:
        assert self._sink is not None
        reports = self._sink.reception_reports()
        report = reports[0] if reports else None
        lsr, delay = 0, 0
        if (
            report is not None
            and self._sender_report is not None
            and self._sender_report[0] == report.ssrc
        ):
            _, lsr, received_at = self._sender_report
            delay = round((self._clock.monotonic() - received_at) * 65536) & 0xFFFFFFFF
        self._link.send_reports(
            receiver_report(
                ssrc=self._ssrc,
                description=self._description,
                report=report,
                lsr=lsr,
                dlsr=delay,
            )
        )


def _username_in(candidate: str) -> str | None:
    """The ``ufrag`` extension of a candidate line, as browsers write it."""
    words = candidate.split()
    if "ufrag" in words[:-1]:
        return words[words.index("ufrag") + 1]
    return None
