"""The media path, seen from each end."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.rtp.packets import RtpPacket
from domain.rtp.reports import ReceptionReport
from domain.settings import IceServer
from domain.sound.detection import CodecParameters

_ICE_USERNAME = re.compile("[A-Za-z0-9+/]{4,256}")
_ICE_PASSWORD = re.compile("[A-Za-z0-9+/]{22,256}")


@dataclass(frozen=True, slots=True)
class IceCandidate:
    """An RTCIceCandidateInit. Without `candidate` it ends the list."""

    candidate: str | None
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None
    username: str | None = None
    """The username fragment of the ICE session that it belongs to, where that is said."""


@dataclass(frozen=True, slots=True)
class IceDescription:
    """One end of an ICE session: its credentials and candidates (RFC 8839, RFC 8840)."""

    username: str
    password: str
    candidates: Sequence[str] = ()
    """As in SDP, behind ``candidate:``."""
    complete: bool = False
    """No more candidates follow."""


def are_ice_credentials(username: str, password: str) -> bool:
    """Whether a user name fragment and a password could be ones (RFC 8839 § 5.4)."""
    return bool(_ICE_USERNAME.fullmatch(username) and _ICE_PASSWORD.fullmatch(password))


class MediaSink(Protocol):
    """What a server's connection delivers to. All of it is called on the event loop."""

    def connection_established(self, *, now: float) -> None:
        """The media path is there and secure; `now` in monotonic seconds."""

    def packets_received(self, packets: Sequence[RtpPacket]) -> None:
        """Authenticated RTP packets in the order of arrival; at least one."""

    def connection_closed(self) -> None:
        """The peer closed the connection, or none could be made. Called at most once.

        A path that is lost without a goodbye is no close: its packets just cease.
        """

    def reception_report(self) -> ReceptionReport | None:
        """What the next receiver report says; None for no report yet."""


class ServerConnection(Protocol):
    """One peer's connection to the server."""

    @property
    def codecs(self) -> Mapping[int, CodecParameters]:
        """The negotiated codecs by payload type."""

    @property
    def answer_sdp(self) -> str:
        """The answer to the offer, all local candidates included."""

    @property
    def ice_tag(self) -> str:
        """Names the ICE session, by this end's user name; another one after a restart."""

    @property
    def remote_ice(self) -> IceDescription:
        """The peer's credentials in the present ICE session."""

    def start(self, sink: MediaSink) -> None:
        """Connect in the background and deliver to `sink`."""

    async def restart_ice(
        self, remote: IceDescription, *, ice_servers: Sequence[IceServer]
    ) -> IceDescription:
        """Begin a new ICE session with a peer that has (RFC 8445 § 9); returns this end of it.

        Media goes on over the old path until the new one is there, DTLS and SRTP stay as they
        are. Raises `CandidateRejected`; the old session stays then.
        """

    def add_candidate(self, candidate: IceCandidate) -> None:
        """Take a remote candidate; raises `CandidateRejected` for one that cannot be read.

        One that is known, of another ICE session, beyond the cap, or behind the end of the list
        is ignored.
        """

    def receive(self) -> None:
        """Deliver what has come already; it may be called from within another's delivery."""

    async def drain(self) -> None:
        """Wait, for a fraction of a second at most, until what is on its way has arrived."""

    async def close(self) -> None:
        """Say goodbye and release everything, within bounded time. May be called twice."""


class ServerTransport(Protocol):
    async def accept(self, offer_sdp: str, *, ice_servers: Sequence[IceServer]) -> ServerConnection:
        """Prepare the answer to an offer, with all candidates that are found within a second.

        Raises `OfferRejected`, `NoRelay`, or `ServerFull` when no UDP port is left; nothing is
        left behind then.
        """


class ClientConnection(Protocol):
    """The client's connection to the server."""

    @property
    def offer_sdp(self) -> str:
        """The offer. Its candidates follow through `connect`."""

    @property
    def is_open(self) -> bool:
        """Whether packets can be sent: it is made, and neither closed nor given up."""

    @property
    def ice_tag(self) -> str:
        """Names the ICE session as the server does: by the server's user name."""

    @property
    def is_closed_by_server(self) -> bool:
        """Whether the server has said goodbye."""

    @property
    def heard_at(self) -> float:
        """When the server was last heard of (it reports twice a second); monotonic seconds."""

    @property
    def highest_reported(self) -> int | None:
        """The highest sequence number that the server has said it has; 16 bits."""

    async def connect(
        self,
        answer_sdp: str,
        *,
        ice_servers: Sequence[IceServer],
        send_candidate: Callable[[IceCandidate], Awaitable[None]],
    ) -> None:
        """Hand candidates over as they are found; return when packets can be sent.

        Raises `ConnectionFailed`, and what `send_candidate` raises.
        """

    async def restart_ice(
        self, exchange: Callable[[IceDescription], Awaitable[IceDescription]]
    ) -> None:
        """Look for another path with a new ICE session (RFC 8445 § 9); return when it has one.

        `exchange` brings this end of it to the server, and the server's back. DTLS and SRTP stay
        as they are, and the old path serves until then. Raises `ConnectionFailed`,
        `CandidateRejected` and what `exchange` raises.
        """

    def send(self, packet: RtpPacket) -> None:
        """Send a packet at once; without a path it is lost, and that is no error.

        It may be called in another thread than all else, but not in two at a time.
        """

    async def close(self, *, goodbye: bool = True) -> None:
        """Release everything within bounded time, and say so to the server if `goodbye`."""


class ClientTransport(Protocol):
    def open(self) -> ClientConnection:
        """A new connection with an offer of its own."""
