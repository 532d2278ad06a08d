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

from domain.ports.codec import EncodedPacket
from domain.ports.transport import IceCandidate, PublisherConnection
from domain.settings import ClientSettings, ServerSettings
from entrypoints.container import ClientContainer, ServerContainer
from tests.fakes.observers import SeenByClient, SeenByServer
from tests.rigs.sound import encode, speech

SETTLE_S = 10.0


@dataclass(frozen=True)
class Remote:
    """A server anywhere, with an HTTP client for it."""

    url: str
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


@dataclass(frozen=True)
class Local(Remote):
    """A server in this process, where everything can be looked at."""

    container: ServerContainer
    seen: SeenByServer


class Publishing:
    """A real client inside the test: offers, connects, sends what it is told to."""

    def __init__(self, server: Remote) -> None:
        self.server = server
        self.connection = server.open_connection()
        self.packets = encode(speech(1))
        self.sent = 0
        self.id = ""
        self.answer = ""

    async def start(self) -> None:
        status, body = await self.server.post("/offer", sdp=self.connection.offer_sdp, type="offer")
        assert status == 200
        self.id, self.answer = body["id"], body["sdp"]

        async def send(candidate: IceCandidate) -> None:
            status, _ = await self.server.post(
                "/ice-candidate", id=self.id, candidate=candidate.candidate
            )
            assert status == 204

        await self.connection.connect(self.answer, send)

    async def send(self, count: int) -> None:
        for _ in range(count):
            payload = self.packets[self.sent % len(self.packets)]
            await self.connection.send(EncodedPacket(payload, self.sent * 960))
            self.sent += 1

    async def close(self) -> None:
        await self.connection.close()


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
            yield Local(url, http, container, seen)
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
