"""Serves Gapless' signaling routes, so that the generator can connect to another recorder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def listen(*, offer: Handler, ice_candidate: Handler, end: Handler, more: str = "") -> None:
    """Serve forever on a free loopback port; print the address and `more`."""
    app = web.Application()
    app.router.add_post("/offer", offer)
    app.router.add_post("/ice-candidate", ice_candidate)
    app.router.add_delete("/sessions/{id}", end)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"listening on http://127.0.0.1:{runner.addresses[0][1]} {more}", flush=True)
    await asyncio.Event().wait()


def answer(sdp: str, session: str) -> web.Response:
    """Return an answer in Gapless' format."""
    body = {"sdp": sdp, "type": "answer", "id": session, "resume": "", "iceServers": []}
    return web.json_response(body)
