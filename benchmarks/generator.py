"""Generates a load of streams: the real client connects, then a tight loop sends ready packets.

Runs as a process of its own, so that its CPU time is separate from the server's:
``python -m benchmarks.generator URL STREAMS SECONDS [CONNECT_OVER_S] [TIMES_FILE]``. It prints a
line of JSON when it is ready, when all streams are connected, when all packets are sent, and when
all sessions have ended. After each of the first two it waits for a line on its input. TIMES_FILE
receives, by session, when the offer and each packet were sent (seconds of the machine's monotonic
clock).
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
"""Streams do not send in step: each tick has this many slots, and some streams send in each."""
BEGINNING_S = 2.0
"""Streams begin over this time, because a simultaneous start is not the steady load."""
CONNECTING_AT_ONCE = 8
CLIENT_SENDS_EVERY = 25
"""Every 25th packet of a stream is sent by the client itself, which also sends the reports. The
turns of the streams are spread."""


class Stream:
    """One client, with the times of its offer and packets."""

    def __init__(self, server: Remote, packets: list[bytes]) -> None:
        self.client = Publishing(server)
        self.client.packets = packets
        self.offered_at = 0.0
        self.sent_at: list[float] = []

    async def connect(self) -> None:
        # Janus only accepts packets of sources that the offer names
        first = self.client.packetizer.packet(b"", 0)
        connection = self.client.connection
        self._turn = first.ssrc % CLIENT_SENDS_EVERY
        connection.offer_sdp += f"a=ssrc:{first.ssrc} cname:load\r\n"  # type: ignore[misc]
        self.offered_at = time.monotonic()
        await self.client.start()
        link = self.client.connection._transport  # type: ignore[attr-defined]
        pair = link.ice._agent.selected
        self._protect = link._protector.rtp
        self._socket = pair.protocol.transport.get_extra_info("socket")
        self._address = pair.remote_addr

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
    """Run a load; return when each session's offer and packets were sent."""
    packets = encode(speech(5))
    async with aiohttp.ClientSession() as http:
        streams = [Stream(Remote(url, http), packets) for _ in range(count)]
        say(ready=count)
        await asyncio.to_thread(sys.stdin.readline)
        began = time.monotonic()
        await connect(streams, over_s)
        say(connected=count, took_s=time.monotonic() - began)
        gc.collect()
        gc.freeze()  # a full collection would delay packets
        await asyncio.to_thread(sys.stdin.readline)
        ticks = round(seconds / TICK_S)
        say(sent=ticks, **await send(streams, ticks))
        await asyncio.gather(*(stream.end() for stream in streams))
        return {s.client.id: {"offered": s.offered_at, "sent": s.sent_at} for s in streams}


async def connect(streams: list[Stream], over_s: float) -> None:
    """Connect the streams a few at a time, or all of them within `over_s`."""
    gate = asyncio.Semaphore(len(streams) if over_s else CONNECTING_AT_ONCE)

    async def one(index: int, stream: Stream) -> None:
        await asyncio.sleep(index * over_s / len(streams))
        async with gate:
            await stream.connect()

    await asyncio.gather(*(one(index, stream) for index, stream in enumerate(streams)))


async def send(streams: list[Stream], ticks: int) -> dict[str, float]:
    """Send `ticks` packets of each stream, one every 20 ms.

    Returns the worst delay (s), and the pace while all streams ran, as a share of the nominal one.
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
    steady = streams[0].sent_at[
        first[-1] :
    ]  # empty if the first stream ends before the last begins
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
