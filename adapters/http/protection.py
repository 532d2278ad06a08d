"""Headers that protect whoever uses a server with a browser, on every answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping

from aiohttp import hdrs, web

HSTS = "Strict-Transport-Security"
HSTS_S = 63_072_000
"""Two years, as in Mozilla's profiles."""
_DEFAULTS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # nothing that is answered is a page; one that is says what it needs
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # for requests without CORS: pages that use CORS are allowed by their origin
    "Cross-Origin-Resource-Policy": "same-origin",
    # answers have secrets of sessions, and credentials of TURN servers
    hdrs.CACHE_CONTROL: "no-store",
}


def protect(headers: MutableMapping[str, str], *, hsts: bool = False) -> None:
    """Add what an answer lacks of the headers; remove the one that names the software."""
    for name, value in _DEFAULTS.items():
        headers.setdefault(name, value)
    if hsts:
        headers[HSTS] = f"max-age={HSTS_S}"
    if hdrs.SERVER in headers:
        del headers[hdrs.SERVER]


def protecting(*, hsts: bool) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Make the signal handler (`on_response_prepare`) that protects an application's answers."""

    async def protect_answer(_request: web.Request, response: web.StreamResponse) -> None:
        protect(response.headers, hsts=hsts)

    return protect_answer
