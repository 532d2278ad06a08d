"""A plain upload of a file over HTTP: what restoring is compared with.

``python -m benchmarks.peers.plain_upload serve FOLDER [HOST]`` prints its address and keeps what it
gets, synced, as `curl -T` would send it; ``… send URL FILE`` sends a file as fast as it can.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

_BLOCK = 1 << 16


async def serve(folder: pathlib.Path, host: str) -> None:
    async def keep(request: web.Request) -> web.Response:
        with (folder / "uploaded").open("wb") as file:
            async for block in request.content.iter_chunked(_BLOCK):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return web.Response(status=204)

    app = web.Application(client_max_size=1 << 40)
    app.router.add_put("/", keep)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, 0).start()
    print(f"listening on http://{host}:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


async def send(url: str, path: pathlib.Path) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block

    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.put(url, data=blocks()) as response,
    ):
        assert response.status == 204


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", target, *more]:
            asyncio.run(serve(pathlib.Path(target), more[0] if more else "127.0.0.1"))
        case ["send", url, source]:
            asyncio.run(send(url, pathlib.Path(source)))
