"""Requests that are for another worker process of this server reach it over a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import socket
from collections import Counter
from typing import Any

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict

from adapters.http.bodies import read_body
from adapters.http.routes import Handler
from domain.errors import NodeUnavailable
from domain.session.placement import Registrar, Share, owner_of, registrar_of

FORWARD_S = 10.0
HEALTH_S = 2.0
_AT_OWNER = "gapless-at-owner"
"""A header from worker to worker: it is settled whose the request is."""
_OURS = {
    "connection", "content-encoding", "content-length", "date", _AT_OWNER, "keep-alive", "origin",
    "te", "transfer-encoding", "upgrade", "vary",
}  # fmt: skip
"""Headers that are between this worker and whoever asks: hop by hop, the body's, and CORS."""


class Neighbours:
    """The workers of one server, each behind a socket in a folder that is theirs alone.

    Who accepts a connection is left to the kernel, so that most requests are for somebody else:
    ids and secrets name their worker; an offer names its registrar, who knows which worker takes
    it.
    """

    def __init__(self, share: Share, registrar: Registrar, folder: str | None) -> None:
        self._share = share
        self._registrar = registrar
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
        """Forward what is another worker's; raises `NodeUnavailable` when that one is not there."""
        if self._share.count == 1 or request.method == "OPTIONS":
            return await handler(request)
        is_forwarded = _is_forwarded(request)
        if request.path == "/health":
            own = await handler(request)
            return own if is_forwarded else await self._sum(own)
        if is_forwarded and _AT_OWNER in request.headers:
            return await handler(request)
        worker, is_owner = await self._worker(request)
        if worker == self._share.number:
            return await handler(request)
        try:
            return await self._forward(request, worker, is_owner=is_owner)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NodeUnavailable("a worker of this server is being started again") from error

    async def _worker(self, request: web.Request) -> tuple[int, bool]:
        """Whose a request is, or who knows that (False); ours where it says nothing of it.

        What is wrong with such a request can be told by any of us.
        """
        own, count = self._share.number, self._share.count
        found = request.match_info.get("id") or request.match_info.get("secret")
        if found is not None:
            return owner_of(found, count), True
        if request.method != "POST":
            return own, True
        data = await read_body(request)
        if request.path == "/whip":
            return self._taker(data.decode(errors="replace"))
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            return own, True
        if not isinstance(body, dict):
            return own, True
        is_offer = request.path == "/offer"
        known, offer = body.get("resume" if is_offer else "id"), body.get("sdp")
        if isinstance(known, str) and known:
            return owner_of(known, count), True
        return self._taker(offer) if is_offer and isinstance(offer, str) else (own, True)

    def _taker(self, offer: str) -> tuple[int, bool]:
        registrar = registrar_of(offer, self._share.count)
        if registrar != self._share.number:
            return registrar, False
        return self._registrar.taker_of(offer), True

    async def _forward(self, request: web.Request, worker: int, *, is_owner: bool) -> web.Response:
        headers = _passed_on(request.headers.items())
        if is_owner:
            headers[_AT_OWNER] = "yes"
        async with self._to(worker).request(
            request.method,
            f"http://worker{request.path_qs}",
            data=await read_body(request),
            headers=headers,
            allow_redirects=False,
        ) as answer:
            response = web.Response(status=answer.status, body=await answer.read())
            response.headers.clear()
            response.headers.extend(_passed_on(answer.headers.items()))
            return response

    async def _sum(self, own: web.StreamResponse) -> web.StreamResponse:
        """All workers' sessions; one that does not answer has none."""
        if not isinstance(own, web.Response) or own.status != 200 or not own.text:
            return own
        others = [n for n in range(self._share.count) if n != self._share.number]
        healths = [json.loads(own.text), *await asyncio.gather(*map(self._health, others))]
        there = [health for health in healths if health is not None]
        states: Counter[str] = Counter()
        for health in there:
            states.update(health["states"])
        total = {"sessions": sum(health["sessions"] for health in there), "states": states}
        own.text = json.dumps(there[0] | total)
        return own

    async def _health(self, worker: int) -> Any:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
            timeout = aiohttp.ClientTimeout(total=HEALTH_S)
            async with self._to(worker).get(
                "http://worker/health", timeout=timeout, headers={hdrs.HOST: "localhost"}
            ) as answer:
                return await answer.json() if answer.status == 200 else None
        return None

    def _to(self, worker: int) -> aiohttp.ClientSession:
        if worker not in self._sessions:
            self._sessions[worker] = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self._folder / f"{worker}.sock"), limit=0),
                timeout=aiohttp.ClientTimeout(total=FORWARD_S),
            )
        return self._sessions[worker]


def _is_forwarded(request: web.Request) -> bool:
    """Whether another worker has brought it: it is where it belongs."""
    assert request.transport is not None
    arrived = request.transport.get_extra_info("socket")
    return arrived is not None and arrived.family == socket.AF_UNIX


def _passed_on(headers: Any) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers if name.lower() not in _OURS)
