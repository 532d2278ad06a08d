"""Clients that follow the events of a server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jsonschema

from adapters.http.api.event_json import EVENT_SCHEMAS, LEVELS, MISSED, MISSED_SCHEMA
from adapters.http.api.levels import LEVELS_SCHEMA
from adapters.http.sse import LAST_EVENT_ID, ServerSent, read

_SCHEMAS = {**EVENT_SCHEMAS, MISSED: MISSED_SCHEMA, LEVELS: LEVELS_SCHEMA}
WAIT_S = 20.0


class Following:
    """One client; every event that it gets is valid by its schema."""

    def __init__(self, events: AsyncIterator[ServerSent]) -> None:
        self._events = events
        self.latest_id = ""

    async def next(self) -> tuple[str, Any]:
        """Wait for the next event; return its type and its data."""
        async with asyncio.timeout(WAIT_S):
            sent = await anext(self._events)
        self.latest_id = sent.id or self.latest_id
        data = json.loads(sent.data)
        checks = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.Draft202012Validator(_SCHEMAS[sent.event], format_checker=checks).validate(data)
        return sent.event, data

    async def wait_for(self, type_: str, **data: Any) -> Any:
        """Wait for an event of a type that has these values; return its data."""
        while True:
            found, has = await self.next()
            if found == type_ and data.items() <= has.items():
                return has

    async def end(self) -> None:
        """Wait until the server ends the stream."""
        async with asyncio.timeout(WAIT_S):
            async for _ in self._events:
                pass


@asynccontextmanager
async def following(
    http: aiohttp.ClientSession, url: str, *, last: str = "", token: str = "", **query: str
) -> AsyncIterator[Following]:
    """Follow the events; `last` is the id of the event behind which to go on."""
    headers = {LAST_EVENT_ID: last} if last else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    async with http.get(f"{url}/api/events", params=query, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")
        async with contextlib.aclosing(read(answer.content)) as events:
            yield Following(events)
