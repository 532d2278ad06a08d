"""Passes on answers that go on, from another node to a client: streams and WebSockets.

Either end may be slow: nothing is read from one before the other has taken what was read before.
The end of either is the end of the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Protocol

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, hdrs, web
from multidict import CIMultiDict

from adapters.http.nodes import REQUEST_S
from adapters.http.websockets import MAX_MESSAGE_BYTES, protocols_offered
from domain.errors import NodeUnavailable

MAX_RELAYED_BYTES = 1 << 20
"""Of a message that another node sends."""
_NOT_FORWARDED = {
    "connection", "content-encoding", "content-length", "cookie", "date", "keep-alive", "origin",
    "sec-websocket-extensions", "sec-websocket-key", "sec-websocket-protocol",
    "sec-websocket-version", "te", "transfer-encoding", "upgrade", "vary",
}  # fmt: skip
"""Headers of one hop (WebSockets are made anew at each), headers that describe a body as it was
sent, those of CORS, and cookies: a node takes none from another one."""


class Relay(Protocol):
    """An answer of another node that has begun."""

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Pass it on until it ends at one end or the other."""


class RelayedStream:
    """A usual answer, of any length."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    @classmethod
    async def open(
        cls, node: aiohttp.ClientSession, request: web.Request, headers: Mapping[str, str]
    ) -> RelayedStream:
        """Send a request without a body. Raises errors of aiohttp and `OSError`."""
        async with asyncio.timeout(REQUEST_S):
            answer = await node.request(
                request.method,
                _url(request),
                headers=headers,
                allow_redirects=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return cls(answer)

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Pass it on; if the node ends amid it, the client sees that it is not complete."""
        async with self._answer as answer:
            headers = forwarded(answer.headers)
            for name in (hdrs.CONTENT_LENGTH, hdrs.CONTENT_ENCODING):  # the body stays as it is
                if name in answer.headers:
                    headers[name] = answer.headers[name]
            if answer.status >= HTTPStatus.BAD_REQUEST:
                # a refusal is short; sent already, it could be neither told nor replaced
                return web.Response(
                    status=answer.status, headers=headers, body=await _refusal_in(answer)
                )
            response = web.StreamResponse(status=answer.status, headers=headers)
            await response.prepare(request)
            try:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except (aiohttp.ClientError, OSError):  # one end is gone
                response.force_close()
                if request.transport is not None:
                    request.transport.close()
        return response


async def _refusal_in(answer: aiohttp.ClientResponse) -> bytes:
    """Read the body of a refusal. Raises `NodeUnavailable`."""
    try:
        async with asyncio.timeout(REQUEST_S):
            return await answer.read()
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        raise NodeUnavailable("a worker of this server is being restarted") from error


class RelayedSocket:
    """A WebSocket. Pings are passed on, so that each end finds out whether the other is there."""

    def __init__(self, inner: aiohttp.ClientWebSocketResponse) -> None:
        self._inner = inner

    @classmethod
    async def open(
        cls, node: aiohttp.ClientSession, request: web.Request, headers: Mapping[str, str]
    ) -> RelayedSocket | None:
        """Ask a node for a WebSocket; return None if it refuses.

        Raises errors of aiohttp and `OSError`.
        """
        try:
            inner = await node.ws_connect(
                _url(request),
                protocols=protocols_offered(request),
                headers=headers,
                autoping=False,
                max_msg_size=MAX_RELAYED_BYTES,
            )
        except aiohttp.WSServerHandshakeError:
            return None
        return cls(inner)

    async def run(self, request: web.Request) -> web.StreamResponse:
        inner = self._inner
        outer = web.WebSocketResponse(
            protocols=(inner.protocol,) if inner.protocol else (),
            autoping=False,
            compress=False,
            max_msg_size=MAX_MESSAGE_BYTES,
        )
        try:
            await outer.prepare(request)
            passing = {
                asyncio.create_task(_pass_on(source, target), name="relay a WebSocket")
                for source, target in ((inner, outer), (outer, inner))
            }
            try:
                await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in passing:
                    task.cancel()
                await asyncio.wait(passing)
            await outer.close(code=_close_code(inner))
        finally:
            await inner.close()
        return outer


async def _pass_on(
    source: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
    target: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
) -> None:
    """Pass messages on until either end is closed."""
    try:
        while True:
            message = await source.receive()
            match message.type:
                case WSMsgType.TEXT:
                    await target.send_str(message.data)
                case WSMsgType.BINARY:
                    await target.send_bytes(message.data)
                case WSMsgType.PING:
                    await target.ping(message.data)
                case WSMsgType.PONG:
                    await target.pong(message.data)
                case _:
                    return
    except (aiohttp.ClientError, OSError):  # the target is gone
        return


def _close_code(inner: aiohttp.ClientWebSocketResponse) -> int:
    """Return the code with which a node has closed; if it is gone, that it is being restarted."""
    code = inner.close_code
    return WSCloseCode.SERVICE_RESTART if code is None or code == 1006 else code


def _url(request: web.Request) -> str:
    return f"http://node{request.path_qs}"


def forwarded(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Return the headers that are passed on, of a request or of an answer."""
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in _NOT_FORWARDED
    )
