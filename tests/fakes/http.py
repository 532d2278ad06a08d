"""The HTTP server with fake sessions that record requests."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.events.dispatcher import EventDispatcher
from adapters.http.access import Access
from adapters.http.api.sign_in import SignInHandlers
from adapters.http.callers import Callers
from adapters.http.health import HealthHandlers
from adapters.http.nodes import NodeClient
from adapters.http.offers import OfferHandlers
from adapters.http.pieces import PieceHandlers
from adapters.http.refusals import Refusals
from adapters.http.routes import Handlers
from adapters.http.server import ConnectionLimits, SignalingServer
from adapters.http.tls import TlsFiles
from adapters.http.whip import WhipHandlers
from adapters.placement.single import SingleNode
from adapters.runtime.asyncio_runtime import SystemClock
from adapters.tokens.register import FileTokens
from adapters.tokens.signing import JwtSigner
from domain.errors import (
    OfferRejected,
    RecordingIncomplete,
    SessionCutOff,
    SessionUnknown,
    Unauthorized,
)
from domain.ports.events import EventPublisher
from domain.ports.placement import Placement
from domain.ports.restoring import Confirmed, Wanted
from domain.ports.signaling import ServerConnection
from domain.recording.restoring import Captured, SpoolInfo
from domain.services.server.restoring import RestoreService
from domain.services.server.tokens import TokenService
from domain.session.caller import UNKNOWN, Caller
from domain.session.ice import IceCandidate, IceDescription, IceServer
from domain.session.roles import ALL_ROLES, Role, Token


@dataclass(frozen=True)
class Accepted:
    session_id: str = "session"
    resume: str = "secret"
    answer_sdp: str = "v=0 answer"
    ice_tag: str = "tag"
    ice_servers: tuple[IceServer, ...] = (IceServer("turn:t", "u", "c"),)


class FakeSessions:
    """Takes the place of the server's `SessionService`.

    `opens` has the ids of sessions by their secrets.
    """

    def __init__(self, *, opens: Mapping[str, str] | None = None, **states: int) -> None:
        self._states = states
        self._opens = opens or {}
        self.offers: list[tuple[str, str]] = []
        self.candidates: list[tuple[str, IceCandidate]] = []
        self.rooms: list[str] = []
        self.resumed: list[str | None] = []
        self.spools: list[SpoolInfo | None] = []
        self.callers: list[Caller] = []
        self.deleted: list[str] = []
        self.searched: list[str] = []
        self.is_failing = False
        self.reason: str | None = None
        """Why the server has ended all sessions."""

    @property
    def session_count(self) -> int:
        return sum(self._states.values())

    def states(self) -> dict[str, int]:
        return self._states

    async def offer(
        self,
        sdp: str,
        *,
        name: str,
        room: str = "",
        resume: str | None = None,
        spool: SpoolInfo | None = None,
        caller: Caller = UNKNOWN,
    ) -> Accepted:
        if sdp == "bad":
            raise OfferRejected("it is bad")
        self.offers.append((sdp, name))
        self.rooms.append(room)
        self.resumed.append(resume)
        self.spools.append(spool)
        self.callers.append(caller)
        return Accepted()

    def connection_of(self, secret: str) -> ServerConnection:
        self.searched.append(secret)
        raise SessionUnknown("there is no such session")

    async def restart_ice(self, secret: str, remote: IceDescription) -> IceDescription:
        raise SessionUnknown("there is no such session")

    def session_of(self, secret: str) -> str:
        secret.encode()  # the real service compares digests of secrets
        self.searched.append(secret)
        if secret not in self._opens:
            raise SessionUnknown("there is no such session")
        return self._opens[secret]

    def add_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        self.candidates.append((session_id, candidate))

    async def delete(self, session_id: str, *, caller: Caller = UNKNOWN) -> float:
        if session_id in self.deleted:
            raise SessionUnknown("over")
        if self.is_failing:
            raise RecordingIncomplete("the disk is gone")
        if self.reason is not None:
            raise SessionCutOff(self.reason)
        self.deleted.append(session_id)
        self.callers.append(caller)
        return 1.0


class FakeRestoring(RestoreService):
    """Takes the place of the server's `RestoreService`.

    `secrets` has the secrets of sessions by their ids; `is_open` lets `put` continue.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = secrets
        self.wants = Wanted((), "live")
        self.confirms = Confirmed("complete", "ab" * 32)
        self.pieces: list[tuple[str, int, bytes]] = []
        self.captures: list[Captured] = []
        self.refusal: Exception | None = None
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def wanted(self, session_id: str, secret: str) -> Wanted:
        if self._secrets.get(session_id) != secret:
            raise Unauthorized("this is not the secret of the session")
        return self.wants

    async def put(self, session_id: str, secret: str, start: int, flac: bytes) -> None:
        await self.wanted(session_id, secret)
        await self.is_open.wait()
        if self.refusal is not None:
            raise self.refusal
        self.pieces.append((session_id, start, flac))

    async def captured(self, session_id: str, secret: str, captured: Captured) -> Confirmed:
        await self.wanted(session_id, secret)
        if self.refusal is not None:
            raise self.refusal
        self.captures.append(captured)
        return self.confirms


def token_service(folder: str | None = None, **options: Any) -> TokenService:
    """Make the service for signed tokens, with a register in a folder or in memory."""
    options = {"new_id": lambda: secrets.token_hex(8), "clock": SystemClock()} | options
    signer = options.pop("signer", None) or JwtSigner()
    return TokenService(signer, FileTokens(folder), **options)


def http_server(
    sessions: FakeSessions,
    *,
    token: str | None = None,
    tokens: Mapping[str, frozenset[Role]] | None = None,
    placement: Placement | None = None,
    host: str = "127.0.0.1",
    tls: TlsFiles | None = None,
    hsts: bool = False,
    limits: ConnectionLimits | None = None,
    restoring: RestoreService | None = None,
    trusted_proxies: Sequence[str] = (),
    events: EventPublisher | None = None,
    more: Sequence[Handlers] = (),
    signed: TokenService | None = None,
    pages: Sequence[str] = (),
) -> SignalingServer:
    """Make the server; `more` handles the requests of further routes, `signed` signed tokens."""
    signed = signed or token_service()
    service: Any = sessions
    nodes, placement = NodeClient(), placement or SingleNode()
    if tokens is None:
        tokens = {} if token is None else {token: ALL_ROLES}
    access = Access(
        host=host,
        tokens=[Token(f"{text} token", text, roles) for text, roles in tokens.items()],
        signed=signed,
        pages=pages,
    )
    return SignalingServer(
        [
            OfferHandlers(service, signed),
            WhipHandlers(service, signed),
            PieceHandlers(restoring or FakeRestoring({})),
            HealthHandlers(service, version="1", placement=placement, nodes=nodes),
            SignInHandlers(access),
            *more,
        ],
        nodes,
        host=host,
        port=0,
        access=access,
        callers=Callers(trusted_proxies),
        refusals=Refusals(events or EventDispatcher(())),
        limits=limits or ConnectionLimits(),
        tls=tls,
        hsts=hsts,
        placement=placement,
    )
