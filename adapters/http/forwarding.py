"""Forwards requests to the node on which their session lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict

from adapters.http.bodies import read_body
from adapters.http.callers import caller_of
from adapters.http.cookies import SIGNED_IN
from adapters.http.nodes import NodeClient, is_from_node
from adapters.http.relaying import Relay, RelayedSocket, RelayedStream, forwarded
from adapters.http.routes import SECRET, Handler, route_of
from adapters.http.uploads import UPLOAD_S, chunks_of
from adapters.http.websockets import is_websocket, token_offered
from domain.errors import NodeUnavailable
from domain.ports.placement import NewOffer, Node, Placement, SessionKey

WATCH_S = 0.5
"""How often the node of a session is looked up again while it has not answered."""
SEARCHES = 5
RETRY_S = 0.3
"""How often, and after which time, another node is sought for an offer whose node is gone."""
_UPLOAD_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_read=UPLOAD_S)
"""The client may be slow, and what it sends has its own limits. After the body, the node may need
time for it; `Placement` tells if it does not respond at all."""

T = TypeVar("T")


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
        request that does not name its session is malformed; any node can refuse it. A new offer
        goes to another node if its node ends or stops to respond; a session cannot.
        """
        route = route_of(request)
        if (
            route is None
            or route.session_key is None
            or is_from_node(request)
            or self._placement.here is None
        ):
            return await handler(request)
        key = await route.session_key(request)
        if key is None:
            return await handler(request)
        if route.is_streamed:
            return await self._forward_stream(request, handler, key)
        searches = SEARCHES if isinstance(key, NewOffer) else 1
        while True:
            try:
                node = await self._placement.node_of(key)
                if node is None:
                    return await handler(request)
                sending = self._send(node, request)
                response = await self._while_responsive(node, key, sending)
                if response is not None:
                    return response
            except NodeUnavailable:
                searches -= 1
                if not searches:
                    raise
                await asyncio.sleep(RETRY_S)

    async def _forward_stream(
        self, request: web.Request, handler: Handler, key: SessionKey
    ) -> web.StreamResponse:
        """Handle a request here, or forward its answer as it arrives, for as long as it goes on.

        Once it has begun, the end of the node is the end of the answer: the kernel closes the
        connections of a process that is gone.
        """
        node = await self._placement.node_of(key)
        if node is None:
            return await handler(request)
        relay = await self._while_responsive(node, key, self._open(node, request))
        if relay is None:
            raise NodeUnavailable("a worker of this server is being restarted")
        return await relay.run(request)

    async def _open(self, node: Node, request: web.Request) -> Relay:
        """Send a request whose answer goes on; return when the answer has begun."""
        headers = _headers_of(request)
        try:
            if is_websocket(request):
                socket = await RelayedSocket.open(self._nodes.to(node), request, headers)
                if socket is not None:
                    return socket
                # it was refused; as a usual request it is refused with the reason
                if hdrs.AUTHORIZATION not in headers and (token := token_offered(request)):
                    headers[hdrs.AUTHORIZATION] = f"Bearer {token}"
            return await RelayedStream.open(self._nodes.to(node), request, headers)
        except (aiohttp.ClientError, OSError) as error:
            raise NodeUnavailable("a worker of this server is being restarted") from error

    async def _while_responsive(
        self, node: Node, key: SessionKey, work: Coroutine[Any, Any, T]
    ) -> T | None:
        """Return what a node is asked for; None if an offer belongs to another node meanwhile.

        Raises `NodeUnavailable`.
        """
        sending = asyncio.create_task(work, name="forward request")
        try:
            while True:
                await asyncio.wait({sending}, timeout=WATCH_S)
                if sending.done():
                    return sending.result()
                if await self._placement.node_of(key) != node:
                    return None
        finally:
            if not sending.done():
                sending.cancel()
                await asyncio.wait({sending})

    async def _send(self, node: Node, request: web.Request) -> web.Response:
        route = route_of(request)
        # only the other node knows whether a secret is right, and refuses before it reads a body
        is_stranger = SECRET in request and request.can_read_body
        if is_stranger or (route is not None and route.is_upload):
            return await self._send_upload(node, request)
        return await self._exchange(
            node, request, data=await read_body(request), headers=_headers_of(request)
        )

    async def _send_upload(self, node: Node, request: web.Request) -> web.Response:
        """Forward a body as it arrives; the other node limits what it reads of it.

        Raises `NodeUnavailable`, and what `chunks_of` raises.
        """
        failures: list[web.HTTPException] = []

        async def body() -> AsyncIterator[bytes]:
            yield b""  # aiohttp sends the header with the first chunk: the node may refuse by it
            try:
                async for chunk in chunks_of(request):
                    yield chunk
            except web.HTTPException as error:  # aiohttp would hide it
                failures.append(error)
                raise

        headers = _headers_of(request)
        for name in (hdrs.CONTENT_LENGTH, hdrs.CONTENT_ENCODING):  # the body stays as it is
            if name in request.headers:
                headers[name] = request.headers[name]
        try:
            return await self._exchange(
                node, request, data=body(), headers=headers, timeout=_UPLOAD_TIMEOUT
            )
        except NodeUnavailable:
            if failures:
                raise failures[0] from None
            raise

    async def _exchange(self, node: Node, request: web.Request, **options: Any) -> web.Response:
        """Send a request with options of aiohttp, and return the answer."""
        try:
            async with self._nodes.to(node).request(
                request.method,
                f"http://node{request.path_qs}",
                allow_redirects=False,
                **options,
            ) as answer:
                response = web.Response(status=answer.status, body=await answer.read())
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise NodeUnavailable("a worker of this server is being restarted") from error
        response.headers.clear()
        response.headers.extend(forwarded(answer.headers))
        if request.method == hdrs.METH_HEAD and hdrs.CONTENT_LENGTH in answer.headers:
            response.headers[hdrs.CONTENT_LENGTH] = answer.headers[hdrs.CONTENT_LENGTH]
        return response


def _headers_of(request: web.Request) -> CIMultiDict[str]:
    """Return the headers to forward: the other node cannot see where the request comes from."""
    headers = forwarded(request.headers)
    headers[hdrs.X_FORWARDED_FOR] = caller_of(request).address
    if SIGNED_IN in request:  # nor which page has sent the cookie
        headers[hdrs.AUTHORIZATION] = f"Bearer {request[SIGNED_IN]}"
    return headers
