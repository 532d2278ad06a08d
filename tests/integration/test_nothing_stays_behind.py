"""Hundreds of sessions that end in all ways release all resources."""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import gc
import itertools
import os
import pathlib
import statistics

import aiohttp
import pytest

from tests.rigs.clients import (
    Local,
    Publishing,
    Remote,
    local_server,
    resources_at_rest,
    returns_to,
)

WAYS = ("closed", "deleted", "vanished", "reconnected", "whip", "restarted", "never connected")
AT_ONCE = 10
QUARTERS = 4
MAX_LEAK_BYTES = 2_000
"""Bytes of memory per session; a leaked connection would take a hundred times that."""


def resident_bytes() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def session(server: Local, way: str) -> None:
    """Connect, stream and end, in one of the `WAYS`."""
    client = Publishing(server)
    if way == "never connected":
        offer = client.connection.offer_sdp
        assert (await server.post("/offer", sdp=offer, type="offer"))[0] == 200
        await client.connection.close(tell_server=False)
        return
    if way in ("whip", "restarted"):
        await over_whip(client, restart=way == "restarted")
        return
    await client.start()
    client.send(20)
    if way == "reconnected":
        await client.come_back()
        client.send(20)
    if way == "deleted":
        async with server.http.delete(f"{server.url}/sessions/{client.id}") as response:
            assert response.status == 204
    await client.connection.close(tell_server=way != "vanished")


async def over_whip(client: Publishing, *, restart: bool) -> None:
    server = client.server
    headers = {"Content-Type": "application/sdp"}
    async with server.http.post(
        f"{server.url}/whip", data=client.connection.offer_sdp, headers=headers
    ) as response:
        assert response.status == 201
        location, answer = server.url + response.headers["Location"], await response.text()

    async def no_candidates(_candidate: object) -> None:
        """Send no candidates: the server learns our address from the checks."""

    await client.connection.connect(answer, ice_servers=(), send_candidate=no_candidates)
    client.send(20)
    if restart:  # three restarts at once, which are not completed: the old path stays in use
        await asyncio.gather(
            *(restart_ice(server, location, user) for user in ("aaaa", "bbbb", "cc/+"))
        )
        client.send(20)
    async with server.http.delete(location) as response:
        assert response.status == 200
    await client.connection.close()


async def restart_ice(server: Remote, location: str, username: str) -> None:
    password = username[0] * 22
    lines = (f"a=ice-ufrag:{username}", f"a=ice-pwd:{password}", "m=audio 9 RTP/AVP 0", "a=mid:0")
    headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}
    fragment = "\r\n".join(lines) + "\r\n"
    async with server.http.patch(location, data=fragment, headers=headers) as response:
        assert response.status == 200, await response.text()


async def run(server: Local, count: int) -> None:
    ways = itertools.islice(itertools.cycle(WAYS), count)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(way: str) -> None:
        async with places:
            await session(server, way)

    await asyncio.gather(*(one(way) for way in ways))
    while server.container.sessions().session_count:
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "count", [42, pytest.param(1001, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
async def test_sessions_leave_nothing_behind(
    tmp_path: pathlib.Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "domain.services.server.outcomes.KEPT_S", 0.5
    )  # would otherwise be kept for a minute
    # without keep-alive connections, which end at any time
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        local_server(
            storage="wav", recordings=str(tmp_path), inactivity_timeout_s=1, connect_timeout_s=3
        ) as running,
        aiohttp.ClientSession(connector=connector) as http,
    ):
        server = dataclasses.replace(running, http=http)
        # memory grows to a high-water mark first; a leak would keep growing after it
        warm_up = max(len(WAYS) * 2, count // 2)
        await run(server, warm_up)
        before, memory = await resources_at_rest(), [resident_bytes()]
        quarter = count // QUARTERS
        for _ in range(QUARTERS):
            await run(server, quarter)
            await returns_to(before)
            memory.append(resident_bytes())
        # memory also grows in steps, when a table of the interpreter doubles: in one quarter each
        leaked = statistics.median(b - a for a, b in itertools.pairwise(memory)) / quarter
        print(f"{count} sessions: {before}, {leaked:.0f} bytes each")
        if count > 100:
            assert leaked < MAX_LEAK_BYTES
        assert server.seen.failures == []
        assert len(list(tmp_path.glob("*.wav"))) == sum(
            way != "never connected"
            for total in (warm_up, *[quarter] * QUARTERS)
            for way in itertools.islice(itertools.cycle(WAYS), total)
        )
