"""A network between clients and a server that can fail and recover, for both HTTP and media.

It is an HTTP server that forwards requests unchanged, except that it replaces the candidates, so
that each media path leads through a relay, too.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from tests.rigs.relay import Log, Plan, Relay, clean


@dataclass
class Network:
    """The network between one server and its clients."""

    server: str
    http: aiohttp.ClientSession
    url: str = ""
    log: Log = field(default_factory=Log)
    """All RTP packets of all connections, in order of sending."""
    relays: list[Relay] = field(default_factory=list)
    plan: Plan = clean
    """What becomes of the packets of clients."""
    again: Plan | None = None
    """What becomes of those that are sent again, see `Relay`."""
    lets_restarts_pass: bool = True
    """Whether requests for an ICE restart get through."""
    _there: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._there.set()

    def go_away(self, *, http: bool = True) -> None:
        """Block media in both directions; if `http`, requests hang, too."""
        if http:
            self._there.clear()
        for relay in self.relays:
            relay.is_blackhole = True

    def come_back(self) -> None:
        self._there.set()
        for relay in self.relays:
            relay.is_blackhole = False

    async def rebind(self) -> None:
        """Give every path another address, as a NAT may do."""
        for relay in self.relays:
            await relay.rebind()

    async def forward(self, request: web.Request) -> web.StreamResponse:
        await self._there.wait()
        if request.path == "/ice-candidate":
            return web.Response(status=204)  # the relay is the only path
        try:
            body = await request.read()
        except ConnectionError:
            return web.Response(status=499)  # the client has given up
        if request.method == "PATCH":
            if not self.lets_restarts_pass:
                raise web.HTTPMethodNotAllowed("PATCH", ())
            body = re.sub(rb"a=candidate:.*\r\n", b"", body)  # the relay is the only path
        passed = ("Authorization", "Content-Digest", "Content-Type", "If-Match")
        async with self.http.request(
            request.method,
            self.server + request.path,
            data=body,
            headers={name: request.headers[name] for name in passed if name in request.headers},
        ) as response:
            status, text = response.status, await response.text()
            headers = {
                name: value
                for name, value in response.headers.items()
                if name.startswith("Gapless-")
            }
        if status == 200 and request.path == "/offer":
            answer = json.loads(text)
            text = json.dumps(answer | {"sdp": await self._relayed(answer["sdp"])})
        elif status == 200 and request.method == "PATCH":
            text = await self._relayed(text)
        await self._there.wait()
        return web.Response(status=status, text=text, headers=headers)

    async def _relayed(self, sdp: str) -> str:
        relay = Relay(self.plan, self.log, again=self.again)
        relay.is_blackhole = not self._there.is_set()
        self.relays.append(relay)
        return await relay.intercept(sdp)


@asynccontextmanager
async def network_before(
    server: str, *, plan: Plan = clean, again: Plan | None = None
) -> AsyncIterator[Network]:
    """Run a network in front of a server until the block is left."""
    async with aiohttp.ClientSession() as http:
        network = Network(server, http, plan=plan, again=again)
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", network.forward)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        network.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield network
        finally:
            network.come_back()
            await runner.cleanup()
            for relay in network.relays:
                relay.close()
