"""A client of the API reads long answers whole, or says that they are too long."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from adapters.http import api_client
from adapters.http.api_client import ApiClient
from adapters.http.calls import MAX_ANSWER_BYTES
from domain.errors import ServerRefused, WrongServer


@asynccontextmanager
async def answering(body: bytes, *, status: int = 200) -> AsyncIterator[ApiClient]:
    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_route("*", "/api/answer", handle)
    server = TestServer(app)
    await server.start_server()
    client = ApiClient(str(server.make_url("")))
    yield client
    await client.close()
    await server.close()


async def test_an_answer_of_many_parts_is_read_whole() -> None:
    parts = [{"number": number, "start_samples": number * 2_880_000} for number in range(20_000)]
    body = json.dumps(parts).encode()
    assert len(body) > 2 * MAX_ANSWER_BYTES
    async with answering(body) as client:
        assert await client.get("/api/answer") == parts


async def test_an_answer_that_is_too_long_is_no_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_client, "MAX_JSON_BYTES", 1000)
    async with answering(b"5" + b" " * 1000) as client:
        with pytest.raises(WrongServer, match="more than 1000 bytes"):
            await client.get("/api/answer")
    async with answering(b"5" + b" " * 999) as client:
        assert await client.get("/api/answer") == 5


async def test_a_long_refusal_is_a_refusal() -> None:
    async with answering(b"<p>" * MAX_ANSWER_BYTES, status=502) as client:
        with pytest.raises(ServerRefused, match="502"):
            await client.post("/api/answer", {})
