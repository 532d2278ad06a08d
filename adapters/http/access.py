"""Decides who may do what; no other module does."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from aiohttp import hdrs, web

from adapters.http.api.problems import is_of_api
from adapters.http.bodies import is_unicode
from adapters.http.callers import CALLER, caller_of
from adapters.http.cookies import SIGNED_IN, token_in_cookie
from adapters.http.nodes import is_from_node
from adapters.http.origins import (
    SAFE_METHODS,
    Sender,
    is_loopback_origin,
    is_own_origin,
    sender_of,
)
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
"""A token that is wrong, and cannot be the secret of a session; may be empty."""
_OTHER_PAGE = "a page of another origin has sent this request"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who has sent a request, as far as its token tells."""

    role: Role
    """The highest of watch and admin."""
    name: str
    """Of its token; empty without one."""
    needs_token: bool
    """Whether the server needs one."""


IDENTITY = web.RequestKey("identity", Identity)


class Access:
    """Decides which roles a request has, and which web pages may send one.

    If there are tokens, a request has the roles of its bearer token, which may also be one that was
    signed. Otherwise every request has all roles; what a signed token says of name and room still
    holds. On a loopback address the host name of a request then has to be a loopback name, too.

    The clients of a server share a token, and the ids of sessions are in file names. So a route
    that changes or ends a session wants the secret of that session, or an administrator's token.
    What a client has captured comes from that client alone: those routes want its secret, whether
    there are tokens or not.

    On routes of the API, the cookie of a browser that has signed in takes the place of a bearer
    token, for pages of this server only.
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
        is_known = origin is None or self.allows_page(origin) or is_own_origin(request, origin)
        if is_websocket(request) and not is_known:
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
            if _takes_cookie(request) and request.method not in SAFE_METHODS:
                self.check_page(request, allows_listed=True)
            await self._is_known(request, bearer)
            request[IDENTITY] = Identity(Role.ADMIN, "", needs_token=False)
            return
        cookie = "" if _shows_token(request) else _cookie(request)
        if cookie:
            _check_page_of_cookie(request)
        roles = await self._checked(request, bearer or cookie)
        if roles is None:
            if not bearer or route is None or not route.allows_secret:
                request[WRONG] = bearer or cookie
                raise Unauthorized("a bearer token is needed, and this one is wrong")
            request[SECRET] = bearer
        elif route is not None and route.role is not None and not is_allowed(roles, route.role):
            also = "; the session's own secret is enough" if route.allows_secret else ""
            raise NotAllowed(f"this token lacks the role {route.role.value!r}{also}")
        elif cookie:
            request[SIGNED_IN] = cookie

    async def sign_in(self, request: web.Request, token: str) -> Identity:
        """Check the token with which somebody signs in.

        Raises `Unauthorized`, or `NotAllowed` if it is for publishing only.
        """
        if not self._needs_token:
            return Identity(Role.ADMIN, "", needs_token=False)
        if not await self._checked(request, token):
            request[WRONG] = token
            raise Unauthorized("this token is wrong")
        return identity_of(request)

    def check_page(self, request: web.Request, *, allows_listed: bool = False) -> None:
        """Refuse a request that a page of another origin has sent. Raises `NotAllowed`.

        `allows_listed`: those whose origins are listed may send it.
        """
        if is_from_node(request) or sender_of(request) is not Sender.OTHER_PAGE:
            return
        if allows_listed and request.headers.get(hdrs.ORIGIN) in self._pages:
            return
        raise NotAllowed(_OTHER_PAGE)

    async def _checked(self, request: web.Request, token: str) -> Set[Role] | None:
        """Return the roles of a token; None if it is not one of this server.

        Raises `Unauthorized` if it is not valid any more, which counts as a guess.
        """
        try:
            return await self._roles_in(request, token)
        except Unauthorized:
            request[WRONG] = token
            raise

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
            _note(request, found.name, found.name, found.roles)
            return found.roles
        if not bearer or self._signed is None:
            return None
        route = route_of(request)
        may_be_over = route is not None and route.resumes
        grant = await self._signed.grant_of(bearer, may_be_over=may_be_over)
        if grant is None:
            return None
        _note(request, grant.label, grant.subject or grant.label, grant.roles)
        request[GRANT] = grant
        return grant.roles

    def allows_page(self, origin: str) -> bool:
        """Return whether web pages of an origin may use this server from a browser.

        If pages are listed, only those may. If there are tokens, any page may, since it has to know
        one. Otherwise only pages of this machine may.
        """
        if self._pages:
            return origin in self._pages
        return self._allows_all_pages or is_loopback_origin(origin)


def grant_of(request: web.Request) -> Grant | None:
    """Return what the signed token of a request allows; None if it has none."""
    return request.get(GRANT)


def may_know(request: web.Request) -> bool:
    """Return whether a request to a public route may learn what is not for strangers."""
    return bool(request.get(MAY_KNOW))


def identity_of(request: web.Request) -> Identity:
    """Return who has sent a request. Raises `NotAllowed` if its token is for publishing only."""
    identity: Identity | None = request.get(IDENTITY)
    if identity is None:
        raise NotAllowed("this token has neither the role 'watch' nor the role 'admin'")
    return identity


def _note(request: web.Request, label: str, name: str, roles: Set[Role]) -> None:
    """Note what logs call the token of a request, and who has sent it."""
    request[CALLER] = replace(caller_of(request), token=label)
    if is_allowed(roles, Role.WATCH):
        role = Role.ADMIN if Role.ADMIN in roles else Role.WATCH
        request[IDENTITY] = Identity(role, name, needs_token=True)


def _check_page_of_cookie(request: web.Request) -> None:
    """Refuse a cookie that came from another page than one of this server. Raises `NotAllowed`.

    Without knowing the page, nothing may be changed and no WebSocket be opened.
    """
    sender = sender_of(request)
    is_harmless = request.method in SAFE_METHODS and not is_websocket(request)
    if sender is Sender.OTHER_PAGE or (sender is Sender.UNKNOWN and not is_harmless):
        raise NotAllowed(
            f"{_OTHER_PAGE}, or one whose origin is not known; a cookie is for pages of this "
            "server only (if it is behind a proxy, name that with --trusted-proxies)"
        )


def _shows_token(request: web.Request) -> bool:
    """Return whether a request has a token that was put there on purpose, if a wrong one."""
    return hdrs.AUTHORIZATION in request.headers or bool(_bearer(request))


def _cookie(request: web.Request) -> str:
    """Return the token in the cookie of a request to the API; empty if there is none.

    Another node has checked the cookie already, and forwards its token as a bearer token.
    """
    return token_in_cookie(request) if _takes_cookie(request) else ""


def _takes_cookie(request: web.Request) -> bool:
    """Return whether the path of a request belongs to the API."""
    route = route_of(request)
    return is_of_api(request.path if route is None else route.path)


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
