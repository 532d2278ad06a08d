"""Connections that do nothing, or nearly nothing: when they are closed, and for whom."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import errno
import gc
import logging
import pathlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from adapters.http import connections, listener
from adapters.http.connections import HttpConnection
from adapters.http.server import ConnectionLimits, SignalingServer
from adapters.http.tls import TlsFiles
from tests.fakes.http import FakeSessions, http_server
from tests.rigs.idle import client_hello
from tests.rigs.requests import get, post
from tests.rigs.tls import self_signed, trusting_anybody

SOON_S = 0.2
WAIT_S = 30.0
KEPT = get(b"/health", b"localhost").replace(b"Connection: close\r\n", b"")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all deadlines of connections pass soon."""
    for module, names in (
        (connections, ("HEAD_S", "SEND_S", "CLOSE_S")),
        (listener, ("FIRST_BYTE_S", "HANDSHAKE_S", "REFUSAL_S")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, SOON_S)
    monkeypatch.setattr(listener, "SWEEP_S", SOON_S / 4)


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[tuple[str, int]]:
    server = http_server(FakeSessions(), token="token", **options)
    async with started(server) as address:
        yield address


@asynccontextmanager
async def started(server: SignalingServer) -> AsyncIterator[tuple[str, int]]:
    port = int((await server.start()).rpartition(":")[2])
    try:
        yield "127.0.0.1", port
    finally:
        await server.stop()


@asynccontextmanager
async def connected(
    address: tuple[str, int], source: str = "127.0.0.1", **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*address, local_addr=(source, 0), **options)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """Read until the other end closes the connection."""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(WAIT_S):
            return await reader.read()
    return b""


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """Read the head of an answer, and its body."""
    async with asyncio.timeout(WAIT_S):
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (
            int(line.split(b":")[1]) for line in head.splitlines() if b"Content-Length" in line
        )
        return head + await reader.readexactly(length)


@pytest.mark.usefixtures("impatient")
async def test_the_head_of_a_request_has_a_deadline() -> None:
    async with running() as address, connected(address) as (reader, _):
        assert await all_of(reader) == b""
    async with running() as address, connected(address) as (reader, writer):
        writer.write(KEPT[:20])
        assert (await all_of(reader)).startswith(b"HTTP/1.1 408 Request Timeout")
    async with running() as address, connected(address) as (reader, writer):
        writer.write(KEPT)
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 200")
        writer.write(KEPT[:20])
        assert (await all_of(reader)).startswith(b"HTTP/1.1 408 Request Timeout")


@pytest.mark.usefixtures("impatient")
async def test_a_byte_now_and_then_prolongs_nothing() -> None:
    async with running() as address, connected(address) as (reader, writer):
        reading = asyncio.create_task(all_of(reader))
        for byte in b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 1000:
            writer.write(bytes([byte]))
            done, _ = await asyncio.wait({reading}, timeout=SOON_S / 10)
            if done:
                break
        assert (await reading).startswith(b"HTTP/1.1 408")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sent", [b"", b"\x16", client_hello()])
async def test_a_handshake_has_a_deadline(sent: bytes, tmp_path: pathlib.Path) -> None:
    async with (
        running(tls=TlsFiles(*self_signed(tmp_path))) as address,
        connected(address) as (reader, writer),
    ):
        writer.write(sent)
        answer = await all_of(reader)
        assert bool(answer) == (len(sent) > 1)  # the ServerHello
        async with connected(address, ssl=trusting_anybody()) as (reader, writer):
            assert await all_of(reader) == b""  # no request after the handshake
        async with connected(address, ssl=trusting_anybody()) as (reader, writer):
            writer.write(KEPT)
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 200")


@asynccontextmanager
async def unread(
    folder: pathlib.Path, *, secure: bool, **options: Any
) -> AsyncIterator[tuple[str, int]]:
    """Run a server, and ask it for an answer without an end, which is not read."""
    tls = TlsFiles(*self_signed(folder)) if secure else None
    server = http_server(FakeSessions(), tls=tls, **options)
    begun = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        begun.set()
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(bytes(65_536))
        return response

    make_application = server.make_application

    def with_endless() -> web.Application:
        app = make_application()
        app.router.add_get("/endless", endless)
        return app

    server.make_application = with_endless  # type: ignore[method-assign]
    context = trusting_anybody() if secure else None
    async with started(server) as address, connected(address, ssl=context) as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(KEPT.replace(b"/health", b"/endless"))
        await asyncio.wait_for(begun.wait(), WAIT_S)
        yield address


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("secure", [False, True])
async def test_an_answer_that_nobody_reads_does_not_stay(
    secure: bool, tmp_path: pathlib.Path
) -> None:
    earlier = all_of_kind(HttpConnection)
    async with unread(tmp_path, secure=secure):
        await no_connection_is_left_but(earlier)


@pytest.mark.parametrize("secure", [False, True])
async def test_whoever_reads_no_answer_gives_way(secure: bool, tmp_path: pathlib.Path) -> None:
    context = trusting_anybody() if secure else None
    async with unread(tmp_path, secure=secure, limits=ConnectionLimits(total=1)) as address:
        await asyncio.sleep(SOON_S)  # until the buffers on the way are full
        async with connected(address, ssl=context) as (reader, writer):
            writer.write(KEPT)
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 200")


async def no_connection_is_left_but(earlier: list[Any]) -> None:
    """Wait until no connection is left; those of other tests may live as long as their fakes."""
    async with asyncio.timeout(WAIT_S):
        while len(all_of_kind(HttpConnection)) > len(earlier):
            await asyncio.sleep(SOON_S / 4)


def all_of_kind(kind: type) -> list[Any]:
    """Return the objects of a type, also those that await the collector."""
    return [item for item in gc.get_objects() if isinstance(item, kind)]


async def test_a_head_has_a_length() -> None:
    async with running() as address, connected(address) as (reader, writer):
        for letter in b"abc":
            writer.write(b"GET / HTTP/1.1\r\n" if letter == b"a"[0] else b"")
            writer.write(bytes([letter]) + b": " + b"x" * 8000 + b"\r\n")
        assert (await all_of(reader)).startswith(b"HTTP/1.1 431")


async def test_an_address_at_its_limit_loses_its_own_connections() -> None:
    limits = ConnectionLimits(total=100, per_address=3)
    async with (
        running(host="0.0.0.0", limits=limits) as address,
        contextlib.AsyncExitStack() as opened,
    ):
        other, _ = await opened.enter_async_context(connected(address, "127.0.0.2"))
        ends = [await opened.enter_async_context(connected(address, "127.0.0.3")) for _ in range(5)]
        for reader, _ in ends[:2]:
            assert await all_of(reader) == b""
        for reader, writer in ends[2:]:
            writer.write(KEPT)
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 200")
        assert not other.at_eof()
        proxied, writer = await opened.enter_async_context(connected(address, "127.0.0.2"))
        writer.write(KEPT)
        assert (await answer_of(proxied)).startswith(b"HTTP/1.1 200")


async def test_proxies_and_loopback_servers_have_no_limit_by_address() -> None:
    limits = ConnectionLimits(total=100, per_address=1)
    for options in (
        {"host": "127.0.0.1"},
        {"host": "0.0.0.0", "trusted_proxies": ("127.0.0.1",)},
    ):
        async with (
            running(limits=limits, **options) as address,
            contextlib.AsyncExitStack() as opened,
        ):
            ends = [await opened.enter_async_context(connected(address)) for _ in range(5)]
            for reader, writer in ends:
                writer.write(KEPT)
                assert (await answer_of(reader)).startswith(b"HTTP/1.1 200")


async def test_a_full_server_says_so_when_all_are_busy(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "SWEEP_S", 0.05)
    body = post(
        "/offer", b"{}", "application/json", "Authorization: Bearer token", "Expect: 100-continue"
    )
    async with (
        running(limits=ConnectionLimits(total=2)) as address,
        connected(address) as (first, slow),
        connected(address) as (second, slower),
    ):
        for reader, writer in ((first, slow), (second, slower)):
            writer.write(body[:-1])
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        async with connected(address) as (reader, writer):
            writer.write(KEPT)
            answer = await answer_of(reader)
            assert answer.startswith(b"HTTP/1.1 503")
        assert b"\r\nRetry-After: 5\r\n" in answer
        assert b'{"error": "the server has as many connections as it may have"}' in answer
        slow.write(body[-1:])
        assert (await answer_of(first)).startswith(b"HTTP/1.1 400")
        async with connected(address) as (reader, writer):
            writer.write(KEPT)
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(WAIT_S):
            while not caplog.records:
                await asyncio.sleep(0.05)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "1 were refused" in caplog.text


async def test_a_server_without_descriptors_recovers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PAUSE_S", 0.05)
    monkeypatch.setattr(listener, "SWEEP_S", 0.05)
    failures = [OSError(errno.EMFILE, "none"), OSError(errno.ENFILE, "none")]
    accept = socket.socket.accept

    def failing(self: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return accept(self)

    async with running() as address, connected(address) as (idle, writer):
        writer.write(KEPT)
        await answer_of(idle)
        monkeypatch.setattr(socket.socket, "accept", failing)
        async with connected(address) as (reader, writer):
            writer.write(KEPT)
            assert (await answer_of(reader)).startswith(b"HTTP/1.1 200")
        assert await all_of(idle) == b""
        async with asyncio.timeout(WAIT_S):
            while not caplog.records:
                await asyncio.sleep(0.05)
    (record,) = caplog.records
    assert "no descriptor was left" in record.getMessage()
    assert record.exc_info is None


MALFORMED = {
    "a chunk after the answer": (
        post("/offer", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"),
        b"no length of a chunk\r\n",
    ),
    "a chunk of a body that is read": (
        post("/offer", b"", "application/json", "Authorization: Bearer token").replace(
            b"Content-Length: 0", b"Transfer-Encoding: chunked"
        ),
        b"no length of a chunk\r\n",
    ),
    "a second request": (KEPT, b"\x00\xff\r\n\r\n"),
    "an upgrade": (
        KEPT.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        b"\x00\xff" * 1000,
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_requests_write_no_traceback(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, then = MALFORMED[name]
    first = first.replace(b"Connection: close\r\n", b"")
    async with running() as address, connected(address) as (reader, writer):
        writer.write(first)
        if b"Bearer" not in first:
            await answer_of(reader)
        else:
            await asyncio.sleep(0.1)  # until the handler reads the body
        writer.write(then)
        writer.write_eof()
        await all_of(reader)
    assert caplog.records == []


async def _leave(address: tuple[str, int], sent: bytes, context: ssl.SSLContext | None) -> None:
    async with connected(address, ssl=context) as (reader, writer):
        writer.write(sent)
        if sent == KEPT:
            await answer_of(reader)
        elif sent:
            await all_of(reader)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("secure", [False, True])
async def test_connections_are_freed_without_the_collector(
    secure: bool, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = TlsFiles(*self_signed(tmp_path)) if secure else None
    context = trusting_anybody() if secure else None
    ways: list[Callable[[tuple[str, int]], Any]] = [
        lambda address: _leave(address, KEPT, context),
        lambda address: _leave(address, b"", context),
        lambda address: _leave(address, KEPT[:9], context),
        lambda address: _leave(address, b"\x00\xff\r\n\r\n", context),
        lambda address: _leave(address, post("/offer", b"{}"), context),
    ]
    if secure:
        ways += [
            lambda address: _leave(address, b"\x16", None),
            lambda address: _leave(address, b"no handshake", None),
            lambda address: _leave(address, client_hello(), None),
        ]
    gc.collect()  # what earlier tests have left
    earlier = all_of_kind(HttpConnection)
    async with running(tls=tls, limits=ConnectionLimits(total=2)) as address:
        gc.disable()
        try:
            for way in ways:
                await asyncio.gather(*[way(address) for _ in range(10)], return_exceptions=True)
            await no_connection_is_left_but(earlier)
            left = all_of_kind(asyncio.sslproto.SSLProtocol)
            assert [item for item in left if item._server_side] == []
            assert [item.name for item in caplog.records if item.name != "gapless"] == []
        finally:
            gc.enable()
