"""What every request has around it: errors, authorization, CORS, bodies with limits."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from adapters.http.errors import Handler
from domain.errors import Unauthorized
from domain.session.addresses import is_loopback

MAX_BODY_BYTES = 256 * 1024
BODY_S = 10.0
"""A request whose body is not there by then is given up: aiohttp itself would wait for ever."""
_ALLOWED_HEADERS = "Authorization, Content-Type, If-Match"
_EXPOSED_HEADERS = "Accept-Patch, ETag, Gapless-Seconds, Link, Location, Retry-After"
_PREFLIGHT_AGE_S = 600


def authorize(*, token: str | None, host: str) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Who may ask: whoever shows the token; without one, programs on this machine."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token is None and is_loopback(host):
            # a name that somebody's DNS points at this machine is how a foreign page gets here
            if not is_loopback(_host(request)):
                raise Unauthorized("without a token this server answers to loopback names only")
        elif token is not None and request.path != "/health" and request.method != "OPTIONS":
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            right = hmac.compare_digest(
                token.encode(), given.strip().encode("utf-8", "surrogateescape")
            )
            if scheme.lower() != "bearer" or not right:
                raise Unauthorized("a bearer token is needed, and this is not the one")
        return await handler(request)

    return check


def allow_pages(*, everywhere: bool) -> Callable[..., Awaitable[web.StreamResponse]]:
    """CORS: which web pages may use this server from a browser.

    With a token any may (they have to know it), and where anyone is allowed; otherwise pages of
    this machine. Preflights are answered here (https://fetch.spec.whatwg.org/#cors-protocol).
    """

    @web.middleware
    async def allow(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        allowed = origin is not None and (everywhere or _is_local(origin))
        response = await handler(request)
        if origin is not None:
            response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        if allowed:
            assert origin is not None
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED_HEADERS
            if request.method == "OPTIONS" and hdrs.ALLOW in response.headers:
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = response.headers[hdrs.ALLOW]
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _ALLOWED_HEADERS
                response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(_PREFLIGHT_AGE_S)
        return response

    return allow


def options(methods: str, **headers: str) -> Handler:
    """What a resource answers to OPTIONS: which methods it has."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=200, headers={hdrs.ALLOW: f"{methods}, OPTIONS", **extra})

    return answer


async def read_text(request: web.Request, content_type: str) -> str:
    """The body, which has to be of that type and to come in time."""
    # a foreign web page cannot send these types without asking the server first (CORS)
    if request.content_type != content_type:
        headers = {"Accept-Patch" if request.method == "PATCH" else "Accept-Post": content_type}
        raise web.HTTPUnsupportedMediaType(
            text=f"the body has to be {content_type}", headers=headers
        )
    await read_body(request)
    try:
        text = await request.text()
        text.encode()  # what no UTF-8 can say would be a fault somewhere else
    except (ValueError, LookupError) as error:
        raise web.HTTPBadRequest(text="the body is no text") from error
    return text


async def read_body(request: web.Request) -> bytes:
    """The body, which has to come in time; it may be read again."""
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body took longer than {BODY_S:g} s") from None
    except (ValueError, web.RequestPayloadError, ConnectionError) as error:
        raise web.HTTPBadRequest(text="the body is no text") from error


def _host(request: web.Request) -> str:
    try:
        return request.url.host or ""
    except ValueError:
        return ""


def _is_local(origin: str) -> bool:
    try:
        return is_loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False
