"""Junk from a thousand addresses at the port of live sessions costs these nothing."""

from __future__ import annotations

import asyncio
import os
import pathlib
import statistics
import time

import aiohttp
import pytest

from adapters.transport.sockets.stun_requests import username_of
from tests.rigs.clients import Remote
from tests.rigs.flooding import cpu_s, flooding
from tests.rigs.junk import Live
from tests.rigs.processes import serving
from tests.rigs.rebinding import Streaming, connected, ended, expected, outcomes, streaming

RATE = 100_000
"""Datagrams a second. A slow machine sends as many as it can, and the test tells how many."""
ONE_CPU = max(os.sched_getaffinity(0))
"""What floods has one processor, so that it takes nothing from the others."""


def test_a_user_name_is_not_looked_for_without_end() -> None:
    name = b"\x00\x06\x00\x09name:peer\x00\x00\x00"
    few, many = (b"\x80\x22\x00\x01v\x00\x00\x00" * count for count in (10, 100))
    assert username_of(bytes(20) + few + name) == b"name"
    assert username_of(bytes(20) + many + name) == b""


@pytest.mark.parametrize(
    ("count", "seconds"),
    [
        (10, 3.0),
        pytest.param(50, 10.0, marks=[pytest.mark.soak, pytest.mark.timeout(120)]),
    ],
)
@pytest.mark.parametrize("origin", ["anywhere", "sessions"])
async def test_nothing_is_lost(
    tmp_path: pathlib.Path, count: int, seconds: float, origin: str
) -> None:
    """Junk of all kinds, from anywhere or with the addresses of the sessions' clients."""
    with serving(tmp_path, "--max-sessions", str(count)) as server:
        process = server.process.process.pid
        async with aiohttp.ClientSession() as http:
            clients = [Streaming(Remote(server.url, http)) for _ in range(count)]
            await connected(clients)
            address = clients[0].server_address
            live = Live([client.ssrc for client in clients], [c.ice_name for c in clients])
            through = [client.port.socket for client in clients] if origin == "sessions" else []
            asking = asyncio.create_task(answered(http, server.url))
            used_s = -cpu_s(process)
            with flooding(
                address, live, rate=RATE, seconds=seconds, through=through, on_cpu=ONE_CPU
            ) as flood:
                while not flood.is_over:
                    async for _ in streaming(clients, 1.0):
                        pass
                sent = flood.sent()
            used_s += cpu_s(process)
            asking.cancel()
            times_s = await asking
            lasted_s = clients[0].sent * clients[0].frame / 48_000
            await ended(clients, server)
        print(
            f"{sent / seconds:.0f} datagrams of junk a second from {origin}, which is "
            f"{sent / seconds / RATE:.0%} of what was wanted: "
            f"{used_s / lasted_s:.0%} of a core, answers over HTTP after "
            f"{statistics.median(times_s) * 1e3:.0f} ms (median) to {max(times_s) * 1e3:.0f} ms"
        )
        assert sent > 0
        assert outcomes(tmp_path) == expected(clients)
    assert server.process.errors == []  # the server would tell what the kernel dropped


async def answered(http: aiohttp.ClientSession, url: str) -> list[float]:
    """Ask a server until cancelled; return how long each answer took (s)."""
    took = []
    try:
        while True:
            began = time.monotonic()
            async with http.get(url + "/health") as response:
                assert response.status == 200
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return took
