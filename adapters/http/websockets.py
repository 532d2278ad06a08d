"""What all WebSockets of the server have in common (RFC 6455)."""

from __future__ import annotations

from aiohttp import hdrs, web

from adapters.http.bodies import is_unicode

_BEARER = "bearer."
"""Begins the subprotocol that shows a token: a page's script cannot set the header for it."""
MAX_MESSAGE_BYTES = 1024
"""Of what a client sends: the server waits for nothing but the end."""


def is_websocket(request: web.Request) -> bool:
    """Return whether a request asks for a WebSocket."""
    return request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def protocols_offered(request: web.Request) -> list[str]:
    """Return the subprotocols that the client offers, tokens included.

    Like aiohttp, it reads the first line of the header only. aiohttp logs what is offered if it can
    choose none of that: a route has to refuse such a request before, since a token may be in it.
    """
    line = request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "")
    return [item.strip() for item in line.split(",") if item.strip()]


def token_offered(request: web.Request) -> str:
    """Return the token among the subprotocols that are offered; empty if there is none."""
    found = (item for item in protocols_offered(request) if item.startswith(_BEARER))
    token = next(found, "").removeprefix(_BEARER)
    return token if is_unicode(token) else ""
