"""The client's side of restoring, with the HTTP server and with servers that are none of ours."""

from __future__ import annotations

import asyncio
import datetime
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from adapters.http.calls import MAX_ANSWER_BYTES
from adapters.http.errors import answer_errors
from adapters.http.pieces import MAX_PIECE_BYTES
from adapters.http.restoring import HttpRestoring
from domain.errors import (
    CapturedInvalid,
    PieceInvalid,
    Refusal,
    ServerRefused,
    ServerUnreachable,
    SessionOver,
    WrongServer,
)
from domain.ports.restoring import PACED_BYTES, Confirmed, RestoringClient, Wanted
from domain.recording.ranges import Range
from domain.recording.restoring import Captured
from tests.fakes.http import FakeRestoring, FakeSessions, http_server

FLAC = b"fLaC" + bytes(range(256)) * 400
CAPTURED = Captured(5, "ab" * 32, (Range(1, 2),))


@dataclass
class Joined:
    client: RestoringClient
    server: FakeRestoring


@pytest.fixture
async def joined() -> AsyncIterator[Joined]:
    restoring = FakeRestoring({"session": "secret", "a/ä?": "secret"})
    server = http_server(FakeSessions(), restoring=restoring, token="token")
    client = HttpRestoring(await server.start() + "/")
    yield Joined(client, restoring)
    await client.close()
    await server.stop()


async def test_a_client_asks_what_is_wanted(joined: Joined) -> None:
    until = datetime.datetime(2026, 2, 1, tzinfo=datetime.UTC)
    joined.server.wants = Wanted([Range(0, 5), Range(9, 1)], "waiting", until)
    assert await joined.client.wanted("session", "secret") == joined.server.wants
    assert await joined.client.wanted("a/ä?", "secret") == joined.server.wants


async def test_pieces_arrive(joined: Joined) -> None:
    longest = bytes(MAX_PIECE_BYTES)
    for start, flac in ((0, FLAC), (2**53 - 1, b""), (5, longest)):
        await joined.client.put("session", "secret", start, flac)
    assert joined.server.pieces == [
        ("session", 0, FLAC), ("session", 2**53 - 1, b""), ("session", 5, longest),
    ]  # fmt: skip


async def test_a_paced_piece_is_sent_as_it_may_be(joined: Joined) -> None:
    allowed: list[int] = []

    async def pace(size: int) -> None:
        allowed.append(size)
        await asyncio.sleep(0)

    await joined.client.put("session", "secret", 0, FLAC, pace)
    assert joined.server.pieces == [("session", 0, FLAC)]
    assert sum(allowed) == len(FLAC)
    assert set(allowed[:-1]) == {PACED_BYTES}


async def test_what_was_captured_is_confirmed(joined: Joined) -> None:
    for confirmed in (
        Confirmed("complete", "cd" * 32, []),
        Confirmed("restoring", None, []),
        Confirmed("waiting", None, [Range(3, 4)]),
        Confirmed("live", None, []),
    ):
        joined.server.confirms = confirmed
        assert await joined.client.captured("session", "secret", CAPTURED) == confirmed
    assert joined.server.captures == [CAPTURED] * 4


async def test_a_client_may_be_closed_and_used_again(joined: Joined) -> None:
    for _ in range(2):
        await joined.client.put("session", "secret", 0, FLAC)
        await joined.client.close()
        await joined.client.close()
    assert len(joined.server.pieces) == 2


@pytest.mark.parametrize(
    ("session", "secret"), [("nobody", "secret"), ("session", "wrong"), ("session", "token")]
)
async def test_a_session_that_the_server_does_not_know_is_over(
    joined: Joined, session: str, secret: str
) -> None:
    for request in (
        joined.client.wanted(session, secret),
        joined.client.put(session, secret, 0, FLAC),
        joined.client.captured(session, secret, CAPTURED),
    ):
        with pytest.raises(SessionOver):
            await request


async def test_a_refusal_says_why_in_the_servers_words(joined: Joined) -> None:
    joined.server.refusal = PieceInvalid("this is no FLAC")
    with pytest.raises(ServerRefused, match=r"\(422\): this is no FLAC") as refused:
        await joined.client.put("session", "secret", 0, FLAC)
    assert refused.value.refusal is Refusal.FINAL
    joined.server.refusal = CapturedInvalid("it is not what was sent")
    with pytest.raises(ServerRefused, match=r"\(422\): it is not what was sent") as refused:
        await joined.client.captured("session", "secret", CAPTURED)
    assert refused.value.refusal is Refusal.FINAL


async def test_a_refusal_ends_a_piece_that_waits_for_its_pace(joined: Joined) -> None:
    never = asyncio.Event()
    sent = 0

    async def pace(size: int) -> None:
        nonlocal sent
        if sent > 4000:
            await never.wait()
        sent += size

    with pytest.raises(SessionOver):
        await joined.client.put("session", "wrong", 0, FLAC, pace)


# -- servers that are none of ours ---------------------------------------------------------------

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answered_by(handler: Handler) -> AsyncIterator[HttpRestoring]:
    app = web.Application(client_max_size=MAX_PIECE_BYTES)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    client = HttpRestoring(f"http://{host}:{port}")
    yield client
    await client.close()
    await runner.cleanup()


async def errors_of(client: HttpRestoring) -> list[Exception]:
    """Make each request, and return the errors."""
    errors: list[Exception] = []
    for request in (
        client.wanted("session", "secret"),
        client.put("session", "secret", 0, FLAC),
        client.captured("session", "secret", CAPTURED),
    ):
        try:
            await request
        except Exception as error:
            errors.append(error)
    return errors


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (302, Refusal.UNCLEAR),
        (401, Refusal.FINAL),
        (404, Refusal.FINAL),
        (413, Refusal.FINAL),
        (429, Refusal.TEMPORARY),
        (502, Refusal.TEMPORARY),
        (503, Refusal.TEMPORARY),
        (511, Refusal.UNCLEAR),
    ],
)
async def test_a_status_of_a_gateway_ends_no_session(status: int, refusal: Refusal) -> None:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        asked.append(request.path)
        headers = {"Location": "/elsewhere"} if status == 302 else {}
        return web.Response(status=status, text="<html>", headers=headers)

    async with answered_by(handle) as client:
        errors = await errors_of(client)
    assert [type(error) for error in errors] == [ServerRefused] * 3
    assert [error.refusal for error in errors if isinstance(error, ServerRefused)] == [refusal] * 3
    assert "/elsewhere" not in asked


@pytest.mark.parametrize(
    "answer",
    [
        (200, ""),
        (200, "<html>"),
        (200, "[]"),
        (200, '{"state": 5}'),
        (200, "[" * MAX_ANSWER_BYTES * 8),
        (202, "{}"),
    ],
    ids=["empty", "a page", "a list", "no state", "deep and endless", "accepted"],
)
async def test_an_answer_of_another_server_confirms_nothing(answer: tuple[int, str]) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=answer[0], text=answer[1])

    async with answered_by(handle) as client:
        errors = await errors_of(client)
    assert [type(error) for error in errors] == [WrongServer] * 3


async def test_a_server_that_is_too_old_refuses_and_does_not_end_the_session() -> None:
    server = TestServer(web.Application(middlewares=[answer_errors]))  # it has no such path
    await server.start_server()
    client = HttpRestoring(str(server.make_url("")))
    errors = await errors_of(client)
    await client.close()
    await server.close()
    assert [str(error) for error in errors] == ["the server is too old to fetch captured sound"] * 3
    assert [error.refusal for error in errors if isinstance(error, ServerRefused)] == [
        Refusal.FINAL
    ] * 3


async def test_a_conflict_that_says_nothing_of_the_state_confirms_nothing() -> None:
    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "conflict"}, status=409)

    async with answered_by(handle) as client:
        with pytest.raises(WrongServer):
            await client.captured("session", "secret", CAPTURED)


async def test_pieces_share_a_connection() -> None:
    connections: set[object] = set()

    async def handle(request: web.Request) -> web.StreamResponse:
        await request.read()
        connections.add(request.transport)
        return web.Response(status=204)

    async with answered_by(handle) as client:
        for start in range(5):
            await client.put("session", "secret", start, FLAC)
        assert len(connections) == 1


async def test_an_address_without_a_server_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = HttpRestoring(f"http://127.0.0.1:{taken.getsockname()[1]}")
        errors = await errors_of(client)
        await client.close()
    assert [type(error) for error in errors] == [ServerUnreachable] * 3


# -- slow and stopped networks -------------------------------------------------------------------


async def test_nothing_is_sent_before_its_pace_allows_it() -> None:
    """What has arrived is compared with what was allowed, each time that more is."""
    received = bytearray()
    arrived = asyncio.Event()
    allowed = 0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            received.extend(chunk)
            arrived.set()
        writer.close()

    async def pace(size: int) -> None:
        nonlocal allowed
        while allowed and len(body_of(received)) < allowed:  # all that was allowed has to come
            arrived.clear()
            await arrived.wait()
        assert len(body_of(received)) == allowed
        if allowed > 20_000:
            done.set()
            await asyncio.Event().wait()
        allowed += size

    done = asyncio.Event()
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    client = HttpRestoring(f"http://{host}:{port}")
    sending = asyncio.create_task(client.put("session", "secret", 0, FLAC, pace))
    async with asyncio.timeout(20):
        await done.wait()
    assert body_of(received) == FLAC[:allowed]
    sending.cancel()
    await asyncio.wait({sending})
    await client.close()
    server.close()
    await server.wait_closed()


def body_of(received: bytearray) -> bytes:
    return bytes(received).partition(b"\r\n\r\n")[2]


async def test_a_pace_may_wait_for_longer_than_a_network_may(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.http.restoring.STALL_S", 0.2)
    waits = iter([0.5, 0.0])

    async def pace(_size: int) -> None:
        await asyncio.sleep(next(waits, 0.0))

    await joined.client.put("session", "secret", 0, FLAC, pace)
    assert joined.server.pieces == [("session", 0, FLAC)]


async def test_a_network_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.http.restoring.STALL_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts and never reads
        client = HttpRestoring(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ServerUnreachable, match="takes nothing of what is sent"):
            await client.put("session", "secret", 0, bytes(MAX_PIECE_BYTES))
        await client.close()


async def test_little_of_a_paced_piece_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.http.restoring.STALL_S", 0.3)
    allowed = 0

    async def pace(size: int) -> None:
        nonlocal allowed
        allowed += size

    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = HttpRestoring(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ServerUnreachable, match="takes nothing of what is sent"):
            await client.put("session", "secret", 0, bytes(MAX_PIECE_BYTES), pace)
        await client.close()
    assert allowed < 40_000


async def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_read=0.3)
    monkeypatch.setattr("adapters.http.restoring._TIMEOUT", timeout)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = HttpRestoring(f"http://127.0.0.1:{silent.getsockname()[1]}")
        errors = await errors_of(client)
        await client.close()
    assert [type(error) for error in errors] == [ServerUnreachable] * 3
    assert all(str(error).endswith("within 0.3 s") for error in errors)
