"""``/health``: the status of the server and the number of its sessions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from adapters.http.access import may_know
from adapters.http.nodes import NodeClient, is_from_node
from adapters.http.routes import Route
from domain.ports.placement import Node, Placement
from domain.services.server.sessions import SessionService


class HealthHandlers:
    """Answers without a token, because load balancers and monitors ask.

    Nobody learns more without a token than that the server works: a version tells which faults it
    has, and the number of sessions when somebody records.
    """

    def __init__(
        self, service: SessionService, *, version: str, placement: Placement, nodes: NodeClient
    ) -> None:
        self._service = service
        self._version = version
        self._placement = placement
        self._nodes = nodes

    def routes(self) -> Sequence[Route]:
        return [Route("GET", "/health", self._health, role=None)]

    async def _health(self, request: web.Request) -> web.StreamResponse:
        """Say that the server works, and what it does to whoever may know that.

        Count the sessions of all nodes, or only those of this node if another node asks.
        """
        body: dict[str, Any] = {"status": "ok"}
        if not (may_know(request) or is_from_node(request)):
            return web.json_response(body)
        sessions = self._service.session_count
        states = Counter(self._service.states())
        if not is_from_node(request):
            for health in await asyncio.gather(*map(self._ask, self._placement.others())):
                sessions += health["sessions"]
                states.update(health["states"])
        body |= {"version": self._version, "sessions": sessions, "states": states}
        return web.json_response(body)

    async def _ask(self, node: Node) -> Any:
        """Return the health of another node; one that does not answer has no sessions."""
        return await self._nodes.ask(node, "/health") or {"sessions": 0, "states": {}}
