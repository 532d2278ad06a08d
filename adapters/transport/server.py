"""The server's end of a connection. RTP is taken before aiortc's jitter buffer.

aiortc's `RTCRtpReceiver` drops the packets that wait in front of a hole, and ends at an RTCP BYE.
So it is not used. Each SRTP packet goes from the socket through libsrtp to the sink in one
synchronous step, in the order of arrival, in a batch with the others that were read together.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence

import pylibsrtp
from aiortc import RTCCertificate

from adapters.transport.demultiplexer import TrackDemultiplexer
from adapters.transport.dtls.transport import DtlsTransport
from adapters.transport.ice.candidates import parse_candidate, username_in
from adapters.transport.ice.options import IceOptions
from adapters.transport.rtcp.reports import (
    MAX_BLOCKS,
    ReportBlock,
    receiver_report,
    sender_times,
    source_description,
)
from adapters.transport.rtcp.schedule import ReportSchedule
from adapters.transport.sdp.codecs import OpusPreferences
from adapters.transport.sdp.descriptions import LocalTransport, RemoteDescription
from adapters.transport.sdp.parsing import parse_offer
from adapters.transport.sdp.writing import negotiated_mid_extension, write_answer
from adapters.transport.sockets.coalescing import MAX_READ_DELAY_S
from adapters.transport.sockets.datagrams import Datagram
from domain.errors import CandidateRejected, ConnectionFailed, NoRelay, PacketInvalid, ServerFull
from domain.ports.clock import Clock, Spawner
from domain.ports.media import MediaSink, RemoteTrack
from domain.ports.signaling import ServerConnection
from domain.rtp.packets import RtpPacket, parse_rtp
from domain.rtp.reports import ReceptionReport
from domain.session.ice import IceCandidate, IceDescription, IceServer

_log = logging.getLogger("gapless")

REPORT_INTERVAL_S = 0.5
"""Reports are heartbeats, too: a client that misses some of them in a row has lost its path."""
DRAIN_S = 0.2
CERTIFICATE_S = 86_400.0
_MAX_EARLY_PACKETS = 64
"""Packets kept while the last flight of the handshake is still under way (1.3 s of 20 ms)."""
_MAX_SENDERS = 2 * MAX_BLOCKS
"""Sources whose latest sender reports are kept."""
# shared by all connections: an empty deque takes 0.7 kB
_NO_PACKETS: deque[Datagram] = deque(maxlen=0)


class WebRtcServerTransport:
    """Accepts offers."""

    def __init__(
        self,
        options: IceOptions,
        *,
        preferences: OpusPreferences,
        clock: Clock,
        spawner: Spawner,
    ) -> None:
        self._options = options
        self._preferences = preferences
        self._clock = clock
        self._spawner = spawner
        self._reports = ReportSchedule(REPORT_INTERVAL_S)
        self._certificate: tuple[RTCCertificate, float] | None = None  # with its expiry

    @property
    def max_read_delay_s(self) -> float:
        return MAX_READ_DELAY_S

    async def accept(self, offer_sdp: str, *, ice_servers: Sequence[IceServer]) -> ServerConnection:
        offer = parse_offer(offer_sdp)
        transport = DtlsTransport(
            self._options, controlling=False, certificate=self._current_certificate()
        )
        transport.ice.set_remote(offer.username, offer.password)
        try:
            candidates = await transport.ice.gather(ice_servers)
            for problem in transport.ice.problems:
                _log.warning("%s", problem)
            if not candidates:
                why = "; ".join(transport.ice.problems)
                if self._options.relay_only:
                    raise NoRelay(why or "no TURN server is configured")
                raise ServerFull(why or "this server has no address for clients to reach")
        except BaseException:
            await transport.close()
            raise
        if offer.declined:
            reasons = (f"{count} {reason}" for reason, count in offer.declined.items())
            _log.warning("declined audio m-lines of an offer: %s", ", ".join(reasons))
        local = LocalTransport(
            transport.ice.username,
            transport.ice.password,
            transport.fingerprint,
            candidates,
            complete=True,
        )
        answer = write_answer(offer, local, self._preferences)
        return _Connection(offer, transport, answer, self._clock, self._spawner, self._reports)

    def _current_certificate(self) -> RTCCertificate:
        """Return the certificate for all connections of a day; clients may recognize the server.

        Making one for each connection would delay the media of others by milliseconds.
        """
        now = self._clock.monotonic()
        if self._certificate is None or now >= self._certificate[1]:
            self._certificate = RTCCertificate.generateCertificate(), now + CERTIFICATE_S
        return self._certificate[0]


class _Connection:
    def __init__(
        self,
        offer: RemoteDescription,
        transport: DtlsTransport,
        answer: str,
        clock: Clock,
        spawner: Spawner,
        reports: ReportSchedule,
    ) -> None:
        self._offer: RemoteDescription | None = offer  # until the connection is established
        self._transport = transport
        self._clock = clock
        self._spawner = spawner
        self._sink: MediaSink | None = None
        self._closed = asyncio.Event()
        self._early: deque[Datagram] = deque(maxlen=_MAX_EARLY_PACKETS)
        self._unwanted = offer.unwanted
        # only needed for several tracks: a single one has a receive path of its own
        self._demultiplexer: TrackDemultiplexer | None = None
        if len(offer.tracks) > 1:
            extension = negotiated_mid_extension(offer)
            self._demultiplexer = TrackDemultiplexer(
                offer.tracks, mid_extension=None if extension is None else extension.id
            )
        self._reports = reports
        self._ssrc = random.getrandbits(32)
        self._description = source_description(self._ssrc, "gapless")
        self._sender_times: dict[int, tuple[int, float]] = {}
        """The middle of the NTP time in each source's latest sender report, and its arrival."""
        self.tracks: Sequence[RemoteTrack] = tuple(
            RemoteTrack(track.codecs) for track in offer.tracks
        )
        self.answer_sdp = answer
        self.rejected = 0
        """Packets that are not valid SRTP."""
        self.unassigned = 0
        """Packets that cannot be assigned to a track."""

    @property
    def ice_tag(self) -> str:
        return self._transport.ice.username

    @property
    def remote_ice(self) -> IceDescription:
        return self._transport.ice.remote

    def start(self, sink: MediaSink) -> None:
        self._sink = sink
        self._transport.ice.on_media = self._receiver
        self._transport.on_closed = self._closed_by_peer
        self._spawner.spawn(self._serve(sink), name="serve connection")

    def add_candidate(self, candidate: IceCandidate) -> None:
        parsed = parse_candidate(candidate.candidate) if candidate.candidate else None
        if candidate.candidate and parsed is None:
            return
        username = candidate.username or username_in(candidate.candidate or "")
        # in the background: an mDNS name takes up to a second to resolve
        self._spawner.spawn(
            self._transport.ice.add_remote_candidate(parsed, username=username),
            name="add candidate",
        )

    async def restart_ice(
        self, remote: IceDescription, *, ice_servers: Sequence[IceServer]
    ) -> IceDescription:
        try:
            return await self._transport.ice.answer_restart(remote, ice_servers)
        except ConnectionFailed as error:
            raise CandidateRejected(str(error)) from error

    def read_pending(self) -> None:
        self._transport.ice.read_pending()

    async def drain(self) -> None:
        self._transport.ice.read_immediately()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._closed.wait()

    async def close(self) -> None:
        self._stop()
        await self._transport.close()

    async def _serve(self, sink: MediaSink) -> None:
        offer, self._offer = self._offer, None
        assert offer is not None
        try:
            await self._transport.connect(
                offer.dtls,
                role=offer.dtls_role,
                candidates=offer.candidates,
                candidates_complete=offer.candidates_complete,
            )
        except ConnectionFailed:
            self._closed_by_peer()
            return
        del offer
        sink.connection_established(now=self._clock.monotonic())
        early, self._early = self._early, _NO_PACKETS
        self._receiver(early)
        if not self._closed.is_set():
            self._reports.add(self._report)

    def _stop(self) -> None:
        self._closed.set()
        self._reports.remove(self._report)

    def _closed_by_peer(self) -> None:
        if not self._closed.is_set():
            self._stop()
            assert self._sink is not None
            self._sink.connection_closed()

    @property
    def _receiver(self) -> Callable[[Sequence[Datagram]], None]:
        """Receives SRTP and SRTCP packets of this connection."""
        return self._receive if self._demultiplexer is None else self._receive_several

    def _receive(self, datagrams: Sequence[Datagram]) -> None:
        """Receive the packets of a single track."""
        unprotector = self._transport.unprotector
        if unprotector is None:
            self._early.extend(datagrams)
            return
        unprotect = unprotector.rtp
        assert self._sink is not None
        unwanted = self._unwanted
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

    def _receive_several(self, datagrams: Sequence[Datagram]) -> None:
        """Receive the packets of several tracks."""
        unprotector, demultiplexer = self._transport.unprotector, self._demultiplexer
        if unprotector is None:
            self._early.extend(datagrams)
            return
        assert self._sink is not None
        assert demultiplexer is not None
        received: dict[int, list[RtpPacket]] = {}
        for data, arrived in datagrams:
            try:
                if len(data) > 1 and 192 <= data[1] <= 223:
                    self._rtcp_received(unprotector.rtcp(data), arrived)
                    continue
                plain = unprotector.rtp(data)
                packet = parse_rtp(plain, arrived)
            except (pylibsrtp.Error, PacketInvalid, ValueError):
                self.rejected += 1
                continue
            if (track := demultiplexer.track_of(packet, plain)) is None:
                self.unassigned += 1
            else:
                received.setdefault(track, []).append(packet)
        for track, packets in received.items():
            self._sink.packets_received(track, packets)

    def _rtcp_received(self, data: bytes, arrived: float) -> None:
        for ssrc, time in sender_times(data):
            if ssrc not in self._sender_times and len(self._sender_times) >= _MAX_SENDERS:
                del self._sender_times[next(iter(self._sender_times))]
            self._sender_times[ssrc] = time, arrived

    def _report(self) -> None:
        assert self._sink is not None
        now = self._clock.monotonic()
        blocks = [
            self._block(reception, now=now)
            for reception in self._sink.reception_reports()[:MAX_BLOCKS]
        ]
        self._transport.send_reports(
            receiver_report(ssrc=self._ssrc, description=self._description, blocks=blocks)
        )

    def _block(self, reception: ReceptionReport, *, now: float) -> ReportBlock:
        if (sent := self._sender_times.get(reception.ssrc)) is None:
            return ReportBlock(reception)
        time, arrived = sent
        return ReportBlock(reception, time, round((now - arrived) * 65536) & 0xFFFFFFFF)
