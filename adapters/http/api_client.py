"""The other end of the API: what commands ask of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import aiohttp

from adapters.http.calls import Response, ServerCalls, checked
from domain.errors import WrongServer

SILENT_S = 60.0
"""How long an answer that goes on may bring nothing."""
MAX_JSON_BYTES = 64 << 20
"""Of an answer: a page of recordings with thousands of parts each has some megabytes."""
MAX_MESSAGE_BYTES = 1 << 20
"""Of what a server sends over a WebSocket."""


class ApiClient:
    """Sends requests to the API of one server.

    All of them raise `ServerUnreachable`, `WrongServer` and `ServerRefused`, with the reason that
    the server gives. Paths begin with ``/api``; a query leaves out what is None.
    """

    def __init__(
        self, server: str, *, token: str | None = None, fingerprint: bytes | None = None
    ) -> None:
        self._calls = ServerCalls(server, token=token, fingerprint=fingerprint)

    async def get(self, path: str, **query: object) -> Any:
        """Return the JSON of an answer."""
        return self._json(
            await self._calls.call("GET", path + _query(query), max_bytes=MAX_JSON_BYTES)
        )

    async def post(self, path: str, body: object) -> Any:
        """Send JSON; return the JSON of the answer, or None if it has no body."""
        return self._json(await self._calls.call("POST", path, json=body))

    async def delete(self, path: str) -> None:
        checked(await self._calls.call("DELETE", path))

    @asynccontextmanager
    async def stream(
        self, path: str, *, headers: dict[str, str] | None = None, **query: object
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open an answer of any length; its status is a success."""
        async with self._calls.opened(
            "GET",
            path + _query(query),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, connect=10.0, sock_read=SILENT_S),
        ) as response:
            yield response

    @asynccontextmanager
    async def websocket(
        self, path: str, **query: object
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket; pings are answered while messages are read."""
        async with self._calls.websocket(
            path + _query(query), max_message_bytes=MAX_MESSAGE_BYTES
        ) as socket:
            yield socket

    async def close(self) -> None:
        await self._calls.close()

    def _json(self, response: Response) -> Any:
        text = checked(response).text
        try:
            return response.json() if text else None
        except ValueError as error:
            raise WrongServer(f"{self._calls.server} did not answer with JSON") from error


def _query(values: dict[str, object]) -> str:
    given = {name: value for name, value in values.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""
