"""The server's end of a connection. RTP is taken before aiortc's jitter buffer.

aiortc's `RTCRtpReceiver` drops the packets that wait in front of a hole, and ends at an RTCP BYE.
So it is not used. Each SRTP packet goes from the socket through libsrtp to the sink in one
synchronous step, in the order of arrival, in a batch with the others that were read together.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import pylibsrtp

from adapters.transport.demultiplexer import TrackDemultiplexer
from adapters.transport.dtls.transport import DtlsTransport
from adapters.transport.ice.candidates import parse_candidate, username_in
from adapters.transport.retransmission import Retransmissions
from adapters.transport.rtcp.feedback import generic_nack
from adapters.transport.rtcp.reports import (
    MAX_BLOCKS,
    ReportBlock,
    receiver_report,
    sender_reports,
    source_description,
)
from adapters.transport.rtcp.schedule import ReportSchedule
from adapters.transport.sdp.descriptions import RemoteDescription
from adapters.transport.sdp.extensions import CAPTURE_TIME_URI
from adapters.transport.sdp.writing import negotiated_mid_extension
from adapters.transport.sockets.datagrams import Datagram
from adapters.transport.srtp import Replayed, Unprotector
from domain.errors import CandidateRejected, ConnectionFailed, PacketInvalid
from domain.ports.clock import Clock, Spawner
from domain.ports.media import MediaSink, RemoteTrack
from domain.rtp.packets import RtpPacket, captured_s, is_rtcp, parse_rtp
from domain.rtp.reports import ReceptionReport, SenderReport
from domain.session.allowance import Allowance
from domain.session.ice import IceCandidate, IceDescription, IceServer

_log = logging.getLogger("gapless")

DRAIN_S = 0.2
MAX_DRAIN_S = 1.0
"""How long `drain` reads on after `DRAIN_S` if packets arrive faster than they are read."""
_MAX_EARLY_PACKETS = 64
"""Packets kept while the last flight of the handshake is still under way (1.3 s of 20 ms)."""
REPORTS_PER_S, MAX_REPORTS = 100, 500
"""Packets of reports that are looked at, in the long run and at once. 16 tracks send 20 a second at
most; nothing else limits them, as the rate of packets does sound."""
_MAX_SENDERS = 2 * MAX_BLOCKS
"""Sources whose latest sender reports are kept."""
# shared by all connections: an empty deque takes 0.7 kB
_NO_PACKETS: deque[Datagram] = deque(maxlen=0)


class ServerPeerConnection:
    """The server's end of one connection."""

    def __init__(
        self,
        offer: RemoteDescription,
        transport: DtlsTransport,
        answer: str,
        tracks: Sequence[RemoteTrack],
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
        self._retransmissions = Retransmissions(offer.tracks)
        self._unwanted = offer.unwanted | self._retransmissions.payload_types
        # only needed for several tracks: a single one has a receive path of its own
        self._demultiplexer: TrackDemultiplexer | None = None
        if len(offer.tracks) > 1:
            extension = negotiated_mid_extension(offer)
            self._demultiplexer = TrackDemultiplexer(
                offer.tracks, mid_extension=None if extension is None else extension.id
            )
        self._reports = reports
        self._ssrc = random.getrandbits(32)
        self._latest_source = -1  # the SSRC of the latest packet
        self._description = source_description(self._ssrc, "gapless")
        self._sender_reports: dict[int, SenderReport] = {}  # the latest one of each source
        self._reports_allowed = Allowance(MAX_REPORTS, REPORTS_PER_S)
        extensions = (track.extensions.get(CAPTURE_TIME_URI) for track in offer.tracks)
        self._capture_times = [None if item is None else item.id for item in extensions]
        self.tracks = tracks
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

    @property
    def obstacle(self) -> str | None:
        return self._transport.obstacle

    @property
    def round_trip_s(self) -> float | None:
        return self._transport.ice.round_trip_s

    def start(self, sink: MediaSink) -> None:
        self._sink = sink
        self._transport.ice.on_media = self._receiver
        self._transport.on_closed = self._closed_by_peer
        self._spawner.spawn(self._serve(sink), name="serve connection")

    def add_candidate(self, candidate: IceCandidate) -> None:
        parsed = parse_candidate(candidate.candidate) if candidate.candidate else None
        if candidate.candidate and parsed is None:
            return
        self._transport.ice.budget.earn(len(candidate.candidate or ""))
        username = candidate.username or username_in(candidate.candidate or "")
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

    def request_retransmission(self, track: int, ssrc: int, sequences: Sequence[int]) -> None:
        self._retransmissions.request(track, ssrc)
        # feedback has to follow a report (RFC 4585 § 3.1), which may be empty
        report = receiver_report(ssrc=self._ssrc, description=self._description, blocks=())
        self._transport.send_reports(report + generic_nack(self._ssrc, ssrc, sequences))

    def read_pending(self) -> None:
        self._transport.ice.read_pending()

    async def drain(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._closed.wait()
        # a busy thread reads late
        until = self._clock.monotonic() + MAX_DRAIN_S
        while not self._closed.is_set() and self._transport.ice.read_pending():
            if self._clock.monotonic() > until:
                break
            await asyncio.sleep(0)

    async def close(self) -> None:
        if not self._closed.is_set() and (obstacle := self.obstacle) is not None:
            _log.info("a connection is closed before it is established: %s", obstacle)
        self._stop()
        await self._transport.close()
        self._sink = None  # it refers to this connection

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
        except ConnectionFailed as error:
            reason = str(error)
            if not self._closed.is_set():
                _log.warning("a connection failed: %s", reason)
            self._closed_by_peer(reason)
            return
        del offer
        if self._sink is None:  # closed meanwhile
            return
        sink.connection_established(now=self._clock.monotonic())
        early, self._early = self._early, _NO_PACKETS
        self._receiver(early)
        if not self._closed.is_set():
            self._reports.add(self._report)

    def _stop(self) -> None:
        self._closed.set()
        self._reports.remove(self._report)

    def _closed_by_peer(self, reason: str | None = None) -> None:
        if not self._closed.is_set():
            self._stop()
            assert self._sink is not None
            self._sink.connection_closed(reason)

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
        unwanted, capture_time = self._unwanted, self._capture_times[0]
        packets: list[RtpPacket] = []
        for data, arrived in datagrams:
            try:
                if len(data) > 1 and 192 <= data[1] <= 223:  # as `is_rtcp`, without the call
                    reports = self._reported(unprotector, data, arrived)
                    if reports and packets:  # they are compared with the packets before them
                        self._sink.packets_received(0, packets)
                        packets = []
                    self._tell(reports)
                    continue
                plain = unprotect(data)
                packet = parse_rtp(plain, arrived)
            except Replayed:
                self._replayed(data, arrived)
                continue
            except PacketInvalid:
                self.rejected += 1
                unprotector.authenticated(int.from_bytes(data[8:12], "big"))
                continue
            except (pylibsrtp.Error, ValueError):  # ValueError: too long, or no RTCP
                self.rejected += 1
                continue
            if packet.ssrc != self._latest_source:
                self._source_changed(packet.ssrc, unprotector)
            if packet.payload_type not in unwanted:
                if capture_time is not None:
                    packet.captured_s = captured_s(plain, capture_time)
                packets.append(packet)
            elif (restored := self._retransmissions.restored(packet, 0)) is not None:
                packets.append(restored)
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
        unwanted = self._unwanted
        received: dict[int, list[RtpPacket]] = {}
        for data, arrived in datagrams:
            try:
                if len(data) > 1 and 192 <= data[1] <= 223:
                    reports = self._reported(unprotector, data, arrived)
                    if reports:
                        self._deliver(received)
                        received = {}
                    self._tell(reports)
                    continue
                plain = unprotector.rtp(data)
                packet = parse_rtp(plain, arrived)
            except Replayed:
                self._replayed(data, arrived)
                continue
            except PacketInvalid:
                self.rejected += 1
                unprotector.authenticated(int.from_bytes(data[8:12], "big"))
                continue
            except (pylibsrtp.Error, ValueError):
                self.rejected += 1
                continue
            if packet.ssrc != self._latest_source:
                self._source_changed(packet.ssrc, unprotector)
            track = demultiplexer.track_of(packet, plain)
            if track is None and packet.payload_type not in unwanted:
                # the track rejects and counts a packet that its source sent with another codec
                track = demultiplexer.track_of_source(packet.ssrc)
            if track is None:
                self.unassigned += 1
            elif packet.payload_type not in unwanted:
                if (capture_time := self._capture_times[track]) is not None:
                    packet.captured_s = captured_s(plain, capture_time)
                received.setdefault(track, []).append(packet)
            elif (restored := self._retransmissions.restored(packet, track)) is not None:
                received.setdefault(track, []).append(restored)
        self._deliver(received)

    def _source_changed(self, ssrc: int, unprotector: Unprotector) -> None:
        self._latest_source = ssrc
        unprotector.authenticated(ssrc)
        self._transport.ice.add_source(ssrc)

    def _replayed(self, data: bytes, arrived: float) -> None:
        """Tell of a packet that has arrived before: its header is not encrypted."""
        self.rejected += 1
        assert self._sink is not None
        if not is_rtcp(data):
            ssrc, sequence = int.from_bytes(data[8:12], "big"), int.from_bytes(data[2:4], "big")
            self._sink.packet_repeated(ssrc, sequence, now=arrived)

    def _deliver(self, received: Mapping[int, Sequence[RtpPacket]]) -> None:
        assert self._sink is not None
        for track, packets in received.items():
            self._sink.packets_received(track, packets)

    def _reported(
        self, unprotector: Unprotector, data: bytes, arrived: float
    ) -> Sequence[SenderReport]:
        """Return the sender reports in an SRTCP packet.

        Raises `pylibsrtp.Error`, and `ValueError` if it is too long, or no RTCP.
        """
        plain = unprotector.rtcp(data)
        unprotector.authenticated(int.from_bytes(data[4:8], "big"))
        if not self._reports_allowed.take(now=arrived):
            return ()
        latest = self._sender_reports
        reports = list(itertools.islice(sender_reports(plain, arrived), MAX_BLOCKS))
        for report in reports:
            if report.ssrc not in latest and len(latest) >= _MAX_SENDERS:
                del latest[next(iter(latest))]
            latest[report.ssrc] = report
        return reports

    def _tell(self, reports: Sequence[SenderReport]) -> None:
        assert self._sink is not None
        for report in reports:
            self._sink.sender_reported(report)

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
        if (report := self._sender_reports.get(reception.ssrc)) is None:
            return ReportBlock(reception)
        delay = round((now - report.arrived) * 65536) & 0xFFFFFFFF
        return ReportBlock(reception, report.ntp >> 16 & 0xFFFFFFFF, delay)
