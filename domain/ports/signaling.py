"""WebRTC signaling: offers, answers and ICE, at both ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from domain.ports.media import MediaConnection, MediaSender
from domain.recording.restoring import SpoolInfo
from domain.session.ice import IceCandidate, IceDescription, IceServer


class ServerConnection(MediaConnection, Protocol):
    """A media connection that was negotiated by an offer and an answer."""

    @property
    def answer_sdp(self) -> str:
        """The answer to the offer, all local candidates included."""

    @property
    def ice_tag(self) -> str:
        """Names the ICE session by the server's username fragment; a restart changes it."""

    @property
    def remote_ice(self) -> IceDescription:
        """The peer's credentials in the current ICE session."""

    async def restart_ice(
        self, remote: IceDescription, *, ice_servers: Sequence[IceServer]
    ) -> IceDescription:
        """Answer an ICE restart (RFC 8445 § 9); return the server's end of the new ICE session.

        Media uses the old path until the new one works; DTLS and SRTP stay as they are. Raises
        `CandidateRejected`; the old ICE session stays then.
        """

    def add_candidate(self, candidate: IceCandidate) -> None:
        """Add a remote candidate; raises `CandidateRejected` for one that cannot be parsed.

        Ignored are known candidates, those of another ICE session, those beyond the limit, and
        those after the end of the list.
        """


class ServerTransport(Protocol):
    """Accepts offers."""

    @property
    def max_read_delay_s(self) -> float:
        """How long a packet may wait in its socket, at most, until it is read."""

    async def open(self) -> None:
        """Take what all connections share. Raises `PortInUse` and `SettingInvalid`."""

    async def close(self) -> None:
        """Release it; the connections must be closed."""

    async def accept(
        self,
        offer_sdp: str,
        *,
        ice_servers: Sequence[IceServer],
        codecs: Sequence[str | None] = (),
    ) -> ServerConnection:
        """Prepare the answer to an offer, with all candidates that are found within a second.

        Each track is answered with one codec, since a recording has one. `codecs` are the names of
        the codecs that the session's tracks are recorded with already, in the order of the tracks;
        a track without one gets the best codec of the offer. Raises `OfferRejected`, `NoRelay`, or
        `ServerFull` when there is no address; nothing is left behind then.
        """


class ClientConnection(MediaSender, Protocol):
    """A media sender that is negotiated by an offer and an answer."""

    @property
    def offer_sdp(self) -> str:
        """The offer, without candidates: `connect` sends them."""

    @property
    def ice_tag(self) -> str:
        """Names the ICE session as the server does: by the server's username fragment."""

    @property
    def path_kinds(self) -> tuple[str, str] | None:
        """The types of the path's candidates, here and at the server (RFC 8445 § 5.1.1).

        Each is ``host``, ``srflx``, ``prflx`` or ``relay``; None without a path.
        """

    async def connect(
        self,
        answer_sdp: str,
        *,
        ice_servers: Sequence[IceServer],
        send_candidate: Callable[[IceCandidate], Awaitable[None]],
    ) -> None:
        """Send candidates as they are found; return when media can be sent.

        Raises `ConnectionFailed`, and what `send_candidate` raises.
        """

    async def restart_ice(
        self, exchange: Callable[[IceDescription], Awaitable[IceDescription]]
    ) -> None:
        """Find another path by an ICE restart (RFC 8445 § 9); return when it is in use.

        `exchange` sends this end's description to the server and returns the server's. DTLS and
        SRTP stay as they are, and the old path is used until then. Raises `ConnectionFailed`,
        `CandidateRejected` and what `exchange` raises.
        """


class ClientTransport(Protocol):
    def open(self) -> ClientConnection:
        """Make a connection with its own offer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's answer to an offer."""

    sdp: str
    session_id: str
    resume: str = field(repr=False)
    """The secret with which the session can be resumed."""
    ice_servers: Sequence[IceServer] = ()
    """STUN and TURN servers that the server recommends."""


class SignalingClient(Protocol):
    """Sends signaling to a server.

    Calls raise `ServerUnreachable` when no server answers, and `ServerRefused` when it refuses.
    The implementation decides which kind of `Refusal` that is.
    """

    async def offer(
        self,
        sdp: str,
        *,
        name: str,
        room: str = "",
        resume: str | None = None,
        spool: SpoolInfo | None = None,
    ) -> Answer:
        """Open a session, or add a connection to the one that `resume` opens.

        A new session belongs to the `room`, if one is named. `spool` says how what was
        captured belongs to what is sent.
        """

    async def send_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        """Send a candidate; an empty one ends the list."""

    async def restart_ice(
        self, resume: str, local: IceDescription, *, ice_tag: str
    ) -> IceDescription:
        """Restart the ICE session that `ice_tag` names; return the server's description."""

    async def delete(self, session_id: str, *, resume: str | None = None) -> float | None:
        """End the session. If it is over already, that is not an error.

        `resume` is its secret, if another client has opened it.

        Returns the length of the complete recording, in seconds, if the server knows it. Raises
        `ServerRefused` with `Refusal.FINAL` when the recording has failed.
        """

    async def reason_of_end(self, session_id: str) -> str | None:
        """Return why the server has ended the session, if it has a reason that the client caused.

        Ask only after the server has closed the connection.
        """

    async def close(self) -> None:
        """Release the connections."""
