"""Asks the API of a server, and checks each answer against the document that describes it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from jsonschema import Draft202012Validator

from adapters.http.api.document import DocumentHandlers
from adapters.http.routes import Handlers
from domain.session.roles import Role
from tests.fakes.http import FakeSessions, http_server

TOKENS = {role: f"the token for {role.value}" for role in Role}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    """A client that believes no answer that the document does not describe."""

    def __init__(self, url: str, http: aiohttp.ClientSession, document: Mapping[str, Any]) -> None:
        self.url = url
        self.http = http
        self.document = document

    async def ask(
        self,
        method: str,
        path: str,
        *,
        role: Role = Role.WATCH,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request, and check the answer by its description."""
        given = {"Authorization": f"Bearer {TOKENS[role]}", **(headers or {})}
        async with self.http.request(method, self.url + path, headers=given) as response:
            answer = Answer(response.status, response.headers.copy(), await response.read())
        if method != "HEAD":
            self._check(method, path.partition("?")[0], answer)
        return answer

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, headers=headers)

    def _check(self, method: str, path: str, answer: Answer) -> None:
        described = self._operation(method, path)["responses"][str(answer.status)]
        media_type = answer.headers.get("Content-Type", "").partition(";")[0]
        if "content" not in described:
            assert answer.body == b""
            return
        schema = described["content"][media_type]["schema"]
        if media_type.endswith("json"):
            components = {"components": self.document["components"]}
            validator = Draft202012Validator(
                {**components, **schema}, format_checker=Draft202012Validator.FORMAT_CHECKER
            )
            validator.validate(answer.json)

    def _operation(self, method: str, path: str) -> Any:
        for template, operations in self.document["paths"].items():
            wanted, found = template.split("/"), path.split("/")
            if len(wanted) == len(found) and all(
                one == other or one.startswith("{")
                for one, other in zip(wanted, found, strict=True)
            ):
                return operations[method.lower()]
        raise AssertionError(f"{path} is not in the document")


@asynccontextmanager
async def api_of(handlers: Sequence[Handlers], **options: Any) -> AsyncIterator[Api]:
    """Serve the routes of handlers, with a token for each role."""
    document = DocumentHandlers(route for group in handlers for route in group.routes())
    tokens = {text: frozenset({role}) for role, text in TOKENS.items()}
    server = http_server(FakeSessions(), tokens=tokens, more=[*handlers, document], **options)
    url = await server.start()
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as http:
            async with http.get(f"{url}/api/openapi.json") as response:
                found = await response.json()
            yield Api(url, http, found)
    finally:
        await server.stop()
