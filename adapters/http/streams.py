"""Ends answers that go on, such as events and sound, when the token of their request has ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from domain.errors import StorageFailed
from domain.services.server.tokens import TokenService
from domain.session.grants import Grant

CHECK_S = 1.0
"""How often the token of an answer that goes on is looked up."""


@contextlib.asynccontextmanager
async def ended_with_token(
    request: web.Request, grant: Grant | None, tokens: TokenService
) -> AsyncIterator[None]:
    """Close the connection of a request that is answered in this block when its token ends.

    To the handler it looks as if the client had gone.
    """
    if grant is None:
        yield
        return
    loop = asyncio.get_running_loop()
    checks: set[asyncio.Task[None]] = set()

    def begin() -> None:  # most requests are over before
        checks.add(loop.create_task(_close_when_over(request, grant, tokens), name="check token"))

    timer = loop.call_later(CHECK_S, begin)
    try:
        yield
    finally:
        timer.cancel()
        for check in checks:
            check.cancel()


async def _close_when_over(request: web.Request, grant: Grant, tokens: TokenService) -> None:
    while True:
        with contextlib.suppress(StorageFailed):  # it may be readable again
            if not await tokens.is_valid(grant):
                break
        await asyncio.sleep(CHECK_S)
    if request.transport is not None:
        request.transport.abort()
