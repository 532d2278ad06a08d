"""``GET /api/storage``: how much room there is for recordings, and how long it will last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from adapters.http.api.event_json import schema_of
from adapters.http.nodes import NodeClient
from adapters.http.operations import Content, Operation
from adapters.http.routes import Route
from domain.ports.placement import Node, Placement
from domain.services.server.watching import WatchService
from domain.session.roles import Role

NODE_PATH = "/nodes/storage"
_STORAGE = schema_of(
    "Storage",
    "The disk of the recordings.",
    {
        "free_bytes": {
            "type": ["integer", "null"],
            "minimum": 0,
            "description": "Without what the server keeps free; null if that is not known, and if "
            "recordings are kept in memory.",
        },
        "bytes_per_s": {
            "type": ["number", "null"],
            "description": "How fast it has filled in the last minutes; negative if it got "
            "emptier, null in the first minute.",
        },
        "left_s": {
            "type": ["number", "null"],
            "minimum": 0,
            "description": "Seconds until it is full at that rate; null if it does not fill.",
        },
    },
)


class StorageHandlers:
    """Answers for the whole server: its nodes share the disk, and one of them measures it."""

    def __init__(self, watching: WatchService, *, placement: Placement, nodes: NodeClient) -> None:
        self._watching = watching
        self._placement = placement
        self._nodes = nodes

    def routes(self) -> Sequence[Route]:
        operation = Operation(
            name="getStorage",
            tag="events",
            summary="How long the disk will last",
            answers={200: Content(text="The disk.", schema=_STORAGE)},
        )
        return [
            Route("GET", "/api/storage", self._storage, role=Role.WATCH, operation=operation),
            Route("GET", NODE_PATH, self._of_node, role=None, nodes_only=True),
        ]

    async def _storage(self, _request: web.Request) -> web.StreamResponse:
        found = self._here()
        if found["free_bytes"] is None:
            others = await asyncio.gather(*map(self._ask, self._placement.others()))
            found = next((one for one in others if one["free_bytes"] is not None), found)
        return web.json_response(found)

    async def _of_node(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(self._here())

    def _here(self) -> dict[str, Any]:
        disk = self._watching.disk
        if disk is None:
            return {"free_bytes": None, "bytes_per_s": None, "left_s": None}
        return {
            "free_bytes": max(0, disk.free_bytes),
            "bytes_per_s": None if disk.bytes_per_s is None else round(disk.bytes_per_s, 1),
            "left_s": None if disk.left_s is None else round(disk.left_s, 1),
        }

    async def _ask(self, node: Node) -> Any:
        """Return what another node knows; one that does not answer knows nothing."""
        return await self._nodes.ask(node, NODE_PATH) or {"free_bytes": None}
