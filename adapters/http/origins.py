"""Finds out whose page a browser has sent a request from.

A cookie comes with requests from pages of other ports of the same host, and of other names of the
same domain, too: `SameSite` holds back those of other sites only.
"""

from __future__ import annotations

import enum
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from adapters.http.callers import PUBLIC_URL
from adapters.http.websockets import is_websocket
from domain.session.addresses import is_loopback

SEC_FETCH_SITE = "Sec-Fetch-Site"
"""How the page of a request is related to the server. Browsers send it over HTTPS and to loopback
names only; no script can set it (https://www.w3.org/TR/fetch-metadata/)."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods of requests that change nothing."""
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Sender(enum.Enum):
    """Who has sent a request."""

    OWN_PAGE = "a page of this server, or a user who has typed its address"
    OTHER_PAGE = "a page of another origin"
    UNKNOWN = "a program, or a browser that does not tell"


def sender_of(request: web.Request) -> Sender:
    """Find out who has sent a request, as far as its browser tells."""
    site = request.headers.get(SEC_FETCH_SITE)
    if site is not None and not is_websocket(request):
        is_typed = site == "none" and request.method in SAFE_METHODS
        return Sender.OWN_PAGE if site == "same-origin" or is_typed else Sender.OTHER_PAGE
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return Sender.UNKNOWN
    return Sender.OWN_PAGE if is_own_origin(request, origin) else Sender.OTHER_PAGE


def is_own_origin(request: web.Request, origin: str) -> bool:
    """Return whether an origin is the one at which the client has found this server."""
    url = request[PUBLIC_URL]
    return bool(url) and _without_default_port(origin) == _without_default_port(url)


def is_loopback_origin(origin: str) -> bool:
    """Return whether an origin is of the machine on which its browser runs."""
    try:
        return is_loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False


def _without_default_port(origin: str) -> str:
    origin = origin.lower()
    return origin.removesuffix(_DEFAULT_PORTS.get(origin.partition(":")[0], ""))
