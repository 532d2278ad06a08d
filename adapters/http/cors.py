"""CORS (https://fetch.spec.whatwg.org/#cors-protocol): web pages that use this server."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from adapters.http.routes import Handler

_ALLOWED_HEADERS = "Authorization, Content-Digest, Content-Type, If-Match"
_EXPOSED_HEADERS = "Accept-Patch, ETag, Gapless-Seconds, Link, Location, Retry-After"
_PREFLIGHT_AGE_S = 600


def allow_pages(
    is_allowed: Callable[[str], bool],
) -> Middleware:
    """Make a middleware that tells browsers which pages may use this server.

    `is_allowed` decides by a page's origin.
    """

    @web.middleware
    async def allow(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            return response
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        if is_allowed(origin):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED_HEADERS
            if request.method == "OPTIONS" and hdrs.ALLOW in response.headers:
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = response.headers[hdrs.ALLOW]
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _ALLOWED_HEADERS
                response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(_PREFLIGHT_AGE_S)
        return response

    return allow
