"""A server and clients inside the test process, where tests can inspect them."""

from __future__ import annotations

import asyncio
import gc
import pathlib
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from domain.ports.signaling import ClientConnection
from domain.rtp.packetizer import Packetizer
from domain.session.ice import IceCandidate
from entrypoints.client_settings import ClientSettings
from entrypoints.container import ClientContainer, ServerContainer
from entrypoints.settings import ServerSettings
from tests.fakes.events import SeenByClient, SeenByServer
from tests.rigs.sound import encode, speech

RELEASE_S = 10.0


@dataclass(frozen=True)
class Remote:
    """A server in any process, with an HTTP client for it."""

    url: str
    http: aiohttp.ClientSession

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        async with self.http.post(self.url + path, json=body) as response:
            return response.status, await response.json() if response.status != 204 else None

    def open_connection(self) -> ClientConnection:
        """Create a client connection whose offer has not been sent yet."""
        settings = ClientSettings(server=self.url, capture="tone")
        container = ClientContainer(settings=settings, events=SeenByClient())
        connection: ClientConnection = container.transport().open()
        return connection


@dataclass(frozen=True)
class Local(Remote):
    """A server in this process, with its container and events."""

    container: ServerContainer
    seen: SeenByServer


class Publishing:
    """A real client inside the test, which connects and sends when told to."""

    def __init__(self, server: Remote) -> None:
        self.server = server
        self.connection = server.open_connection()
        self.packets = encode(speech(1))
        self.packetizer = new_packetizer()
        self.sent = 0
        self.id = ""
        self.resume = ""
        self.answer = ""

    async def start(self) -> None:
        status, body = await self.server.post(
            "/offer", sdp=self.connection.offer_sdp, type="offer", resume=self.resume
        )
        assert status == 200, body
        self.id, self.resume, self.answer = body["id"], body["resume"], body["sdp"]
        await self.connect(self.answer)

    async def connect(self, answer: str) -> None:
        async def send(candidate: IceCandidate) -> None:
            status, _ = await self.server.post(
                "/ice-candidate", id=self.id, candidate=candidate.candidate
            )
            assert status == 204

        await self.connection.connect(answer, ice_servers=(), send_candidate=send)

    def send(self, count: int) -> None:
        for _ in range(count):
            self.send_payload(self.packets[self.sent % len(self.packets)])

    def send_payload(self, payload: bytes) -> None:
        self.connection.send(self.packetizer.packet(payload, self.sent * 960))
        self.sent += 1

    async def come_back(self) -> None:
        """Connect again for the same session, and drop the old connection without a close alert."""
        old, self.connection = self.connection, self.server.open_connection()
        await self.start()
        self.send(1)
        await old.close(tell_server=False)

    async def close(self) -> None:
        await self.connection.close()


def new_packetizer() -> Packetizer:
    chance = random.Random()
    return Packetizer(
        ssrc=chance.getrandbits(32),
        first_sequence=chance.getrandbits(16),
        first_timestamp=chance.getrandbits(32),
    )


@asynccontextmanager
async def local_server(**settings: Any) -> AsyncIterator[Local]:
    """Run a server, with its ticks, until the block is left."""
    seen = SeenByServer()
    container = ServerContainer(
        settings=ServerSettings(**({"port": 0, "storage": "memory"} | settings)), events=seen
    )
    await container.transport().open()
    url = await container.signaling().start()
    ticking = asyncio.create_task(_tick(container))
    try:
        async with aiohttp.ClientSession() as http:
            yield Local(url, http, container, seen)
    finally:
        ticking.cancel()
        await container.sessions().shut_down()
        await container.signaling().stop()
        await container.transport().close()
        container.store().close()
        container.catalogue().close()


async def _tick(container: ServerContainer) -> None:
    while True:
        container.sessions().tick()
        await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Resources:
    """The resources that this process holds."""

    tasks: int
    threads: int
    descriptors: int


async def resources_held() -> Resources:
    gc.collect()
    await asyncio.sleep(0)
    return Resources(
        tasks=len(asyncio.all_tasks()),
        threads=threading.active_count(),
        descriptors=len(list(pathlib.Path("/proc/self/fd").iterdir())),
    )


async def resources_at_rest() -> Resources:
    """Wait until the held resources have not changed for a second, and return them."""
    last, same = await resources_held(), 0
    while same < 10:
        await asyncio.sleep(0.1)
        now = await resources_held()
        same = same + 1 if now == last else 0
        last = now
    return last


async def returns_to(before: Resources, *, more_threads: int = 0) -> None:
    """Wait until no more resources are held than `before`; fail with a leak after `RELEASE_S`.

    asyncio keeps the threads of its name lookups; `more_threads` allows for them.
    """
    deadline = asyncio.get_running_loop().time() + RELEASE_S
    while True:
        now = await resources_held()
        if (
            now.tasks <= before.tasks
            and now.threads <= before.threads + more_threads
            and now.descriptors <= before.descriptors
        ):
            return
        if asyncio.get_running_loop().time() > deadline:
            tasks = [task.get_name() for task in asyncio.all_tasks()]
            raise AssertionError(f"held {before} before, {now} now; tasks: {tasks}")
        await asyncio.sleep(0.05)
