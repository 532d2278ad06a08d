"""The JSON requests: ``/offer``, ``/ice-candidate``, ``/sessions/{id}``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from adapters.http import headers
from adapters.http.access import grant_of
from adapters.http.bodies import JSON, peek_json, read_json
from adapters.http.callers import caller_of
from adapters.http.restore_json import read_spool
from adapters.http.routes import SECRET, Route, key_in_path, key_of_secret
from domain.errors import CandidateRejected, OfferRejected, SessionUnknown, Unauthorized
from domain.ports.placement import KnownSession, NewOffer, SessionKey
from domain.recording.restoring import SpoolInfo
from domain.services.server.sessions import SessionService
from domain.services.server.tokens import TokenService
from domain.session.caller import SESSION_SECRET
from domain.session.grants import Grant
from domain.session.ice import IceCandidate, IceServer
from domain.session.roles import Role
from domain.session.rooms import read_room

MAX_NAME_CHARACTERS = 200
_NOT_OPENED = "the bearer token is not the secret of this session, or the session is over"
MAX_CANDIDATE_CHARACTERS = 1000


class OfferHandlers:
    """Translates between JSON and the sessions."""

    def __init__(self, service: SessionService, tokens: TokenService) -> None:
        self._service = service
        self._tokens = tokens

    def routes(self) -> Sequence[Route]:
        return [
            Route("POST", "/offer", self._offer, Role.PUBLISH, JSON, _key_of_offer, resumes=True),
            Route(
                "POST", "/ice-candidate", self._ice_candidate, Role.ADMIN, JSON,
                _key_of_candidate, allows_secret=True,
            ),
            Route(
                "DELETE", "/sessions/{id}", self._delete, Role.ADMIN,
                session_key=key_in_path, allows_secret=True,
            ),
        ]  # fmt: skip

    async def _offer(self, request: web.Request) -> web.StreamResponse:
        body = await read_json(request)
        sdp, kind = body.get("sdp"), body.get("type")
        name, resume = body.get("name") or "", body.get("resume") or None
        if not isinstance(sdp, str) or kind != "offer":
            raise OfferRejected('an offer is {"sdp": "…", "type": "offer"}')
        if not isinstance(resume, str | None):
            raise OfferRejected("resume has to be text")
        grant, name, room = granted(
            request, name=check_name(name), room=check_room(body.get("room"))
        )
        spool = _spool_in(body)
        # a session that exists opens by its own secret: with it, a token that was used, or has
        # expired since, may still resume it
        async with self._tokens.opening(grant if resume is None else None, sdp):
            accepted = await self._service.offer(
                sdp, name=name, room=room, resume=resume, spool=spool, caller=caller_of(request)
            )
        return web.json_response(
            {
                "sdp": accepted.answer_sdp,
                "type": "answer",
                "id": accepted.session_id,
                "resume": accepted.resume,
                "iceServers": [_ice_server_json(server) for server in accepted.ice_servers],
            }
        )

    async def _ice_candidate(self, request: web.Request) -> web.StreamResponse:
        opened = self._session_opened_by(request)
        body = await read_json(request)
        session_id, candidate = body.get("id"), body.get("candidate")
        mid, index = body.get("sdpMid"), body.get("sdpMLineIndex")
        username = body.get("usernameFragment")
        if (
            not isinstance(session_id, str)
            or not isinstance(candidate, str | None)
            or not isinstance(mid, str | None)
            or not isinstance(index, int | None)
            or not isinstance(username, str | None)
        ):
            raise CandidateRejected(
                'a candidate is {"id": "…", "candidate": "…", "sdpMid": "…", "sdpMLineIndex": n}'
            )
        if len(candidate or "") > MAX_CANDIDATE_CHARACTERS:
            raise CandidateRejected(
                f"a candidate has at most {MAX_CANDIDATE_CHARACTERS} characters"
            )
        _check_opened(opened, session_id)
        self._service.add_candidate(session_id, IceCandidate(candidate, mid, index, username))
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        session_id = request.match_info["id"]
        _check_opened(self._session_opened_by(request), session_id)
        caller = caller_of(request)
        if SECRET in request:
            caller = replace(caller, token=SESSION_SECRET)
        seconds = await self._service.delete(session_id, caller=caller)
        return web.Response(status=204, headers={headers.SECONDS: f"{seconds:.6f}"})

    def _session_opened_by(self, request: web.Request) -> str | None:
        """Return the id of the session whose secret a request has; None if it needs no secret.

        Raises `Unauthorized` if the bearer token is not the secret of any session.
        """
        secret = request.get(SECRET)
        if secret is None:
            return None
        try:
            return self._service.session_of(secret)
        except SessionUnknown as error:
            raise Unauthorized(_NOT_OPENED) from error


def _check_opened(opened: str | None, session_id: str) -> None:
    """Raise `Unauthorized` if a secret opens another session than the one to be changed."""
    if opened is not None and opened != session_id:
        raise Unauthorized(_NOT_OPENED)


async def _key_of_offer(request: web.Request) -> SessionKey | None:
    body = await peek_json(request)
    resume, sdp = body.get("resume"), body.get("sdp")
    if isinstance(resume, str) and resume:
        return key_of_secret(resume)
    return NewOffer(sdp) if isinstance(sdp, str) else None


async def _key_of_candidate(request: web.Request) -> SessionKey | None:
    if SECRET in request:  # a stranger's body is not read
        return key_of_secret(request[SECRET])
    session_id = (await peek_json(request)).get("id")
    return KnownSession(session_id) if isinstance(session_id, str) else None


def _spool_in(body: dict[str, Any]) -> SpoolInfo | None:
    if body.get("spool") is None:
        return None
    try:
        return read_spool(body["spool"])
    except ValueError as error:
        raise OfferRejected(str(error)) from error


def check_name(name: Any) -> str:
    """Check the name that a client gives its recording; raises `OfferRejected` if it is invalid."""
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS:
        raise OfferRejected(f"name has to be text of at most {MAX_NAME_CHARACTERS} characters")
    return name


def check_room(room: Any) -> str:
    """Check the room that a client names; raises `OfferRejected` if it is invalid."""
    try:
        return read_room(room)
    except ValueError as error:
        raise OfferRejected(str(error)) from error


def granted(request: web.Request, *, name: str, room: str) -> tuple[Grant | None, str, str]:
    """Return what a request's token allows, and its session's name and room by that.

    Raises `NotAllowed` if the token is for another name or room.
    """
    grant = grant_of(request)
    if grant is None:
        return None, name, room
    return grant, grant.name_for(name), grant.room_for(room)


def _ice_server_json(server: IceServer) -> dict[str, str]:
    """Write an RTCIceServer."""
    entry = {"urls": server.url}
    if server.username and server.credential:
        entry |= {"username": server.username, "credential": server.credential}
    return entry
