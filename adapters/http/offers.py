"""The JSON door: ``/offer``, ``/ice-candidate``, ``/sessions/{id}``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from adapters.http import headers
from adapters.http.bodies import JSON, peek_json, read_json
from adapters.http.routes import Route
from domain.errors import CandidateRejected, OfferRejected
from domain.ports.placement import KnownSession, NewOffer, SessionKey
from domain.services.server.sessions import SessionService
from domain.session.ice import IceCandidate, IceServer
from domain.session.roles import Role

MAX_NAME_CHARACTERS = 200


class OfferDoor:
    """Translates between JSON and the sessions."""

    def __init__(self, service: SessionService) -> None:
        self._service = service

    def routes(self) -> Sequence[Route]:
        publish = Role.PUBLISH
        return [
            Route("POST", "/offer", self._offer, publish, JSON, _key_of_offer),
            Route("POST", "/ice-candidate", self._ice_candidate, publish, JSON, _key_of_candidate),
            Route("DELETE", "/sessions/{id}", self._delete, publish, session_key=_key_in_path),
        ]

    async def _offer(self, request: web.Request) -> web.StreamResponse:
        body = await read_json(request)
        sdp, kind = body.get("sdp"), body.get("type")
        name, resume = body.get("name") or "", body.get("resume") or None
        if not isinstance(sdp, str) or kind != "offer":
            raise OfferRejected('an offer is {"sdp": "…", "type": "offer"}')
        if not isinstance(resume, str | None):
            raise OfferRejected("resume has to be text")
        accepted = await self._service.offer(sdp, name=check_name(name), resume=resume)
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
        self._service.add_candidate(session_id, IceCandidate(candidate, mid, index, username))
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        seconds = await self._service.delete(request.match_info["id"])
        return web.Response(status=204, headers={headers.SECONDS: f"{seconds:.6f}"})


async def _key_of_offer(request: web.Request) -> SessionKey | None:
    body = await peek_json(request)
    resume, sdp = body.get("resume"), body.get("sdp")
    if isinstance(resume, str) and resume:
        return KnownSession(resume)
    return NewOffer(sdp) if isinstance(sdp, str) else None


async def _key_of_candidate(request: web.Request) -> SessionKey | None:
    session_id = (await peek_json(request)).get("id")
    return KnownSession(session_id) if isinstance(session_id, str) else None


async def _key_in_path(request: web.Request) -> SessionKey | None:
    return KnownSession(request.match_info["id"])


def check_name(name: Any) -> str:
    """Check the name that a client gives its recording; raises `OfferRejected` if it is invalid."""
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS:
        raise OfferRejected(f"name has to be text of at most {MAX_NAME_CHARACTERS} characters")
    return name


def _ice_server_json(server: IceServer) -> dict[str, str]:
    """Write an RTCIceServer."""
    entry = {"urls": server.url}
    if server.username and server.credential:
        entry |= {"username": server.username, "credential": server.credential}
    return entry
