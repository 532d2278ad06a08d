"""A reverse proxy before a server, which is the whole network between the two.

What browsers and clients ask of the proxy, it asks of the server: requests, answers that go on
(server-sent events), and WebSockets. Answers to offers name a relay (`tests.rigs.relay`) in place
of the server, and offers lose their candidates, so that the media pass through the relay, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from tests.rigs.processes import free_port
from tests.rigs.relay import Plan, Relay, clean

_CANDIDATES = re.compile(r"a=candidate:.*\r\n")
_SDP = ("application/sdp", "application/trickle-ice-sdpfrag")
_OF_A_HOP = {
    name.lower()
    for name in (
        hdrs.CONNECTION, hdrs.KEEP_ALIVE, hdrs.TE, hdrs.TRAILER, hdrs.TRANSFER_ENCODING,
        hdrs.UPGRADE,
    )
}  # fmt: skip
_OF_A_SOCKET = {
    name.lower()
    for name in (
        hdrs.SEC_WEBSOCKET_EXTENSIONS, hdrs.SEC_WEBSOCKET_KEY, hdrs.SEC_WEBSOCKET_PROTOCOL,
        hdrs.SEC_WEBSOCKET_VERSION,
    )
}  # fmt: skip


class Network:
    """A network that can be gone, lose packets, or let no UDP through; `url` leads into it."""

    def __init__(self, server: str, plan: Plan) -> None:
        self.plan = plan
        """Which RTP packets are lost or late from now on, for all connections."""
        self.url = ""
        self.relays: list[Relay] = []
        """One for each answer to an offer, and for each ICE restart."""
        self._server = URL(server)
        self._udp_is_blocked = False
        self._is_there = asyncio.Event()
        self._is_there.set()
        self._refuses = False
        self._runner: web.AppRunner | None = None
        self._http: aiohttp.ClientSession | None = None

    async def start(self, tls: ssl.SSLContext | None) -> None:
        self._http = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            connector=aiohttp.TCPConnector(limit=0),
        )
        # a body of any size: it is the server that says which are too large
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        port = free_port()
        await web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=tls).start()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"

    async def stop(self) -> None:
        self._cut()
        self._is_there.set()
        assert self._runner and self._http
        await self._runner.cleanup()
        await self._http.close()
        for relay in self.relays:
            relay.close()

    @property
    def udp_is_blocked(self) -> bool:
        return self._udp_is_blocked

    @udp_is_blocked.setter
    def udp_is_blocked(self, is_blocked: bool) -> None:
        self._udp_is_blocked = is_blocked
        self._tell_relays()

    def gone(self, *, refuses: bool = False) -> None:
        """End all connections, and let no packet through.

        New requests wait until the network is back, as their first packets are sent again and
        again; or all are refused at once.
        """
        self._is_there.clear()
        self._refuses = refuses
        self._tell_relays()
        self._cut()

    def back(self) -> None:
        self._is_there.set()
        self._tell_relays()

    def _tell_relays(self) -> None:
        for relay in self.relays:
            relay.is_blackhole = self._udp_is_blocked or not self._is_there.is_set()

    def _cut(self) -> None:
        assert self._runner is not None
        if (server := self._runner.server) is not None:
            for connection in server.connections:
                if connection.transport is not None:
                    connection.transport.abort()

    # -- requests ------------------------------------------------------------------------------

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        if not self._is_there.is_set():
            if self._refuses and request.transport is not None:
                request.transport.abort()
            await self._is_there.wait()
        if request.path == "/ice-candidate":
            return web.Response(status=204)  # the server finds out where the relay is
        url = self._server.join(request.rel_url)
        if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            return await self._join(request, url)
        assert self._http is not None
        try:
            async with self._http.request(
                request.method, url, headers=_forwarded(request), data=await _body(request),
                allow_redirects=False, skip_auto_headers=[hdrs.USER_AGENT, hdrs.CONTENT_TYPE],
            ) as answer:  # fmt: skip
                return await self._answer(request, answer)
        except aiohttp.ClientConnectionError:
            return web.Response(status=502, text="the server cannot be reached\n")

    async def _answer(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        headers = _without(answer.headers, _OF_A_HOP)
        if _has_sdp(request):
            body = await self._relayed(await answer.text(), is_json=request.path == "/offer")
            headers.popall(hdrs.CONTENT_LENGTH, None)
            return web.Response(status=answer.status, headers=headers, body=body.encode())
        passed = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
        await passed.prepare(request)
        try:
            async for block in answer.content.iter_any():
                await passed.write(block)
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            # the server has broken off, so this has to look broken off, too
            if request.transport is not None:
                request.transport.abort()
            return passed
        await passed.write_eof()
        return passed

    async def _relayed(self, body: str, *, is_json: bool) -> str:
        """Name a relay in an answer that names the server."""
        answer = json.loads(body) if is_json else {"sdp": body}
        if _CANDIDATES.search(answer.get("sdp", "")) is None:
            return body
        relay = Relay(lambda index: self.plan(index))
        answer["sdp"] = await relay.intercept(answer["sdp"])
        self.relays.append(relay)
        self._tell_relays()
        return json.dumps(answer) if is_json else str(answer["sdp"])

    async def _join(self, request: web.Request, url: URL) -> web.StreamResponse:
        assert self._http is not None
        asked = request.headers.get(hdrs.SEC_WEBSOCKET_PROTOCOL, "")
        protocols = [name.strip() for name in asked.split(",") if name.strip()]
        headers = _without(_forwarded(request), _OF_A_SOCKET)
        try:
            joined = await self._http.ws_connect(
                url, protocols=protocols, headers=headers, max_msg_size=0
            )
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status)
        async with joined:
            chosen = [joined.protocol] if joined.protocol else []
            socket = web.WebSocketResponse(protocols=chosen, max_msg_size=0)
            await socket.prepare(request)
            ways = [
                asyncio.ensure_future(_carry(socket, joined)),
                asyncio.ensure_future(_carry(joined, socket)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            await socket.close(code=joined.close_code or 1000)
            return socket


async def _carry(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
) -> None:
    with contextlib.suppress(ConnectionError):
        async for message in source:
            if message.type is aiohttp.WSMsgType.TEXT:
                await sink.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await sink.send_bytes(message.data)


def _has_sdp(request: web.Request) -> bool:
    return request.path == "/offer" or request.content_type in _SDP


async def _body(request: web.Request) -> bytes | aiohttp.StreamReader | None:
    if not request.can_read_body:
        return None
    if not _has_sdp(request):
        return request.content
    body = await request.text()
    if request.path != "/offer":
        return _CANDIDATES.sub("", body).encode()
    with contextlib.suppress(ValueError, TypeError, KeyError):  # it is the server that refuses it
        offer = json.loads(body)
        offer["sdp"] = _CANDIDATES.sub("", offer["sdp"])
        return json.dumps(offer).encode()
    return body.encode()


def _forwarded(request: web.Request) -> CIMultiDict[str]:
    headers = _without(request.headers, _OF_A_HOP)
    if _has_sdp(request):
        for name in (hdrs.CONTENT_LENGTH, hdrs.ACCEPT_ENCODING):
            headers.popall(name, None)
    headers.add(hdrs.X_FORWARDED_FOR, request.remote or "")
    headers[hdrs.X_FORWARDED_PROTO] = request.scheme
    headers[hdrs.X_FORWARDED_HOST] = request.host
    return headers


def _without(headers: Mapping[str, str], names: set[str]) -> CIMultiDict[str]:
    pairs = headers.items()
    return CIMultiDict((name, value) for name, value in pairs if name.lower() not in names)


@asynccontextmanager
async def proxied(
    server: str, *, plan: Plan = clean, udp_is_blocked: bool = False,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Network]:  # fmt: skip
    """Put a network before the server at a URL; the server should trust 127.0.0.1 as a proxy."""
    network = Network(server, plan)
    network.udp_is_blocked = udp_is_blocked
    await network.start(tls)
    try:
        yield network
    finally:
        await network.stop()
