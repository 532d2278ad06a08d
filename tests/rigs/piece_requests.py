"""A server whose sessions want captured sound, and requests of their clients."""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from domain.ports.placement import KnownSession, Node
from domain.session.roles import ALL_ROLES
from tests.fakes.http import FakeRestoring, FakeSessions, http_server
from tests.fakes.placement import FakePlacement

FLAC = b"fLaC" + bytes(range(256)) * 400
SHA256 = "ab" * 32
SECRETS = {"session": "secret", "other": "other secret"}


@dataclass
class Requests:
    """A server, and requests to it."""

    url: str
    http: aiohttp.ClientSession
    restoring: FakeRestoring

    async def send(
        self, method: str, path: str, *, bearer: str | None = "secret", **request: Any
    ) -> tuple[int, Any, Any]:
        headers = request.pop("headers", {})
        if bearer is not None:
            headers = headers | {"Authorization": f"Bearer {bearer}"}
        async with self.http.request(
            method, self.url + path, headers=headers, **request
        ) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None, response.headers

    async def put(
        self, data: Any = FLAC, *, start: Any = 0, session: str = "session", **headers: Any
    ) -> tuple[int, Any]:
        """Send a piece; headers are named with underscores, and None leaves one out."""
        bearer = headers.pop("bearer", SECRETS.get(session))
        body = data if isinstance(data, bytes) else FLAC
        given = {"Content_Type": "audio/flac", "Content_Digest": digest(body)} | headers
        sent = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
        status, answer, _ = await self.send(
            "PUT", f"/sessions/{session}/sound/{start}", bearer=bearer, data=data, headers=sent
        )
        return status, answer

    async def captured(self, body: Any) -> tuple[int, Any]:
        status, answer, _ = await self.send("POST", "/sessions/session/captured", json=body)
        return status, answer


def digest(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


@asynccontextmanager
async def served(*, other_node: bool = False) -> AsyncIterator[Requests]:
    """Serve sessions here, or on another node that all requests go through.

    The test is a reverse proxy.
    """
    restoring = FakeRestoring(SECRETS)
    tokens = {"token": ALL_ROLES}
    async with aiohttp.ClientSession() as http:
        if not other_node:
            server = http_server(
                FakeSessions(), tokens=tokens, restoring=restoring, trusted_proxies=("127.0.0.1",)
            )
            yield Requests(await server.start(), http, restoring)
            await server.stop()
            return
        with tempfile.TemporaryDirectory() as folder:  # names of Unix sockets have to be short
            here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
            elsewhere = {KnownSession(session): there for session in (*SECRETS, "nobody")}
            placement = FakePlacement(here, there, elsewhere)
            first = http_server(
                FakeSessions(), tokens=tokens, placement=placement, trusted_proxies=("127.0.0.1",)
            )
            second = http_server(
                FakeSessions(),
                tokens=tokens,
                placement=FakePlacement(there, here, {}),
                restoring=restoring,
            )
            url = await first.start()
            await second.start()
            yield Requests(url, http, restoring)
            await first.stop()
            await second.stop()


async def in_chunks(body: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]
