"""The media path, seen from each end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from domain.detection import CodecParameters
from domain.ports.codec import EncodedPacket
from domain.rtp import ReceptionReport, RtpPacket


@dataclass(frozen=True, slots=True)
class IceCandidate:
    """An RTCIceCandidateInit. Without `candidate` it ends the list."""

    candidate: str | None
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


class MediaSink(Protocol):
    """What a server's connection delivers to. All of it is called on the event loop."""

    def connection_established(self, *, now: float) -> None:
        """The media path is there and secure; `now` in monotonic seconds."""

    def packet_received(self, packet: RtpPacket, *, now: float) -> None:
        """An authenticated RTP packet, in the order of arrival; `now` in monotonic seconds."""

    def connection_closed(self) -> None:
        """The peer closed the connection, or none could be made. Called at most once.

        A path that is lost without a goodbye is no close: its packets just cease.
        """

    def reception_report(self) -> ReceptionReport | None:
        """What the next receiver report says; None for no report yet."""


class IngestConnection(Protocol):
    """One peer's connection to the server."""

    @property
    def codecs(self) -> Mapping[int, CodecParameters]:
        """The negotiated codecs by payload type."""

    @property
    def answer_sdp(self) -> str:
        """The answer to the offer, all local candidates included."""

    def start(self, sink: MediaSink) -> None:
        """Connect in the background and deliver to `sink`."""

    def add_candidate(self, candidate: IceCandidate) -> None:
        """Take a remote candidate; raises `CandidateRejected` for one that cannot be read."""

    async def drain(self) -> None:
        """Wait, for a fraction of a second at most, until what is on its way has arrived."""

    async def close(self) -> None:
        """Say goodbye and release everything, within bounded time. May be called twice."""


class IngestTransport(Protocol):
    async def accept(self, offer_sdp: str) -> IngestConnection:
        """Prepare the answer to an offer. Raises `OfferRejected`; nothing is left behind then."""


class PublisherConnection(Protocol):
    """The client's connection to the server. Raises `ConnectionFailed`, `ConnectionLost`."""

    @property
    def offer_sdp(self) -> str:
        """The offer. Its candidates follow through `connect`."""

    async def connect(
        self, answer_sdp: str, send_candidate: Callable[[IceCandidate], Awaitable[None]]
    ) -> None:
        """Find the candidates and hand them over; return when packets can be sent."""

    async def send(self, packet: EncodedPacket) -> None:
        """Send a packet at once."""

    async def close(self) -> None:
        """Send what waits, say goodbye and release everything, within bounded time."""


class PublisherTransport(Protocol):
    def open(self) -> PublisherConnection:
        """A new connection with an offer of its own."""
