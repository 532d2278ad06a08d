"""Finds out who sends a request: which address it comes from."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from aiohttp import hdrs, web

from adapters.http.nodes import is_from_node
from adapters.http.routes import Handler
from domain.errors import SettingInvalid
from domain.session.addresses import usual_address
from domain.session.caller import Caller

CALLER = web.RequestKey("caller", Caller)
_MAX_CHARACTERS = 500
"""Of the header; a chain of a dozen proxies is shorter."""
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Callers:
    """Notes the caller of each request, as `CALLER`.

    A reverse proxy sends requests of many clients from one address, and says in the header
    ``X-Forwarded-For`` whose they are. It is believed if the request comes from one of the
    `trusted` addresses or networks, and from other nodes of this server.
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

    def is_trusted(self, address: str) -> bool:
        """Return whether an address is one of a reverse proxy; it has to be an IP address."""
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._trusted)


def caller_of(request: web.Request) -> Caller:
    return request[CALLER]


def _hops(lines: Iterable[str]) -> list[str]:
    text = ",".join(lines)
    return text.split(",") if text and len(text) <= _MAX_CHARACTERS else []
