"""The client's side of messages to the speaker: server-sent events over HTTP."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import AsyncIterator

import aiohttp

from adapters.http import sse
from adapters.http.calls import ServerCalls, bearer
from domain.errors import WrongServer
from domain.ports.messages import IncomingMessage

SILENT_S = 4 * sse.HEARTBEAT_S
"""A server that says nothing for so long is not there any more."""
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=SILENT_S)


class HttpMessages:
    """Gets the messages of a Gapless server; a `MessageClient`."""

    def __init__(self, server: str, *, fingerprint: bytes | None = None) -> None:
        """`fingerprint` is as for `ServerCalls`."""
        self._calls = ServerCalls(server, fingerprint=fingerprint)

    async def listen(
        self, session_id: str, secret: str, *, after: str = ""
    ) -> AsyncIterator[IncomingMessage]:
        path = f"/sessions/{urllib.parse.quote(session_id, safe='')}/messages"
        headers = bearer(secret) | ({sse.LAST_EVENT_ID: after} if after else {})
        async with self._calls.opened("GET", path, headers=headers, timeout=_TIMEOUT) as answer:
            if answer.content_type != sse.MEDIA_TYPE:  # such as a portal that answers everything
                raise WrongServer(f"{self._calls.server} is not a Gapless server")
            try:
                async for event in sse.read(answer.content):
                    if event.event == "message":
                        yield IncomingMessage(event.id, str(json.loads(event.data)["text"]))
            except (ValueError, KeyError, TypeError) as error:
                raise WrongServer(f"{self._calls.server} is not a Gapless server") from error

    async def close(self) -> None:
        await self._calls.close()
