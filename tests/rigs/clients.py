"""A server and clients inside the test's own process, where everything can be counted."""

from __future__ import annotations

import asyncio
import gc
import pathlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from domain.ports.transport import PublisherConnection
from domain.settings import ClientSettings, ServerSettings
from entrypoints.container import ClientContainer, ServerContainer
from tests.fakes.observers import SeenByClient, SeenByServer

SETTLE_S = 10.0


@dataclass(frozen=True)
class Local:
    """A server in this process, with an HTTP client for it."""

    url: str
    container: ServerContainer
    seen: SeenByServer
    http: aiohttp.ClientSession

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        async with self.http.post(self.url + path, json=body) as response:
            return response.status, await response.json() if response.status != 204 else None

    def open_connection(self) -> PublisherConnection:
        """A client's connection that has not yet offered."""
        settings = ClientSettings(server=self.url, capture="tone")
        container = ClientContainer(settings=settings, observer=SeenByClient())
        connection: PublisherConnection = container.transport().open()
        return connection


@asynccontextmanager
async def local_server(**settings: Any) -> AsyncIterator[Local]:
    """A server that ticks, until the block is left."""
    seen = SeenByServer()
    container = ServerContainer(
        settings=ServerSettings(**({"port": 0, "storage": "memory"} | settings)), observer=seen
    )
    url = await container.signaling().start()
    ticking = asyncio.create_task(_tick(container))
    try:
        async with aiohttp.ClientSession() as http:
            yield Local(url, container, seen, http)
    finally:
        ticking.cancel()
        await container.ingest().shut_down()
        await container.signaling().stop()
        container.store().close()


async def _tick(container: ServerContainer) -> None:
    while True:
        container.ingest().tick()
        await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Held:
    """What a process holds on to."""

    tasks: int
    threads: int
    descriptors: int


async def held() -> Held:
    gc.collect()
    await asyncio.sleep(0)
    return Held(
        tasks=len(asyncio.all_tasks()),
        threads=threading.active_count(),
        descriptors=len(list(pathlib.Path("/proc/self/fd").iterdir())),
    )


async def settles_at(before: Held) -> None:
    """Wait until no more is held than `before`; what stays beyond `SETTLE_S` is a leak."""
    deadline = asyncio.get_running_loop().time() + SETTLE_S
    while True:
        now = await held()
        if (
            now.tasks <= before.tasks
            and now.threads <= before.threads
            and now.descriptors <= before.descriptors
        ):
            return
        if asyncio.get_running_loop().time() > deadline:
            tasks = [task.get_name() for task in asyncio.all_tasks()]
            raise AssertionError(f"held before {before}, now {now}: {tasks}")
        await asyncio.sleep(0.05)
