"""The OpenAPI document, and the errors of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from adapters.http.api.document import DocumentHandlers
from adapters.http.operations import Content, Operation, Parameter
from adapters.http.routes import Route
from domain.errors import RecordingUnknown
from domain.session.roles import Role
from tests.fakes.http import FakeSessions, http_server

THING = {"title": "Thing", "type": "object", "properties": {"a": {"type": "integer"}}}
ADMIN, WATCHER = "an administrator", "a watcher"


async def _unknown(_request: web.Request) -> web.StreamResponse:
    raise RecordingUnknown("there is no thing")


class _Things:
    def routes(self) -> list[Route]:
        operation = Operation(
            name="getThing",
            tag="things",
            summary="A thing",
            answers={200: Content(text="The thing.", schema=THING)},
            parameters=[Parameter(name="kind", text="Of which kind.")],
            problems=[404],
        )
        path = "/api/things/{id}"
        return [Route("GET", path, _unknown, role=Role.WATCH, operation=operation)]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    roles = {ADMIN: frozenset({Role.ADMIN}), WATCHER: frozenset({Role.WATCH})}
    handlers = [_Things(), DocumentHandlers(_Things().routes())]
    server = http_server(FakeSessions(), tokens=roles, more=handlers)
    yield await server.start()
    await server.stop()


async def _get(url: str, **headers: str) -> tuple[int, str, Any]:
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        return answer.status, answer.content_type, await answer.json()


async def test_everybody_may_read_the_document(url: str) -> None:
    status, media_type, document = await _get(f"{url}/api/openapi.json")
    assert (status, media_type) == (200, "application/json")
    thing = document["paths"]["/api/things/{id}"]["get"]
    assert [(p["name"], p["in"], p["required"]) for p in thing["parameters"]] == [
        ("id", "path", True), ("kind", "query", False),
    ]  # fmt: skip
    assert thing["responses"]["200"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Thing"
    }
    assert {"401", "403", "404", "429", "503"} < thing["responses"].keys()
    assert document["components"]["schemas"].keys() == {"Problem", "Thing"}


@pytest.mark.parametrize(
    ("path", "token", "status", "detail"),
    [
        ("/api/things/1", WATCHER, 404, "there is no thing"),
        ("/api/things/1", "", 401, "a bearer token is needed, and this one is wrong"),
        ("/api/nothing", ADMIN, 404, "404: Not Found"),
    ],
)
async def test_refusals_of_the_api_are_problems(
    url: str, path: str, token: str, status: int, detail: str
) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    found = await _get(f"{url}{path}", **headers)
    assert found[:2] == (status, "application/problem+json")
    assert found[2]["detail"] == detail
    assert (found[2]["status"], found[2]["type"]) == (status, "about:blank")
