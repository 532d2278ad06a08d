"""Signaling over HTTP, the server's side: offers, candidates, sessions, health."""

from __future__ import annotations

import asyncio
import errno
import hmac
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from aiohttp import web

from domain.errors import (
    CandidateRejected,
    OfferRejected,
    PeerError,
    PortInUse,
    SessionUnknown,
    SettingInvalid,
    Unauthorized,
)
from domain.ports.transport import IceCandidate
from domain.settings import IceServer, is_loopback

_log = logging.getLogger("gapless")

MAX_BODY_BYTES = 256 * 1024
MAX_NAME_CHARACTERS = 200
BODY_S = 10.0
"""A request whose body is not there by then is given up: aiohttp itself would wait for ever."""
KEEP_ALIVE_S = 30.0

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Accepted(Protocol):
    @property
    def session_id(self) -> str: ...
    @property
    def resume(self) -> str: ...
    @property
    def answer_sdp(self) -> str: ...


class SessionService(Protocol):
    """What the requests are for."""

    @property
    def session_count(self) -> int: ...
    async def offer(self, sdp: str, *, name: str) -> _Accepted: ...
    def add_candidate(self, session_id: str, candidate: IceCandidate) -> None: ...
    async def delete(self, session_id: str) -> None: ...


class SignalingServer:
    """Listens, translates requests into calls and errors into statuses; decides nothing."""

    def __init__(
        self,
        service: SessionService,
        *,
        host: str,
        port: int,
        token: str | None,
        tls_cert: str | None,
        tls_key: str | None,
        ice_servers: Sequence[IceServer],
        version: str,
    ) -> None:
        self._service = service
        self._host = host
        self._port = port
        self._token = token
        self._tls = _tls_context(tls_cert, tls_key) if tls_cert and tls_key else None
        self._ice_servers = [_ice_server_json(server) for server in ice_servers]
        self._version = version
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen, and return the address to call. Raises `PortInUse` or `SettingInvalid`."""
        app = web.Application(
            middlewares=[self._answer_errors, self._authorize], client_max_size=MAX_BODY_BYTES
        )
        app.router.add_post("/offer", self._offer)
        app.router.add_post("/ice-candidate", self._ice_candidate)
        app.router.add_delete("/sessions/{id}", self._delete)
        app.router.add_get("/health", self._health)
        self._runner = web.AppRunner(
            app, keepalive_timeout=KEEP_ALIVE_S, access_log=None, shutdown_timeout=1.0
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(
                    f"{self._host}:{self._port} is in use by another program"
                ) from error
            raise SettingInvalid("host", f"cannot listen on {self._host}:{self._port}: "
                                 f"{error.strerror}") from error  # fmt: skip
        port = self._runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{port}"

    async def stop(self) -> None:
        """Stop listening; requests under way get a second to end."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # -- requests ------------------------------------------------------------------------------

    async def _offer(self, request: web.Request) -> web.StreamResponse:
        body = await _json_body(request)
        sdp, kind, name = body.get("sdp"), body.get("type"), body.get("name") or ""
        if not isinstance(sdp, str) or kind != "offer":
            raise OfferRejected('an offer is {"sdp": "…", "type": "offer"}')
        if not isinstance(name, str) or len(name) > MAX_NAME_CHARACTERS:
            raise OfferRejected(f"name is no text of at most {MAX_NAME_CHARACTERS} characters")
        if body.get("resume"):
            raise SessionUnknown("the session to resume is over")
        accepted = await self._service.offer(sdp, name=name)
        return web.json_response(
            {
                "sdp": accepted.answer_sdp,
                "type": "answer",
                "id": accepted.session_id,
                "resume": accepted.resume,
                "iceServers": self._ice_servers,
            }
        )

    async def _ice_candidate(self, request: web.Request) -> web.StreamResponse:
        body = await _json_body(request)
        session_id, candidate = body.get("id"), body.get("candidate")
        mid, index = body.get("sdpMid"), body.get("sdpMLineIndex")
        if (
            not isinstance(session_id, str)
            or not isinstance(candidate, str | None)
            or not isinstance(mid, str | None)
            or not isinstance(index, int | None)
        ):
            raise CandidateRejected(
                'a candidate is {"id": "…", "candidate": "…", "sdpMid": "…", "sdpMLineIndex": n}'
            )
        self._service.add_candidate(session_id, IceCandidate(candidate, mid, index))
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        await self._service.delete(request.match_info["id"])
        return web.Response(status=204)

    async def _health(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(
            {"status": "ok", "version": self._version, "sessions": self._service.session_count}
        )

    # -- around every request ------------------------------------------------------------------

    @web.middleware
    async def _answer_errors(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except PeerError as error:
            headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else None
            return _error(error.status, str(error), headers)
        except web.HTTPException as error:
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
            return _error(error.status, error.text or error.reason, allow)
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            return _error(500, "there is a fault in the server; its log has more")

    @web.middleware
    async def _authorize(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if self._token is None and is_loopback(self._host):
            # a name that somebody's DNS points at this machine is how a foreign page gets here
            if not is_loopback(request.url.host or ""):
                raise Unauthorized("without a token this server answers to loopback names only")
        elif self._token is not None and request.path != "/health":
            expected = f"Bearer {self._token}".encode()
            given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(expected, given):
                raise Unauthorized("a bearer token is needed, and this is not the one")
        return await handler(request)


def _error(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": text}, status=status, headers=headers)


async def _json_body(request: web.Request) -> dict[str, Any]:
    # only JSON, which a foreign web page cannot send without asking the server first (CORS)
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="the body has to be application/json")
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.json()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body took longer than {BODY_S:g} s") from None
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text="the body is no JSON") from error
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="the body is no JSON object")
    return body


def _ice_server_json(server: IceServer) -> dict[str, str]:
    """An RTCIceServer."""
    entry = {"urls": server.url}
    if server.username and server.credential:
        entry |= {"username": server.username, "credential": server.credential}
    return entry


def _tls_context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        reason = error.strerror or str(error)
        raise SettingInvalid(
            "tls_cert", f"cannot use {certificate} with {key}: {reason}"
        ) from error
    return context
