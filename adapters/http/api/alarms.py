"""``GET /api/alarms``: which alarms are on, and which have ended last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from adapters.http.api.event_json import ALARM, alarm_json, schema_of
from adapters.http.nodes import NodeClient
from adapters.http.operations import Content, Operation
from adapters.http.routes import Route
from domain.ports.placement import Node, Placement
from domain.services.server.watching import KEPT_ENDED, WatchService
from domain.session.roles import Role

NODE_PATH = "/nodes/alarms"
_ALARMS = schema_of(
    "Alarms",
    "The alarms of the whole server.",
    {
        "on": {
            "type": "array",
            "items": ALARM,
            "description": "Those that are on, the oldest first.",
        },
        "ended": {
            "type": "array",
            "items": ALARM,
            "description": "The latest that are over, the latest first.",
        },
    },
)


class AlarmHandlers:
    """Answers for the whole server, whichever node is asked."""

    def __init__(self, watching: WatchService, *, placement: Placement, nodes: NodeClient) -> None:
        self._watching = watching
        self._placement = placement
        self._nodes = nodes

    def routes(self) -> Sequence[Route]:
        operation = Operation(
            name="listAlarms",
            tag="events",
            summary="Alarms",
            answers={200: Content(text="The alarms.", schema=_ALARMS)},
        )
        return [
            Route("GET", "/api/alarms", self._alarms, role=Role.WATCH, operation=operation),
            Route("GET", NODE_PATH, self._of_node, role=None, nodes_only=True),
        ]

    async def _alarms(self, _request: web.Request) -> web.StreamResponse:
        found = [self._here(), *await asyncio.gather(*map(self._ask, self._placement.others()))]
        on = [alarm for alarms in found for alarm in alarms["on"]]
        ended = [alarm for alarms in found for alarm in alarms["ended"]]
        return web.json_response(
            {
                "on": sorted(on, key=lambda alarm: alarm["since"]),
                "ended": sorted(ended, key=lambda alarm: alarm["ended_at"], reverse=True)[
                    :KEPT_ENDED
                ],
            }
        )

    async def _of_node(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(self._here())

    def _here(self) -> dict[str, Any]:
        return {
            "on": [alarm_json(alarm) for alarm in self._watching.on()],
            "ended": [alarm_json(alarm) for alarm in self._watching.ended()],
        }

    async def _ask(self, node: Node) -> Any:
        """Return the alarms of another node; one that does not answer has none."""
        return await self._nodes.ask(node, NODE_PATH) or {"on": [], "ended": []}
