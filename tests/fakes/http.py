"""The HTTP server with fake sessions that record requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.http.access import Access
from adapters.http.server import SignalingServer
from adapters.placement.single import SingleNode
from domain.errors import OfferRejected, RecordingIncomplete, SessionUnknown
from domain.ports.placement import Placement
from domain.ports.signaling import ServerConnection
from domain.session.ice import IceCandidate, IceDescription, IceServer
from domain.session.roles import ALL_ROLES, Role


@dataclass(frozen=True)
class Accepted:
    session_id: str = "session"
    resume: str = "secret"
    answer_sdp: str = "v=0 answer"
    ice_tag: str = "tag"
    ice_servers: tuple[IceServer, ...] = (IceServer("turn:t", "u", "c"),)


class FakeSessions:
    """Takes the place of the server's `SessionService`."""

    def __init__(self, **states: int) -> None:
        self._states = states
        self.offers: list[tuple[str, str]] = []
        self.candidates: list[tuple[str, IceCandidate]] = []
        self.resumed: list[str | None] = []
        self.deleted: list[str] = []
        self.searched: list[str] = []
        self.is_failing = False

    @property
    def session_count(self) -> int:
        return sum(self._states.values())

    def states(self) -> dict[str, int]:
        return self._states

    async def offer(self, sdp: str, *, name: str, resume: str | None = None) -> Accepted:
        if sdp == "bad":
            raise OfferRejected("it is bad")
        self.offers.append((sdp, name))
        self.resumed.append(resume)
        return Accepted()

    def connection_of(self, secret: str) -> ServerConnection:
        self.searched.append(secret)
        raise SessionUnknown(secret)

    async def restart_ice(self, secret: str, remote: IceDescription) -> IceDescription:
        raise SessionUnknown(secret)

    def session_of(self, secret: str) -> str:
        self.searched.append(secret)
        raise SessionUnknown(secret)

    def add_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        self.candidates.append((session_id, candidate))

    async def delete(self, session_id: str) -> float:
        if session_id in self.deleted:
            raise SessionUnknown("over")
        if self.is_failing:
            raise RecordingIncomplete("the disk is gone")
        self.deleted.append(session_id)
        return 1.0


def http_server(
    sessions: FakeSessions,
    *,
    token: str | None = None,
    tokens: Mapping[str, frozenset[Role]] | None = None,
    placement: Placement | None = None,
    tls: tuple[str, str] | tuple[None, None] = (None, None),
) -> SignalingServer:
    service: Any = sessions
    if tokens is None:
        tokens = {} if token is None else {token: ALL_ROLES}
    return SignalingServer(
        service,
        host="127.0.0.1",
        port=0,
        access=Access(host="127.0.0.1", tokens=tokens),
        tls_cert=tls[0],
        tls_key=tls[1],
        version="1",
        placement=placement or SingleNode(),
    )
