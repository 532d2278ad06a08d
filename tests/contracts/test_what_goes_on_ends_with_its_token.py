"""An answer that goes on, such as events, ends when the token of its request has ended."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from adapters.http.routes import Route
from domain.services.server.tokens import Issued, TokenService
from domain.session.grants import Grant
from domain.session.roles import Role
from tests.fakes.http import FakeSessions, http_server, token_service
from tests.fakes.time import FakeClock

STATIC = "a token of the settings"
WITHIN_S = 20


@dataclass
class Ticks:
    """Sends a line whenever it is told to, and notes when a handler has ended."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/ticks", self._ticks, role=Role.WATCH),
            Route("GET", "/socket", self._socket, role=Role.WATCH),
        ]

    async def _ticks(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"tick\n")
                await asyncio.sleep(0.02)
        except ConnectionError:
            self.ended.set()
            raise

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for _ in response:
            pass
        self.ended.set()
        return response


@dataclass
class Served:
    url: str
    ticks: Ticks
    signed: TokenService
    clock: FakeClock

    async def issue(self) -> Issued:
        grant = Grant(id="new", roles=frozenset({Role.WATCH}))
        return await self.signed.issue(grant, expires_s=60)


@pytest.fixture
async def served(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr("adapters.http.streams.CHECK_S", 0.05)
    clock, ticks = FakeClock(), Ticks()
    signed = token_service(str(tmp_path), clock=clock)
    roles = {STATIC: frozenset({Role.WATCH})}
    server = http_server(FakeSessions(), tokens=roles, signed=signed, more=[ticks])
    yield Served(await server.start(), ticks, signed, clock)
    await server.stop()
    signed.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def end_of(stream: aiohttp.StreamReader) -> None:
    """Read until the connection is closed."""
    async with asyncio.timeout(WITHIN_S):
        with contextlib.suppress(aiohttp.ClientError):
            while await stream.readline():
                pass


@pytest.mark.parametrize("how", ["revoked by another node", "expired"])
async def test_a_stream_ends_with_its_token_and_others_go_on(
    served: Served, tmp_path: pathlib.Path, how: str
) -> None:
    issued = await served.issue()
    async with (
        aiohttp.ClientSession(served.url) as http,
        http.get("/ticks", headers=bearer(issued.text)) as stream,
        http.get("/ticks", headers=bearer(STATIC)) as other,
    ):
        assert await stream.content.readline() == b"tick\n"
        if how == "expired":
            served.clock.advance(61)
        else:
            node = token_service(str(tmp_path))
            await node.revoke(issued.grant.id)
            node.close()
        await end_of(stream.content)
        async with asyncio.timeout(WITHIN_S):
            await served.ticks.ended.wait()
        async with asyncio.timeout(WITHIN_S):
            for _ in range(20):  # more than are on their way
                assert await other.content.readline() == b"tick\n"


async def test_a_web_socket_ends_with_its_token(served: Served) -> None:
    issued, kept = await served.issue(), await served.issue()
    async with (
        aiohttp.ClientSession(served.url) as http,
        http.ws_connect("/socket", headers=bearer(issued.text)) as socket,
        http.ws_connect("/socket", headers=bearer(kept.text)) as other,
    ):
        await served.signed.revoke(issued.grant.id)
        async with asyncio.timeout(WITHIN_S):
            message = await socket.receive()
            assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
            await served.ticks.ended.wait()
        assert not other.closed


async def test_a_request_that_is_over_leaves_nothing_behind(served: Served) -> None:
    issued = await served.issue()
    async with aiohttp.ClientSession(served.url) as http:
        for _ in range(3):
            async with http.get("/ticks", headers=bearer(issued.text)) as stream:
                for _ in range(10):
                    await stream.content.readline()
            async with asyncio.timeout(WITHIN_S):
                await served.ticks.ended.wait()
            served.ticks.ended.clear()
    async with asyncio.timeout(WITHIN_S):
        while any(task.get_name() == "check token" for task in asyncio.all_tasks()):
            await asyncio.sleep(0.01)
