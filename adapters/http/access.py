"""Decides who may do what; no other module does."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Set
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from adapters.http.routes import Handler, route_of
from domain.errors import NotAllowed, Unauthorized
from domain.session.addresses import is_loopback
from domain.session.roles import ALL_ROLES, Role, is_allowed


class Access:
    """Decides which roles a request has, and which web pages may send one.

    If there are tokens, a request has the roles of its bearer token. Otherwise every request has
    all roles. On a loopback address its host name then has to be a loopback name, too.
    """

    def __init__(
        self, *, host: str, tokens: Mapping[str, frozenset[Role]], allow_anyone: bool = False
    ) -> None:
        self._tokens = {token.encode(): roles for token, roles in tokens.items()}
        self._needs_loopback_name = not tokens and is_loopback(host)
        self._allows_all_pages = bool(tokens) or allow_anyone

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass a request on if it has the role that its route needs.

        A path or method that does not exist needs a token, but no role. OPTIONS needs none:
        browsers send no token with a CORS preflight. Raises `Unauthorized` or `NotAllowed`.
        """
        # A foreign page can let its own DNS name point at this machine (DNS rebinding).
        if self._needs_loopback_name and not is_loopback(_host_name(request)):
            raise Unauthorized("without a token this server answers to loopback names only")
        route = route_of(request)
        is_public = request.method == "OPTIONS" or (route is not None and route.role is None)
        if not is_public:
            roles = self.roles_of(request)
            if route is not None and route.role is not None and not is_allowed(roles, route.role):
                raise NotAllowed(f"this token lacks the role {route.role.value!r}")
        return await handler(request)

    def roles_of(self, request: web.Request) -> Set[Role]:
        """Return the roles of the bearer of a request. Raises `Unauthorized`."""
        if not self._tokens:
            return ALL_ROLES
        scheme, _, text = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        given = text.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() == "bearer":
            for token, roles in self._tokens.items():
                if hmac.compare_digest(token, given):
                    return roles
        raise Unauthorized("a bearer token is needed, and this one is wrong")

    def allows_page(self, origin: str) -> bool:
        """Return whether web pages of an origin may use this server from a browser.

        If there are tokens, any page may, since it has to know one. Otherwise only pages of this
        machine may.
        """
        return self._allows_all_pages or _is_loopback_origin(origin)


def _host_name(request: web.Request) -> str:
    try:
        return request.url.host or ""
    except ValueError:
        return ""


def _is_loopback_origin(origin: str) -> bool:
    try:
        return is_loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False
