"""HTTP between the nodes of one server."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import aiohttp
from aiohttp import hdrs, web

from domain.ports.placement import Node

REQUEST_S = 10.0
ASK_S = 2.0
"""How long another node may take where an answer needs those of all nodes."""


class NodeClient:
    """Connections to the other nodes. The address of a node is the path of its Unix socket."""

    def __init__(self) -> None:
        self._sessions: dict[Node, aiohttp.ClientSession] = {}

    def to(self, node: Node) -> aiohttp.ClientSession:
        """Return the HTTP client for a node; the host of its URLs does not matter."""
        if node not in self._sessions:
            self._sessions[node] = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(node.address, limit=0),
                timeout=aiohttp.ClientTimeout(total=REQUEST_S),
            )
        return self._sessions[node]

    async def ask(self, node: Node, path: str) -> Any:
        """Return the JSON of a node's answer; None if it has none within `ASK_S`."""
        with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
            async with self.to(node).get(
                f"http://node{path}",
                timeout=aiohttp.ClientTimeout(total=ASK_S),
                headers={hdrs.HOST: "localhost"},  # without a token only loopback names will do
            ) as answer:
                if answer.status == 200:
                    return await answer.json()
        return None

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()


def is_from_node(request: web.Request) -> bool:
    """Return whether a request came over the Unix socket, which only other nodes can reach."""
    if request.transport is None:  # the client has gone
        return False
    arrived = request.transport.get_extra_info("socket")
    return arrived is not None and arrived.family == socket.AF_UNIX
