"""WHIP, for standard publishers. The numbers after § are sections of RFC 9725."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import hdrs, web

from adapters.http import headers, sdpfrag
from adapters.http.bodies import is_unicode, parse_json, read_body, read_text
from adapters.http.callers import caller_of
from adapters.http.offers import check_name, check_room, granted
from adapters.http.restore_json import read_spool
from adapters.http.routes import Route, key_of_secret
from domain.errors import CandidateRejected, OfferRejected
from domain.ports.placement import NewOffer, SessionKey
from domain.ports.signaling import ServerConnection
from domain.recording.restoring import SpoolInfo
from domain.services.server.sessions import SessionService
from domain.services.server.tokens import TokenService
from domain.session.ice import IceCandidate, IceServer
from domain.session.roles import Role

SDP = "application/sdp"


class WhipHandlers:
    """Translates between WHIP and the sessions.

    The path of a WHIP session contains the session's secret, so that others cannot guess it (§ 5).
    """

    def __init__(self, service: SessionService, tokens: TokenService) -> None:
        self._service = service
        self._tokens = tokens

    def routes(self) -> Sequence[Route]:
        publish = Role.PUBLISH
        session = "/whip/{secret}"
        return [
            Route("POST", "/whip", self._publish, publish, SDP, _key_of_offer, resumes=True),
            Route("GET", "/whip", _no_content, publish),
            Route(
                "PATCH", session, self._patch, publish, sdpfrag.CONTENT_TYPE, _key_in_path,
                resumes=True,
            ),
            Route(
                "DELETE", session, self._delete, publish, session_key=_key_in_path, resumes=True
            ),
            Route("GET", session, self._get, publish, session_key=_key_in_path, resumes=True),
        ]  # fmt: skip

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        """Open a session (§ 4.2); ``?name=&room=`` may name the recording and its room.

        Headers of Gapless' own say where the publisher keeps what it captures, and let it go on
        with a session over a new connection.
        """
        offer = await read_text(request, SDP)
        spool, resume = _spool_in(request), _header(request, headers.RESUME)
        name = check_name(request.query.get("name", ""))
        room = check_room(request.query.get("room"))
        grant, name, room = granted(request, name=name, room=room)
        # as at /offer: a session that exists opens by its own secret
        async with self._tokens.opening(grant if resume is None else None, offer):
            accepted = await self._service.offer(
                offer, name=name, room=room, resume=resume, spool=spool, caller=caller_of(request)
            )
        response = _text(201, accepted.answer_sdp, SDP)
        response.headers[hdrs.LOCATION] = f"/whip/{accepted.resume}"
        response.headers[hdrs.ETAG] = _etag(accepted.ice_tag)
        response.headers[headers.SESSION] = accepted.session_id
        response.headers["Accept-Patch"] = sdpfrag.CONTENT_TYPE
        for server in accepted.ice_servers:
            response.headers.add(hdrs.LINK, _link(server))
        return response

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        """Add candidates (§ 4.3.2), or restart ICE if the credentials are new (§ 4.3.3)."""
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
            raise CandidateRejected("an ICE restart has to change both ice-ufrag and ice-pwd")
        answer = await self._service.restart_ice(secret, ice)
        body = sdpfrag.write_fragment(sdpfrag.Fragment(answer, fragment.mid))
        response = _text(200, body, sdpfrag.CONTENT_TYPE)
        response.headers[hdrs.ETAG] = _etag(answer.username)
        return response

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        session_id = self._service.session_of(request.match_info["secret"])
        await self._service.delete(session_id, caller=caller_of(request))
        return web.Response(status=200)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self._service.session_of(request.match_info["secret"])
        return await _no_content(request)


async def _key_of_offer(request: web.Request) -> SessionKey | None:
    if resume := request.headers.get(headers.RESUME):
        return key_of_secret(resume)
    return NewOffer((await read_body(request)).decode(errors="replace"))


def _header(request: web.Request, name: str) -> str | None:
    """Return a header that may be there once; None without it. Raises `OfferRejected`."""
    found = request.headers.getall(name, [])
    if len(found) > 1:
        raise OfferRejected(f"{name} may be there once")
    if not found or not found[0]:
        return None
    if not is_unicode(found[0]):
        raise OfferRejected(f"{name} has text that is not Unicode")
    return found[0]


def _spool_in(request: web.Request) -> SpoolInfo | None:
    """Return what an offer says of the publisher's spool. Raises `OfferRejected`."""
    text = _header(request, headers.SPOOL)
    if text is None:
        return None
    try:
        value = parse_json(text)
    except ValueError as error:
        raise OfferRejected(f"{headers.SPOOL} is not JSON") from error
    try:
        return read_spool(value)
    except ValueError as error:
        raise OfferRejected(f"{headers.SPOOL}: {error}") from error


async def _key_in_path(request: web.Request) -> SessionKey | None:
    return key_of_secret(request.match_info["secret"])


async def _no_content(_request: web.Request) -> web.StreamResponse:
    """Answer GET with success and no content (§ 4.1)."""
    return web.Response(status=204)


def _text(status: int, text: str, content_type: str) -> web.Response:
    """Make a response without a charset parameter, which these media types do not have."""
    kind = {hdrs.CONTENT_TYPE: content_type}
    return web.Response(status=status, body=text.encode(), headers=kind)


def _etag(ice_tag: str) -> str:
    """Write the strong entity-tag of an ICE session (§ 4.3.1)."""
    return f'"{ice_tag}"'


def _check_precondition(request: web.Request, connection: ServerConnection) -> None:
    given = request.headers.getall(hdrs.IF_MATCH, [])
    if not given:
        raise web.HTTPPreconditionRequired(text="If-Match has to name the ICE session, or be *")
    tags = {tag.strip() for line in given for tag in line.split(",")}
    # RFC 9725's example has the star in quotes; no entity-tag of ours is a star
    if not tags & {"*", '"*"', _etag(connection.ice_tag)}:
        raise web.HTTPPreconditionFailed(
            text="ICE has been restarted since then: the tag is outdated"
        )


def _link(server: IceServer) -> str:
    """Write the Link header of a STUN or TURN server (§ 4.6)."""
    link = f'<{server.url}>; rel="ice-server"'
    if server.username and server.credential:
        link += f"; username={_quoted(server.username)}; credential={_quoted(server.credential)}"
    return link


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
