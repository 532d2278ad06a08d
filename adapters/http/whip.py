"""The WHIP door (RFC 9725): for every standard publisher. The numbers after § are its sections."""

from __future__ import annotations

from aiohttp import hdrs, web

from adapters.http import sdpfrag
from adapters.http.offers import check_name
from adapters.http.requests import options, read_text
from adapters.http.service import SessionService
from domain.errors import CandidateRejected
from domain.ports.signaling import ServerConnection
from domain.session.ice import IceCandidate, IceServer

SDP = "application/sdp"


class WhipDoor:
    """Translates between WHIP and the service.

    The WHIP session's address holds the secret of our session: who has it may change and end it,
    and it says nothing to anybody else (§ 5).
    """

    def __init__(self, service: SessionService) -> None:
        self._service = service

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_post("/whip", self._publish)
        router.add_get("/whip", _nothing)
        router.add_options("/whip", options("GET, HEAD, POST", Accept_Post=SDP))
        router.add_patch("/whip/{secret}", self._patch)
        router.add_delete("/whip/{secret}", self._delete)
        router.add_get("/whip/{secret}", self._look)
        router.add_options(
            "/whip/{secret}",
            options("DELETE, GET, HEAD, PATCH", Accept_Patch=sdpfrag.CONTENT_TYPE),
        )

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        """§ 4.2; a name for the recording may stand behind the address as ``?name=``."""
        offer = await read_text(request, SDP)
        accepted = await self._service.offer(offer, name=check_name(request.query.get("name", "")))
        response = _text(201, accepted.answer_sdp, SDP)
        response.headers[hdrs.LOCATION] = f"/whip/{accepted.resume}"
        response.headers[hdrs.ETAG] = _etag(accepted.ice_tag)
        response.headers["Accept-Patch"] = sdpfrag.CONTENT_TYPE
        for server in accepted.ice_servers:
            response.headers.add(hdrs.LINK, _link(server))
        return response

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        """Trickle ICE (§ 4.3.2) or an ICE restart (§ 4.3.3): the credentials tell which it is."""
        secret = request.match_info["secret"]
        connection = self._service.connection_of(secret)
        text = await read_text(request, sdpfrag.CONTENT_TYPE)
        _check_precondition(request, connection)
        fragment = sdpfrag.parse_fragment(text)
        ice, known = fragment.ice, connection.remote_ice
        if (ice.username, ice.password) == (known.username, known.password):
            for candidate in ice.candidates:
                connection.add_candidate(IceCandidate(candidate, username=ice.username))
            if ice.complete:
                connection.add_candidate(IceCandidate(None, username=ice.username))
            return web.Response(status=204)
        if ice.username == known.username or ice.password == known.password:
            raise CandidateRejected("an ICE restart changes ice-ufrag and ice-pwd both")
        answer = await self._service.restart_ice(secret, ice)
        body = sdpfrag.write_fragment(sdpfrag.Fragment(answer, fragment.mid))
        response = _text(200, body, sdpfrag.CONTENT_TYPE)
        response.headers[hdrs.ETAG] = _etag(answer.username)
        return response

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        await self._service.delete(self._service.session_of(request.match_info["secret"]))
        return web.Response(status=200)

    async def _look(self, request: web.Request) -> web.StreamResponse:
        self._service.session_of(request.match_info["secret"])
        return await _nothing(request)


async def _nothing(_request: web.Request) -> web.StreamResponse:
    """There is nothing to be seen here (§ 4.1)."""
    return web.Response(status=204)


def _text(status: int, text: str, content_type: str) -> web.Response:
    """Without a charset, which these types do not have."""
    headers = {hdrs.CONTENT_TYPE: content_type}
    return web.Response(status=status, body=text.encode(), headers=headers)


def _etag(ice_tag: str) -> str:
    """A strong entity-tag that names the ICE session (§ 4.3.1)."""
    return f'"{ice_tag}"'


def _check_precondition(request: web.Request, connection: ServerConnection) -> None:
    given = request.headers.getall(hdrs.IF_MATCH, [])
    if not given:
        raise web.HTTPPreconditionRequired(text="If-Match has to name the ICE session, or be *")
    tags = {tag.strip() for line in given for tag in line.split(",")}
    # the RFC's own example puts the star in quotes; no tag of ours is one
    if not tags & {"*", '"*"', _etag(connection.ice_tag)}:
        raise web.HTTPPreconditionFailed(text="the ICE session is another one by now")


def _link(server: IceServer) -> str:
    """A STUN or TURN server for the publisher (§ 4.6)."""
    link = f'<{server.url}>; rel="ice-server"'
    if server.username and server.credential:
        link += f"; username={_quoted(server.username)}; credential={_quoted(server.credential)}"
    return link


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
