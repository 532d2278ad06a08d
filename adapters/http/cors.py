"""CORS (https://fetch.spec.whatwg.org/#cors-protocol): web pages that use this server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

_ALLOWED_HEADERS = (
    "Authorization, Content-Digest, Content-Type, Gapless-Resume, Gapless-Spool, If-Match, "
    "If-Range, Last-Event-ID, Range"
)
_EXPOSED_HEADERS = (
    "Accept-Patch, Accept-Ranges, Content-Disposition, Content-Range, ETag, Gapless-Seconds, "
    "Gapless-Session, Link, Location, Retry-After"
)
_PREFLIGHT_AGE_S = 600


def allowing_pages(
    is_allowed: Callable[[str], bool],
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Make the signal handler (`on_response_prepare`) that tells browsers which pages are allowed.

    `is_allowed` decides by a page's origin. A middleware would come too late for answers that are
    sent while they are made: their headers are gone when it gets them.
    """

    async def allow(request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            return
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        if is_allowed(origin):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED_HEADERS
            if request.method == "OPTIONS" and hdrs.ALLOW in response.headers:
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = response.headers[hdrs.ALLOW]
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _ALLOWED_HEADERS
                response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(_PREFLIGHT_AGE_S)

    return allow
