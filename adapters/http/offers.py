"""The JSON door: ``/offer``, ``/ice-candidate``, ``/sessions/{id}``, ``/health``."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from adapters.http import headers
from adapters.http.requests import options, read_text
from adapters.http.service import SessionService
from domain.errors import CandidateRejected, OfferRejected
from domain.session.ice import IceCandidate, IceServer

MAX_NAME_CHARACTERS = 200


class OfferDoor:
    """Translates between JSON and the service; decides nothing."""

    def __init__(self, service: SessionService, *, version: str) -> None:
        self._service = service
        self._version = version

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/offer", self._offer)
        router.add_options("/offer", options("POST"))
        router.add_post("/ice-candidate", self._ice_candidate)
        router.add_options("/ice-candidate", options("POST"))
        router.add_delete("/sessions/{id}", self._delete)
        router.add_options("/sessions/{id}", options("DELETE"))
        router.add_get("/health", self._health)
        router.add_options("/health", options("GET, HEAD"))

    async def _offer(self, request: web.Request) -> web.StreamResponse:
        body = await _json_body(request)
        sdp, kind = body.get("sdp"), body.get("type")
        name, resume = body.get("name") or "", body.get("resume") or None
        if not isinstance(sdp, str) or kind != "offer":
            raise OfferRejected('an offer is {"sdp": "…", "type": "offer"}')
        if not isinstance(resume, str | None):
            raise OfferRejected("resume is no text")
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
        body = await _json_body(request)
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

    async def _health(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(
            {
                "status": "ok",
                "version": self._version,
                "sessions": self._service.session_count,
                "states": self._service.states(),
            }
        )


def check_name(name: Any) -> str:
    """What a client calls its recording; raises `OfferRejected`."""
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS:
        raise OfferRejected(f"name is no text of at most {MAX_NAME_CHARACTERS} characters")
    return name


async def _json_body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await read_text(request, "application/json"))
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text="the body is no JSON") from error
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="the body is no JSON object")
    if any(isinstance(value, str) and not _is_unicode(value) for value in body.values()):
        raise web.HTTPBadRequest(text="the body has text that is none")
    return body


def _is_unicode(text: str) -> bool:
    """JSON can write half a surrogate pair, which is no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _ice_server_json(server: IceServer) -> dict[str, str]:
    """An RTCIceServer."""
    entry = {"urls": server.url}
    if server.username and server.credential:
        entry |= {"username": server.username, "credential": server.credential}
    return entry
