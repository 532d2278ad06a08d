"""A load of streams: handshakes by the real client, then ready-made packets in a tight loop.

Run as a process of its own, so that its time is not the server's:
``python -m benchmarks.generator URL STREAMS SECONDS`` prints a line of JSON when all are
connected, one when it has sent all, and one when all have ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp

from tests.rigs.clients import Publishing, Remote
from tests.rigs.sound import encode, speech

TICK_S = 0.02
SLOTS = 20
"""Streams are not in step: in each of so many parts of a tick some of them send."""
CONNECTING_AT_ONCE = 8


async def generate(url: str, streams: int, seconds: float) -> None:
    packets = encode(speech(5))
    async with aiohttp.ClientSession() as http:
        server = Remote(url, http)
        gate = asyncio.Semaphore(CONNECTING_AT_ONCE)

        async def connect() -> Publishing:
            async with gate:
                client = Publishing(server)
                client.packets = packets
                await client.start()
                return client

        clients = await asyncio.gather(*(connect() for _ in range(streams)))
        say(connected=streams)
        behind = await send(clients, round(seconds / TICK_S))
        say(sent=round(seconds / TICK_S), behind_s=behind)
        await asyncio.gather(*(end(client) for client in clients))
        say(ended=streams)


async def send(clients: list[Publishing], ticks: int) -> float:
    """A packet of each stream every 20 ms; how late the latest was (s)."""
    began, behind = time.monotonic(), 0.0
    for slot in range(ticks * SLOTS):
        due = began + slot * TICK_S / SLOTS
        now = time.monotonic()
        behind = max(behind, now - due)
        await asyncio.sleep(max(0.0, due - now))
        for client in clients[slot % SLOTS :: SLOTS]:
            client.send(1)
    return behind


async def end(client: Publishing) -> None:
    async with client.server.http.delete(f"{client.server.url}/sessions/{client.id}") as response:
        assert response.status == 204
    await client.connection.close()


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(generate(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
