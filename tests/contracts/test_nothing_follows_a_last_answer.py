"""What comes behind a request on its connection: it is a request of its own, or it is nothing.

A reverse proxy sends the requests of many clients over one connection. If a body, or what follows a
last answer, were taken for requests, one client could send in the name of another.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import re
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from adapters.http.routes import Route
from adapters.http.tls import TlsFiles
from domain.errors import SessionUnknown
from domain.ports.placement import NewOffer, Node
from tests.fakes.http import FakeSessions, http_server
from tests.fakes.placement import FakePlacement
from tests.rigs.tls import self_signed, trusting_anybody

WAIT_S = 30.0
PIECE = 20_000
"""Bytes that arrive at once: more than a head may have, less than the server reads at once."""
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
OFFER = (
    b"POST /whip HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer token\r\n"
    b"Content-Type: application/sdp\r\n"
)
SMUGGLED = OFFER + b"Content-Length: 8\r\n\r\nsmuggled"
BODY = SMUGGLED * (2 * PIECE // len(SMUGGLED))


@dataclass
class Server:
    """One server, or two nodes of which the first one is asked."""

    url: str
    nodes: list[FakeSessions] = field(default_factory=list)
    tls: ssl.SSLContext | None = None

    def offers(self) -> list[str]:
        return [sdp for sessions in self.nodes for sdp, _ in sessions.offers]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        port = int(self.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=self.tls)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.fixture(params=["http", "https"])
async def alone(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> AsyncIterator[Server]:
    """A server that keeps connections open, unless a client does not want that."""
    sessions, secure = FakeSessions(), request.param == "https"
    tls = TlsFiles(*self_signed(tmp_path)) if secure else None
    server = http_server(sessions, token="token", tls=tls, more=[Streams()])
    yield Server(await server.start(), [sessions], trusting_anybody() if secure else None)
    await server.stop()


@pytest.fixture
async def pair() -> AsyncIterator[Server]:
    """Two nodes, which close a client's connection after each answer; one has the offer `there`."""
    with tempfile.TemporaryDirectory() as folder:  # names of Unix sockets have to be short
        here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
        nodes = [FakeSessions(), FakeSessions()]
        first, second = (
            http_server(sessions, token="token", placement=FakePlacement(own, other, elsewhere))
            for sessions, own, other, elsewhere in (
                (nodes[0], here, there, {NewOffer("there"): there}),
                (nodes[1], there, here, {}),
            )
        )
        await second.start()
        yield Server(await first.start(), nodes)
        await first.stop()
        await second.stop()


class Streams:
    """Routes whose handlers fail when their answer has begun."""

    def routes(self) -> list[Route]:
        return [
            Route("GET", f"/{name}", handler, role=None)
            for name, handler in (("refused", self._refused), ("failed", self._failed))
        ]

    async def _refused(self, request: web.Request) -> web.StreamResponse:
        await self._begin(request)
        raise SessionUnknown("there is no such session")

    async def _failed(self, request: web.Request) -> web.StreamResponse:
        await self._begin(request)
        raise ValueError("a fault of the handler")

    async def _begin(self, request: web.Request) -> None:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b"half of it")


async def head_of(reader: asyncio.StreamReader) -> bytes:
    """Read an answer; return its status line and headers."""
    async with asyncio.timeout(WAIT_S):
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = re.findall(rb"Content-Length: (\d+)", head)
        await reader.readexactly(int(length))
    return head


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes the connection; it may reset one on which more was sent."""
    found = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(WAIT_S):
            while chunk := await reader.read(65_536):
                found += chunk
    return found


def refused(*headers: bytes) -> bytes:
    """Write the head of a request that has no token, and is answered before its body."""
    head = OFFER.replace(b"Authorization: Bearer token\r\n", b"")
    return head + b"".join(header + b"\r\n" for header in headers) + b"\r\n"


def as_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


FRAMINGS = {
    "length": (b"Content-Length: %d" % len(BODY), (BODY[:-PIECE], BODY[-PIECE:])),
    "chunks": (
        b"Transfer-Encoding: chunked",
        (as_chunk(BODY[:-PIECE]), as_chunk(BODY[-PIECE:]) + b"0\r\n\r\n"),
    ),
}


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_the_end_of_a_body_that_was_refused_is_no_request(
    alone: Server, framing: str
) -> None:
    header, (first, last) = FRAMINGS[framing]
    async with alone.connected() as (reader, writer):
        writer.write(refused(header))
        assert b" 401 " in await head_of(reader)
        for piece in (first, last):
            writer.write(piece)
            await writer.drain()
            with pytest.raises(TimeoutError):  # it says nothing to that
                await asyncio.wait_for(reader.read(1), 0.2)
        writer.write(HEALTH)
        assert b" 200 " in await head_of(reader)
    assert alone.offers() == []


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_nothing_that_follows_a_last_answer_is_a_request(alone: Server, framing: str) -> None:
    header, (first, last) = FRAMINGS[framing]
    async with alone.connected() as (reader, writer):
        writer.write(refused(header, b"Connection: close"))
        assert b"Connection: close" in await head_of(reader)
        writer.write(first)
        writer.write(last + BODY[:1000])
        assert await rest_of(reader) == b""
    assert alone.offers() == []


@pytest.mark.parametrize("sdp", [b"here", b"there"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_node_that_forwards_takes_nothing_behind_a_request(
    pair: Server, sdp: bytes, framing: str
) -> None:
    if framing == "length":
        request = OFFER + b"Content-Length: %d\r\n\r\n%b" % (len(sdp), sdp)
    else:
        request = OFFER + b"Transfer-Encoding: chunked\r\n\r\n" + as_chunk(sdp) + b"0\r\n\r\n"
    async with pair.connected() as (reader, writer):
        writer.write(request + SMUGGLED)
        assert b" 201 " in await head_of(reader)
        assert await rest_of(reader) == b""
    assert pair.offers() == [sdp.decode()]


async def test_a_node_answers_a_body_that_is_too_long_once(pair: Server) -> None:
    size = 300_000
    async with pair.connected() as (reader, writer):
        writer.write(OFFER + b"Content-Length: %d\r\n\r\n" % size)
        writer.write(bytes(size - PIECE))
        assert b" 413 " in await head_of(reader)
        writer.write(bytes(PIECE))
        assert await rest_of(reader) == b""


@pytest.mark.parametrize("path", [b"/refused", b"/failed"])
async def test_an_answer_that_has_begun_is_cut_off_and_not_followed_by_another(
    alone: Server, path: bytes
) -> None:
    async with alone.connected() as (reader, writer):
        writer.write(HEALTH.replace(b"/health", path) + SMUGGLED)
        found = await rest_of(reader)
    assert found.count(b"HTTP/1.1") <= 1
    assert alone.offers() == []


AMBIGUOUS = {
    "two lengths": b"Content-Length: 8\r\nContent-Length: 0",
    "a list of lengths": b"Content-Length: 8, 0",
    "a length and chunks": b"Content-Length: 3\r\nTransfer-Encoding: chunked",
    "chunks and a length": b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    "a length with a sign": b"Content-Length: +0",
    "a length in other digits": b"Content-Length: 0x0",
    "chunks that are not last": b"Transfer-Encoding: chunked, identity",
    "chunks twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "a name with a space": b"Content-Length : 3\r\nContent-Length: 0",
    "a line that goes on": b"X: a\r\n Content-Length: 3",
    "a line with one end": b"X: a\nContent-Length: 0",
    "an end that is none": b"X: a\rContent-Length: 3",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_a_body_whose_end_is_not_certain_is_refused(alone: Server, name: str) -> None:
    async with alone.connected() as (reader, writer):
        writer.write(OFFER + AMBIGUOUS[name] + b"\r\n\r\n0\r\n\r\n" + SMUGGLED)
        found = await rest_of(reader)
    assert re.findall(rb"HTTP/1\.. (\d+)", found) == [b"400"]
    assert alone.offers() == []


@pytest.mark.parametrize(("expected", "status"), [(b"100-continue", 401), (b"something", 417)])
async def test_a_body_that_is_awaited_is_no_request(
    alone: Server, expected: bytes, status: int
) -> None:
    async with alone.connected() as (reader, writer):
        writer.write(refused(b"Expect: " + expected, b"Content-Length: %d" % len(SMUGGLED)))
        if status == 401:
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert b" %d " % status in await head_of(reader)
        writer.write(SMUGGLED + HEALTH)
        assert b" 200 " in await head_of(reader)
    assert alone.offers() == []
