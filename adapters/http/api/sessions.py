"""``/api/sessions``: what the sessions of a server are like, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from adapters.http import headers
from adapters.http.api.session_json import SESSION, SESSION_LIST, write_session
from adapters.http.callers import caller_of
from adapters.http.nodes import NodeClient
from adapters.http.operations import Content, Operation
from adapters.http.routes import Route, key_in_path
from domain.ports.placement import Node, Placement
from domain.services.server.sessions import SessionService
from domain.session.roles import Role

PATH = "/api/sessions"
NODE_PATH = "/nodes/sessions"
_TAG = "sessions"


class SessionHandlers:
    """Answers for all nodes: each session is on one of them."""

    def __init__(self, service: SessionService, *, placement: Placement, nodes: NodeClient) -> None:
        self._service = service
        self._placement = placement
        self._nodes = nodes

    def routes(self) -> Sequence[Route]:
        list_all = Operation(
            name="listSessions",
            tag=_TAG,
            summary="All sessions that have not ended",
            answers={200: Content(text="The sessions.", schema=SESSION_LIST)},
        )
        get = Operation(
            name="getSession",
            tag=_TAG,
            summary="One session",
            answers={200: Content(text="The session.", schema=SESSION)},
            problems=[404],
        )
        end = Operation(
            name="endSession",
            tag=_TAG,
            summary="End a session, and wait until its recordings are complete",
            answers={
                204: Content(
                    text="The session has ended. The header `Gapless-Seconds` has the length of "
                    "its longest recording."
                )
            },
            problems=[404, 410, 500],
        )
        one = f"{PATH}/{{id}}"
        return [
            Route("GET", PATH, self._list, Role.WATCH, operation=list_all),
            Route("GET", NODE_PATH, self._list_here, role=None, nodes_only=True),
            Route("GET", one, self._get, Role.WATCH, session_key=key_in_path, operation=get),
            Route("DELETE", one, self._end, Role.ADMIN, session_key=key_in_path, operation=end),
        ]

    async def _list(self, _request: web.Request) -> web.StreamResponse:
        """List the sessions of all nodes; each of the others has a while to tell its own."""
        sessions, is_complete = self._here(), True
        asked = map(self._ask, self._placement.others())
        for found in await asyncio.gather(*asked):
            is_complete = is_complete and found is not None
            sessions += found or []
        sessions.sort(key=lambda session: session["opened_at"])
        return web.json_response({"sessions": sessions, "is_complete": is_complete})

    async def _list_here(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(self._here())

    def _here(self) -> list[dict[str, Any]]:
        return [write_session(status) for status in self._service.statuses()]

    async def _ask(self, node: Node) -> list[Any] | None:
        """Return the sessions of another node; None if it does not answer."""
        found: list[Any] | None = await self._nodes.ask(node, NODE_PATH)
        return found

    async def _get(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(write_session(self._service.status(request.match_info["id"])))

    async def _end(self, request: web.Request) -> web.StreamResponse:
        seconds = await self._service.delete(request.match_info["id"], caller=caller_of(request))
        return web.Response(status=204, headers={headers.SECONDS: f"{seconds:.6f}"})
