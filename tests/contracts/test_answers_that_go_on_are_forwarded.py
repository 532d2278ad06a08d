"""Answers that go on reach the client of another node as they are made, and end as they do."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from adapters.http.routes import Route, key_in_path
from domain.errors import SessionUnknown
from domain.ports.placement import KnownSession, Node
from domain.session.roles import Role
from tests.fakes.http import FakeSessions, http_server
from tests.fakes.placement import FakePlacement

WAIT_S = 20.0


@dataclass
class Stream:
    """A route whose answer goes on until it is told to end."""

    words: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    written: int = 0
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    breaks_off: bool = False

    def routes(self) -> list[Route]:
        path = "/api/sessions/{id}/words"
        return [
            Route(
                "GET", path, self._get, role=Role.WATCH, session_key=key_in_path, is_streamed=True
            )
        ]

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["id"] == "unknown":
            raise SessionUnknown("there is no such session")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while (word := await self.words.get()) is not None:
                await response.write(word)
                self.written += len(word)
            if self.breaks_off and request.transport is not None:
                request.transport.abort()
        except ConnectionError:  # the client is gone
            pass
        finally:
            self.is_over.set()
        return response


@asynccontextmanager
async def streamed() -> AsyncIterator[tuple[str, aiohttp.ClientSession, Stream, Callable]]:
    """Two nodes: give the address of one, and a stream of the other, with what stops that one."""
    stream = Stream()
    with tempfile.TemporaryDirectory() as folder:
        here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
        elsewhere = dict.fromkeys((KnownSession("there"), KnownSession("unknown")), there)
        first = http_server(
            FakeSessions(), placement=FakePlacement(here, there, elsewhere), more=[Stream()]
        )
        second = http_server(
            FakeSessions(), placement=FakePlacement(there, here, {}), more=[stream]
        )
        url = await first.start()
        await second.start()
        async with aiohttp.ClientSession() as http:
            yield f"{url}/api/sessions", http, stream, second.stop
        await first.stop()
        await second.stop()


async def test_each_word_arrives_when_it_is_said() -> None:
    async with streamed() as (url, http, stream, _), http.get(f"{url}/there/words") as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        for word in (b"one", b"two", b"three"):
            stream.words.put_nowait(word)
            assert await answer.content.readexactly(len(word)) == word
        stream.words.put_nowait(None)
        assert await answer.content.read() == b""


async def test_a_refusal_is_passed_on() -> None:
    async with streamed() as (url, http, _, stop):
        async with http.get(f"{url}/unknown/words") as answer:
            assert (answer.status, answer.content_type) == (404, "application/problem+json")
            assert (await answer.json())["detail"] == "there is no such session"
        await stop()
        async with http.get(f"{url}/there/words") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


async def test_the_client_sees_when_a_node_breaks_off() -> None:
    async with streamed() as (url, http, stream, _):
        stream.breaks_off = True
        async with http.get(f"{url}/there/words") as answer:
            stream.words.put_nowait(b"one")
            assert await answer.content.readexactly(3) == b"one"
            stream.words.put_nowait(None)
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.content.read()
        stream.words.put_nowait(None)
        stream.breaks_off = False
        async with http.get(f"{url}/there/words") as answer:  # others are served on
            assert await answer.content.read() == b""


async def test_the_node_sees_that_a_client_has_gone() -> None:
    async with streamed() as (url, http, stream, _):
        async with http.get(f"{url}/there/words") as answer:
            stream.words.put_nowait(b"one")
            assert await answer.content.readexactly(3) == b"one"
            answer.close()
        async with asyncio.timeout(WAIT_S):
            while not stream.is_over.is_set():
                stream.words.put_nowait(b"more")
                await asyncio.sleep(0.01)


async def test_a_node_waits_for_a_client_that_does_not_read() -> None:
    async with streamed() as (url, http, stream, _), http.get(f"{url}/there/words") as answer:
        size, much = 1 << 20, 64
        for _ in range(much):
            stream.words.put_nowait(bytes(size))
        stream.words.put_nowait(None)
        written = -1
        async with asyncio.timeout(WAIT_S):
            while stream.written != written:  # until nothing more is taken
                written = stream.written
                await asyncio.sleep(0.3)
        assert written < much * size // 2
        received = 0
        async for chunk in answer.content.iter_any():
            received += len(chunk)
        assert received == much * size
