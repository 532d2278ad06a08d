"""Forwards requests to the node on which their session lives."""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from adapters.http.bodies import read_body
from adapters.http.nodes import NodeClient, is_from_node
from adapters.http.routes import Handler, route_of
from domain.errors import NodeUnavailable
from domain.ports.placement import Node, Placement

_NOT_FORWARDED = {
    "connection", "content-encoding", "content-length", "date", "keep-alive", "origin", "te",
    "transfer-encoding", "upgrade", "vary",
}  # fmt: skip
"""Headers of one hop, headers that describe a body as it was sent, and those of CORS."""


class Forwarder:
    """Forwards a request if the placement finds its session on another node.

    The `session_key` of the route reads from the request which session it is for.
    """

    def __init__(self, placement: Placement, nodes: NodeClient) -> None:
        self._placement = placement
        self._nodes = nodes

    @web.middleware
    async def forward(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle a request here or forward it; raises `NodeUnavailable`.

        A forwarded request is always handled here, so that it cannot go around in circles. A
        request that does not name its session is malformed; any node can refuse it.
        """
        route = route_of(request)
        if (
            route is None
            or route.session_key is None
            or is_from_node(request)
            or not self._placement.others()
        ):
            return await handler(request)
        key = await route.session_key(request)
        node = await self._placement.node_of(key) if key is not None else None
        if node is None:
            return await handler(request)
        return await self._send(node, request)

    async def _send(self, node: Node, request: web.Request) -> web.Response:
        body = await read_body(request)
        try:
            async with self._nodes.to(node).request(
                request.method,
                f"http://node{request.path_qs}",
                data=body,
                headers=_forwarded(request.headers.items()),
                allow_redirects=False,
            ) as answer:
                response = web.Response(status=answer.status, body=await answer.read())
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise NodeUnavailable("a worker of this server is being restarted") from error
        response.headers.clear()
        response.headers.extend(_forwarded(answer.headers.items()))
        return response


def _forwarded(headers: Any) -> CIMultiDict[str]:
    return CIMultiDict(
        (name, value) for name, value in headers if name.lower() not in _NOT_FORWARDED
    )
