"""A load of streams: handshakes by the real client, then ready-made packets in a tight loop.

Run as a process of its own, so that its time is not the server's:
``python -m benchmarks.generator URL STREAMS SECONDS [CONNECT_OVER_S] [TIMES_FILE]``. It prints a
line of JSON when it is ready, when all are connected, when it has sent all, and when all have
ended; after each of the first two it waits for a line on its input. TIMES_FILE gets, by session,
when the offer and each packet went out (seconds of the machine's monotonic clock).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import pathlib
import sys
import time
from typing import Any

import aiohttp

from domain.rtp.packets import write_rtp
from tests.rigs.clients import Publishing, Remote
from tests.rigs.sound import encode, speech

TICK_S = 0.02
SLOTS = 20
"""Streams are not in step: in each of so many parts of a tick some of them send."""
BEGINNING_S = 2.0
"""Nor do they begin all at once: that is another load than the steady one."""
CONNECTING_AT_ONCE = 8
CLIENT_SENDS_EVERY = 25
"""Every so many packets one goes the client's own way, which sees to the reports; each stream has
another turn."""


class Stream:
    """One client, and when it did what."""

    def __init__(self, server: Remote, packets: list[bytes]) -> None:
        self.client = Publishing(server)
        self.client.packets = packets
        self.offered_at = 0.0
        self.sent_at: list[float] = []

    async def connect(self) -> None:
        # Janus takes packets of sources that the offer names, and of no other
        first = self.client.packetizer.packet(b"", 0)
        connection = self.client.connection
        self._turn = first.ssrc % CLIENT_SENDS_EVERY
        connection.offer_sdp += f"a=ssrc:{first.ssrc} cname:load\r\n"  # type: ignore[misc]
        self.offered_at = time.monotonic()
        await self.client.start()
        link = self.client.connection._link  # type: ignore[attr-defined]
        pair = link.ice._agent.selected
        self._protect = link._protector.rtp
        self._socket, self._address = pair.protocol.transport.socket, pair.remote_addr

    def send(self) -> None:
        self.sent_at.append(time.monotonic())
        client = self.client
        if client.sent % CLIENT_SENDS_EVERY == self._turn:
            client.send(1)
            return
        payload = client.packets[client.sent % len(client.packets)]
        packet = client.packetizer.packet(payload, client.sent * 960)
        client.sent += 1
        with contextlib.suppress(BlockingIOError):
            self._socket.sendto(self._protect(write_rtp(packet)), self._address)

    async def end(self) -> None:
        server = self.client.server
        async with server.http.delete(f"{server.url}/sessions/{self.client.id}") as response:
            assert response.status == 204
        await self.client.connection.close()


async def generate(url: str, count: int, seconds: float, over_s: float) -> dict[str, Any]:
    """Run a load; returns when each session's offer and packets went out."""
    packets = encode(speech(5))
    async with aiohttp.ClientSession() as http:
        streams = [Stream(Remote(url, http), packets) for _ in range(count)]
        say(ready=count)
        await asyncio.to_thread(sys.stdin.readline)
        began = time.monotonic()
        await connect(streams, over_s)
        say(connected=count, took_s=time.monotonic() - began)
        gc.collect()
        gc.freeze()  # to look through all that is there would hold up the packets
        await asyncio.to_thread(sys.stdin.readline)
        ticks = round(seconds / TICK_S)
        say(sent=ticks, **await send(streams, ticks))
        await asyncio.gather(*(stream.end() for stream in streams))
        return {s.client.id: {"offered": s.offered_at, "sent": s.sent_at} for s in streams}


async def connect(streams: list[Stream], over_s: float) -> None:
    """Some at a time, or all of them within `over_s`."""
    gate = asyncio.Semaphore(len(streams) if over_s else CONNECTING_AT_ONCE)

    async def one(index: int, stream: Stream) -> None:
        await asyncio.sleep(index * over_s / len(streams))
        async with gate:
            await stream.connect()

    await asyncio.gather(*(one(index, stream) for index, stream in enumerate(streams)))


async def send(streams: list[Stream], ticks: int) -> dict[str, float]:
    """A packet of each stream every 20 ms, so many of each.

    Says how late the latest was (s), and how fast they went while all streams ran, as a share of
    what was wanted.
    """
    began, behind = time.monotonic(), 0.0
    first = [int(BEGINNING_S / TICK_S) * index // len(streams) for index in range(len(streams))]
    for slot in range((ticks + first[-1]) * SLOTS):
        due = began + slot * TICK_S / SLOTS
        now = time.monotonic()
        behind = max(behind, now - due)
        await asyncio.sleep(max(0.0, due - now))
        tick = slot // SLOTS
        for index in range(slot % SLOTS, len(streams), SLOTS):
            if first[index] <= tick < first[index] + ticks:
                streams[index].send()
    steady = streams[0].sent_at[first[-1] :]  # none where it has ended when the last one begins
    wanted_s = (len(steady) - 1) * TICK_S
    pace = wanted_s / (steady[-1] - steady[0]) if len(steady) > 1 else 1.0
    return {"behind_s": behind, "pace": pace}


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    address, number, duration, *more = sys.argv[1:]
    spread = float(more[0]) if more else 0.0
    times = asyncio.run(generate(address, int(number), float(duration), spread))
    if len(more) > 1:
        pathlib.Path(more[1]).write_text(json.dumps(times))
    say(ended=int(number))
