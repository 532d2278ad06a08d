"""Ports for media at both ends, whatever protocol negotiated the connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.rtp.packets import RtpPacket
from domain.rtp.reports import ReceptionReport
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

    def connection_closed(self) -> None:
        """Note that the peer closed the connection, or that it failed. Called at most once.

        A lost path is not a close: packets just stop.
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

    def start(self, sink: MediaSink) -> None:
        """Connect in the background and deliver to `sink`."""

    def read_pending(self) -> None:
        """Read and deliver the packets that wait in the socket.

        Do not call it while a connection is delivering.
        """

    async def drain(self) -> None:
        """Wait, for a fraction of a second at most, until packets in flight have arrived."""

    async def close(self) -> None:
        """Tell the peer and release everything, within bounded time. May be called twice."""


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

    def send(self, packet: RtpPacket) -> None:
        """Send a packet at once. Without a path the packet is lost, and no error is raised.

        May be called in another thread than everything else, but not in two at a time.
        """

    async def close(self, *, tell_server: bool = True) -> None:
        """Release everything within bounded time; the server is told if `tell_server`."""
