"""Decides who may do what; no other module does."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence, Set
from dataclasses import replace
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from adapters.http.bodies import is_unicode
from adapters.http.callers import CALLER, caller_of
from adapters.http.nodes import is_from_node
from adapters.http.routes import SECRET, Handler, Route, route_of
from adapters.http.streams import ended_with_token
from adapters.http.websockets import is_websocket, token_offered
from domain.errors import NotAllowed, Unauthorized
from domain.services.server.tokens import TokenService
from domain.session.addresses import is_loopback
from domain.session.grants import Grant
from domain.session.roles import Role, Token, is_allowed

MAY_KNOW = web.RequestKey("may_know", bool)
GRANT = web.RequestKey("grant", Grant)
"""What the signed token of a request allows, if it has one."""
WRONG = web.RequestKey("wrong", str)
"""A bearer token that is wrong, and cannot be the secret of a session; may be empty."""


class Access:
    """Decides which roles a request has, and which web pages may send one.

    If there are tokens, a request has the roles of its bearer token, which may also be one that was
    signed. Otherwise every request has all roles; what a signed token says of name and room still
    holds. On a loopback address the host name of a request then has to be a loopback name, too.

    The clients of a server share a token, and the ids of sessions are in file names. So a route
    that changes or ends a session wants the secret of that session, or an administrator's token.
    What a client has captured comes from that client alone: those routes want its secret, whether
    there are tokens or not.
    """

    def __init__(
        self,
        *,
        host: str,
        tokens: Sequence[Token],
        signed: TokenService | None = None,
        needs_token: bool = False,
        allow_anyone: bool = False,
        pages: Sequence[str] = (),
    ) -> None:
        """`pages` are the origins of web pages that may use this server; empty for the usual ones.

        `signed` checks signed tokens; `needs_token`: also if there are no other `tokens`.
        """
        self._tokens = [(_digest(token.text), token) for token in tokens]
        self._signed = signed
        self._needs_token = bool(tokens) or needs_token
        self._needs_loopback_name = not self._needs_token and is_loopback(host)
        self._pages = frozenset(pages)
        self._allows_all_pages = self._needs_token or allow_anyone

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Pass a request on if it has the role that its route needs.

        A path or method that does not exist needs a token, but no role. OPTIONS needs none:
        browsers send no token with a CORS preflight. Raises `Unauthorized` or `NotAllowed`.
        """
        # A foreign page can let its own DNS name point at this machine (DNS rebinding).
        if self._needs_loopback_name and not is_loopback(_host_name(request)):
            raise Unauthorized("without a token this server answers to loopback names only")
        # CORS does not concern WebSockets: no browser keeps a page from what it gets over one
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and is_websocket(request) and not self.allows_page(origin):
            raise NotAllowed("pages of this origin may not use this server")
        route = route_of(request)
        if route is not None and route.nodes_only:
            if not is_from_node(request):
                await self._check_bearer(request, None)
                raise web.HTTPNotFound
        elif route is not None and route.secret_only:
            request[SECRET] = await self._secret_in(request)
        elif route is not None and route.is_public:
            await self._note_token(request)
        else:
            await self._check_bearer(request, route)
            if self._signed is not None and not (route is not None and route.resumes):
                async with ended_with_token(request, request.get(GRANT), self._signed):
                    return await handler(request)
        return await handler(request)

    async def _note_token(self, request: web.Request) -> None:
        """Note whose token the request has, where it needs none."""
        if request.method == "OPTIONS":
            return
        bearer = _bearer(request)
        is_known = await self._is_known(request, bearer)
        request[MAY_KNOW] = is_known or self._needs_loopback_name
        if self._needs_token and bearer and not is_known:
            request[WRONG] = bearer

    async def _check_bearer(self, request: web.Request, route: Route | None) -> None:
        """Check the roles of a request's token, or pass a session's secret on to the handler."""
        # a preflight to a path that does not exist has no token either
        if request.method == "OPTIONS":
            return
        bearer = _bearer(request)
        if not self._needs_token:
            await self._is_known(request, bearer)
            return
        try:
            roles = await self._roles_in(request, bearer)
        except Unauthorized:
            request[WRONG] = bearer
            raise
        if roles is None:
            if not bearer or route is None or not route.allows_secret:
                request[WRONG] = bearer
                raise Unauthorized("a bearer token is needed, and this one is wrong")
            request[SECRET] = bearer
        elif route is not None and route.role is not None and not is_allowed(roles, route.role):
            also = "; the session's own secret is enough" if route.allows_secret else ""
            raise NotAllowed(f"this token lacks the role {route.role.value!r}{also}")

    async def _secret_in(self, request: web.Request) -> str:
        """Return the bearer token, which the handler compares with the session's secret.

        So a token of the server is refused in the same words as any other: these routes do not
        tell which tokens there are.
        """
        bearer = _bearer(request)
        if not bearer:
            raise Unauthorized("the bearer token has to be the secret of this session")
        await self._is_known(request, bearer)  # notes whose token it is
        return bearer

    async def _is_known(self, request: web.Request, bearer: str) -> bool:
        """Note whose token a request has; return whether it is one that is valid."""
        try:
            return await self._roles_in(request, bearer) is not None
        except Unauthorized:
            return False

    async def _roles_in(self, request: web.Request, bearer: str) -> Set[Role] | None:
        """Return the roles of a token, and note its name; None if it is not one of this server.

        How long that takes tells nothing: digests are compared, and all of them. Raises
        `Unauthorized` for a signed token that is not valid any more.
        """
        given, found = _digest(bearer), None
        for digest, token in self._tokens:
            if hmac.compare_digest(digest, given):
                found = token
        if found is not None:
            request[CALLER] = replace(caller_of(request), token=found.name)
            return found.roles
        if not bearer or self._signed is None:
            return None
        route = route_of(request)
        may_be_over = route is not None and route.resumes
        grant = await self._signed.grant_of(bearer, may_be_over=may_be_over)
        if grant is None:
            return None
        request[CALLER] = replace(caller_of(request), token=grant.label)
        request[GRANT] = grant
        return grant.roles

    def allows_page(self, origin: str) -> bool:
        """Return whether web pages of an origin may use this server from a browser.

        If pages are listed, only those may. If there are tokens, any page may, since it has to know
        one. Otherwise only pages of this machine may.
        """
        if self._pages:
            return origin in self._pages
        return self._allows_all_pages or _is_loopback_origin(origin)


def grant_of(request: web.Request) -> Grant | None:
    """Return what the signed token of a request allows; None if it has none."""
    return request.get(GRANT)


def may_know(request: web.Request) -> bool:
    """Return whether a request to a public route may learn what is not for strangers."""
    return bool(request.get(MAY_KNOW))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _bearer(request: web.Request) -> str:
    """Return the bearer token of a request; empty if there is none, or if it is not Unicode."""
    if hdrs.AUTHORIZATION not in request.headers and is_websocket(request):
        return token_offered(request)  # a browser cannot set headers there
    scheme, _, text = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" and is_unicode(text) else ""


def _host_name(request: web.Request) -> str:
    """Return the host of a request without its port, as it was sent.

    A loopback name has no other spelling, so it need not be decoded (IDNA takes quadratic time).
    """
    host = request.host.lower()
    if host.startswith("["):  # an IPv6 address
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback_origin(origin: str) -> bool:
    try:
        return is_loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False
