"""Finds out who sends a request: which address it comes from."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from aiohttp import hdrs, web

from adapters.http.nodes import is_from_node
from adapters.http.routes import Handler
from domain.errors import QueryInvalid, SettingInvalid
from domain.session.addresses import usual_address
from domain.session.caller import Caller

CALLER = web.RequestKey("caller", Caller)
PUBLIC_URL = web.RequestKey("public_url", str)
_MAX_CHARACTERS = 500
"""Of the header; a chain of a dozen proxies is shorter."""
_HOST = re.compile(r"([a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?", re.IGNORECASE)
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Callers:
    """Notes the caller of each request, as `CALLER`, and at which URL it has found the server.

    A reverse proxy sends requests of many clients from one address, and says in the header
    ``X-Forwarded-For`` whose they are, and in ``X-Forwarded-Proto`` and ``X-Forwarded-Host`` to
    which URL they were sent. It is believed if the request comes from one of the `trusted`
    addresses or networks; as to whose they are, also if it comes from other nodes of this server.
    """

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        """Raises `SettingInvalid`."""
        try:
            self._trusted = [ipaddress.ip_network(item, strict=False) for item in trusted]
        except ValueError as error:
            raise SettingInvalid("trusted_proxies", str(error)) from error

    @web.middleware
    async def identify(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request[CALLER] = Caller(self._address_of(request))
        request[PUBLIC_URL] = self._url_of(request)
        return await handler(request)

    def _address_of(self, request: web.Request) -> str:
        """Return the address of the last hop that is not trusted; the proxies add theirs."""
        address = "" if is_from_node(request) else usual_address(request.remote or "")
        for hop in reversed(_hops(request.headers.getall(hdrs.X_FORWARDED_FOR, ()))):
            if address and not self.is_trusted(address):
                break
            address = usual_address(hop)
            if not address:  # what comes before it cannot be trusted either
                break
        return address

    def _url_of(self, request: web.Request) -> str:
        """Return the URL at which a client reaches this server; empty if its host is no host."""
        scheme, host = request.scheme, request.host
        peer = usual_address(request.remote or "")
        if peer and self.is_trusted(peer):
            scheme = _first(request, hdrs.X_FORWARDED_PROTO).lower() or scheme
            host = _first(request, hdrs.X_FORWARDED_HOST) or host
        is_url = scheme in ("http", "https") and _HOST.fullmatch(host)
        return f"{scheme}://{host}" if is_url else ""

    def is_trusted(self, address: str) -> bool:
        """Return whether an address is one of a reverse proxy; it has to be an IP address."""
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._trusted)


def caller_of(request: web.Request) -> Caller:
    return request[CALLER]


def public_url_of(request: web.Request) -> str:
    """Return the URL at which the client has found this server. Raises `QueryInvalid`."""
    url = request[PUBLIC_URL]
    if not url:
        raise QueryInvalid("the host of the request is not the name or address of a server")
    return url


def _first(request: web.Request, name: str) -> str:
    """Return the value of a proxy's header that the outermost proxy has set."""
    return request.headers.get(name, "")[:_MAX_CHARACTERS].partition(",")[0].strip()


def _hops(lines: Iterable[str]) -> list[str]:
    text = ",".join(lines)
    return text.split(",") if text and len(text) <= _MAX_CHARACTERS else []
