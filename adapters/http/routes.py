"""Routes: each declares its handler, role, media type, and how its session is found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import hdrs, web

from adapters.http.operations import Operation
from domain.ports.placement import KnownSession, SessionKey
from domain.session.placement import id_of
from domain.session.roles import Role

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

KeyReader = Callable[[web.Request], Awaitable[SessionKey | None]]
"""Returns None for a malformed request; the handler then refuses it."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    handler: Handler
    role: Role | None
    """The role that a request needs; None if it is public, `secret_only` or `nodes_only`."""
    accepts: str | None = None
    """The media type of a request's body."""
    session_key: KeyReader | None = None
    """Reads which session a request is for; None if any node can answer."""
    allows_secret: bool = False
    """Whether the session's secret is enough, in place of a token with the role.

    The handler then has to compare the `SECRET` of the request with the session's.
    """
    secret_only: bool = False
    """Whether nothing but the session's secret is enough, also where there are no tokens.

    The handler has to compare it, too.
    """
    nodes_only: bool = False
    """Whether only other nodes of the server may ask. To all others, the path does not exist."""
    resumes: bool = False
    """Whether a request may name its session by the secret. A token that has expired since is then
    enough: its handler lets it open no new session.
    """
    is_upload: bool = False
    """Whether the body may be long: its handler limits it, and it is forwarded as it arrives."""
    is_streamed: bool = False
    """Whether the answer goes on, perhaps as a WebSocket: it is forwarded as it arrives."""
    operation: Operation | None = None
    """What the OpenAPI document says of it; None if the route does not belong to the API."""

    @property
    def is_public(self) -> bool:
        return self.role is None and not self.secret_only and not self.nodes_only


class Handlers(Protocol):
    """Answers the requests of some routes."""

    def routes(self) -> Iterable[Route]: ...


SECRET = web.RequestKey("secret", str)
"""A bearer token that is none of the server's tokens, on a route that secrets open."""

DECLARED = web.AppKey("declared", dict[web.AbstractRoute, Route])
"""All routes of an application."""


def add_routes(app: web.Application, routes: Iterable[Route]) -> None:
    """Register routes; add HEAD to each GET, and a public OPTIONS to each path."""
    declared = app.setdefault(DECLARED, {})
    by_path: dict[str, list[Route]] = defaultdict(list)
    for route in routes:
        by_path[route.path].append(route)
    for path, found in by_path.items():
        resource = app.router.add_resource(path)
        methods = {
            method: route
            for route in found
            for method in ((route.method, "HEAD") if route.method == "GET" else (route.method,))
        }
        methods["OPTIONS"] = Route("OPTIONS", path, _options(found, sorted(methods)), role=None)
        for method, route in methods.items():
            declared[resource.add_route(method, route.handler)] = route


async def key_in_path(request: web.Request) -> SessionKey | None:
    """Read which session a request is for: its path has the session's id."""
    return KnownSession(request.match_info["id"])


def key_of_secret(secret: str) -> SessionKey:
    """Return which session a secret opens, if it opens one."""
    return KnownSession(id_of(secret))


def route_of(request: web.Request) -> Route | None:
    """Return the route of a request; None where no route has its path and method."""
    return request.app[DECLARED].get(request.match_info.route)


def _options(routes: Iterable[Route], methods: Iterable[str]) -> Handler:
    """Make the answer to OPTIONS: the methods of a path, and the media types of their bodies."""
    headers: dict[str, str] = {hdrs.ALLOW: ", ".join((*methods, "OPTIONS"))}
    for route in routes:
        if route.accepts:
            headers[f"Accept-{route.method.title()}"] = route.accepts

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=200, headers=headers)

    return answer
