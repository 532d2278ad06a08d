"""Ports for media at both ends, whatever protocol negotiated the connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.rtp.packets import RtpPacket
from domain.rtp.reports import ReceptionReport, SenderReport
from domain.sound.detection import CodecParameters


@dataclass(frozen=True, slots=True)
class RemoteTrack:
    """One source of sound that a connection carries."""

    codecs: Mapping[int, CodecParameters]
    """The negotiated codecs by payload type."""


class MediaSink(Protocol):
    """Receives what a server connection delivers. Every method is called on the event loop."""

    def connection_established(self, *, now: float) -> None:
        """Note that the media path works and is secure; `now` is in monotonic seconds."""

    def packets_received(self, track: int, packets: Sequence[RtpPacket]) -> None:
        """Receive authenticated RTP packets of a track, in the order of arrival; at least one.

        `track` is the index in `MediaConnection.tracks`.
        """

    def sender_reported(self, report: SenderReport) -> None:
        """Receive an authenticated sender report, after the packets that arrived before it."""

    def packet_repeated(self, ssrc: int, sequence: int, *, now: float) -> None:
        """Note that a packet has arrived again. The claim is not authenticated."""

    def connection_closed(self, reason: str | None = None) -> None:
        """Note that the peer closed the connection, or that it failed. Called at most once.

        `reason` says why it failed; None if the peer closed it. A lost path is not a close: packets
        just stop.
        """

    def reception_reports(self) -> Sequence[ReceptionReport]:
        """Return the content of the next receiver report, at most one entry for each source.

        Empty when there is nothing to report yet.
        """


class MediaConnection(Protocol):
    """One peer's connection to the server."""

    @property
    def tracks(self) -> Sequence[RemoteTrack]:
        """The tracks that were negotiated, in the order of the offer; at least one."""

    @property
    def obstacle(self) -> str | None:
        """Why there is no secure media path (yet), in words; None once there is one."""

    @property
    def round_trip_s(self) -> float | None:
        """How long a packet to the peer and its answer were under way; None if not measured yet."""

    def start(self, sink: MediaSink) -> None:
        """Connect in the background and deliver to `sink`."""

    def request_retransmission(self, track: int, ssrc: int, sequences: Sequence[int]) -> None:
        """Ask a track's source to send packets again (NACK).

        `sequences` are their sequence numbers (16 bits) in order, at least one. The packets arrive
        like others, with the source's SSRC, even if the peer sends them in a stream of their own
        (RTX). The request may be lost, and the peer may ignore it.
        """

    def read_pending(self) -> None:
        """Read and deliver the packets that wait in the socket.

        Do not call it while a connection is delivering.
        """

    async def drain(self) -> None:
        """Wait, for a fraction of a second at most, until packets in flight have arrived."""

    async def close(self) -> None:
        """Tell the peer and release everything, within bounded time. May be called twice."""


@dataclass(frozen=True, slots=True)
class PathReport:
    """What a receiver report of the server says of the path to it (RFC 3550 § 6.4.1)."""

    round_trip_s: float | None
    """How long a sender report and the answer to it were under way; None if this report does not
    tell, because no other sender report has arrived since the report before it."""
    fraction_lost: float
    """Of the packets since the report before it; packets that were sent again count as received."""
    at: float
    """When it came; monotonic seconds."""


class MediaSender(Protocol):
    """A client's connection to the server."""

    @property
    def is_open(self) -> bool:
        """Whether packets can be sent: connected, and neither closed nor given up."""

    @property
    def is_closed_by_server(self) -> bool:
        """Whether the server has closed the connection."""

    @property
    def heard_at(self) -> float:
        """When the server's latest report came (it sends two a second); monotonic seconds."""

    @property
    def highest_reported(self) -> int | None:
        """The highest sequence number that the server has reported as received; 16 bits."""

    @property
    def path_report(self) -> PathReport | None:
        """The server's latest report on the packets that were sent; None before the first one."""

    on_requested: Callable[[Sequence[int]], None] | None
    """Called with the sequence numbers of packets that the server asks for again."""

    def send(self, packet: RtpPacket) -> None:
        """Send a packet at once. Without a path the packet is lost, and no error is raised.

        May be called in another thread than everything else, but not in two at a time.
        """

    def send_again(self, packet: RtpPacket) -> None:
        """Send a packet again that was sent before, on this or another connection.

        May be called while another thread is in `send`.
        """

    async def close(self, *, tell_server: bool = True) -> None:
        """Release everything within bounded time; the server is told if `tell_server`."""
