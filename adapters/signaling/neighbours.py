"""Requests that are for another worker process of this server reach it over a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
from collections import Counter
from typing import Any

import aiohttp
from aiohttp import hdrs, web

from adapters.signaling.http import Handler, error_response
from domain.ownership import Share, owner_of, taker_of

FORWARD_S = 30.0
HEALTH_S = 2.0
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"}
_HERE = "Gapless-Worker"
"""Set on a request that has been brought to its worker: it goes no further."""


class Neighbours:
    """The workers of one server, each behind a socket in a folder that is theirs alone.

    Who accepts a connection is left to the kernel, so that most requests are for somebody else:
    ids and secrets name their worker, an offer goes to the one that its own text names.
    """

    def __init__(self, share: Share, folder: str | None) -> None:
        self._share = share
        self._folder = pathlib.Path(folder or ".")
        self._sessions: dict[int, aiohttp.ClientSession] = {}

    @property
    def socket_path(self) -> str | None:
        """Where this worker listens for the others; None where there are none."""
        if self._share.count == 1:
            return None
        return str(self._folder / f"{self._share.number}.sock")

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    @web.middleware
    async def to_owner(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Forward what is another worker's; the answer goes back as it is."""
        if self._share.count == 1 or _HERE in request.headers:
            return await handler(request)
        if request.path == "/health" and request.method == "GET":
            return await self._sum(await handler(request))
        owner = await self._owner(request)
        if owner == self._share.number:
            return await handler(request)
        try:
            return await self._forward(request, owner)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return error_response(503, "the worker that has the session is being started again")

    async def _owner(self, request: web.Request) -> int:
        found = request.match_info.get("id") or request.match_info.get("secret")
        if found is not None:
            return owner_of(found, self._share.count)
        if request.method != "POST":
            return self._share.number
        try:
            text = await request.text()
            body = json.loads(text) if request.content_type == "application/json" else {}
        except (ValueError, LookupError, RecursionError, web.HTTPException, ConnectionError):
            return self._share.number  # whoever has it says what is wrong with it
        known = body.get("id") or body.get("resume") if isinstance(body, dict) else None
        if isinstance(known, str) and known:
            return owner_of(known, self._share.count)
        return taker_of(text, self._share.count)

    async def _forward(self, request: web.Request, owner: int) -> web.Response:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP
        }
        async with self._to(owner).request(
            request.method,
            f"http://worker{request.path_qs}",
            data=await request.read(),
            headers=headers | {_HERE: str(owner)},
            allow_redirects=False,
        ) as answer:
            body = await answer.read()
            response = web.Response(status=answer.status, body=body)
            response.headers.clear()
            for name, value in answer.headers.items():
                if name.lower() not in _HOP_BY_HOP and name != hdrs.DATE:
                    response.headers.add(name, value)
            return response

    async def _sum(self, own: web.StreamResponse) -> web.StreamResponse:
        """All workers' sessions; one that does not answer has none."""
        assert isinstance(own, web.Response)
        assert own.text is not None
        healths = [json.loads(own.text)]
        others = [n for n in range(self._share.count) if n != self._share.number]
        healths += [found for found in await asyncio.gather(*map(self._health, others)) if found]
        states: Counter[str] = Counter()
        for health in healths:
            states.update(health["states"])
        total = {"sessions": sum(health["sessions"] for health in healths), "states": states}
        own.text = json.dumps(healths[0] | total)
        return own

    async def _health(self, worker: int) -> Any:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
            timeout = aiohttp.ClientTimeout(total=HEALTH_S)
            headers = {_HERE: str(worker), hdrs.HOST: "localhost"}
            async with self._to(worker).get(
                "http://worker/health", timeout=timeout, headers=headers
            ) as answer:
                return await answer.json()
        return None

    def _to(self, worker: int) -> aiohttp.ClientSession:
        if worker not in self._sessions:
            self._sessions[worker] = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self._folder / f"{worker}.sock"), limit=0),
                timeout=aiohttp.ClientTimeout(total=FORWARD_S),
                auto_decompress=False,
            )
        return self._sessions[worker]
