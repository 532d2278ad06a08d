"""Offers without end from one address: others are served at once, and nothing grows."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import socket
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.rigs.clients import Publishing, Remote
from tests.rigs.comers import an_offer, renamed
from tests.rigs.processes import Server, open_descriptors, serving

ATTACKER, CLASSROOM, SPEAKER = (f"203.0.113.{number}" for number in range(1, 4))
PROXIED = ("--trusted-proxies", "127.0.0.1")
"""The tests are a reverse proxy: each says whose request it sends."""
AT_ONCE = 20

pytestmark = pytest.mark.timeout(180)
MAX_GROWTH_BYTES = 12 << 20
"""3,000 offers took 56 MB before there were limits, and before sessions were freed at their end."""


@dataclass(frozen=True)
class Behind(Remote):
    """A server as it is seen from an address."""

    address: str

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        status, answer, _ = await self.ask(path, **body)
        return status, answer

    async def ask(self, path: str, **body: Any) -> tuple[int, Any, str | None]:
        """Return the status, the body and how long to wait."""
        headers = {"X-Forwarded-For": self.address}
        async with self.http.post(self.url + path, json=body, headers=headers) as response:
            answer = await response.json() if response.status != 204 else None
            return response.status, answer, response.headers.get("Retry-After")


def resident_bytes(process: int) -> int:
    pages = pathlib.Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def session_count(server: Remote) -> int:
    async with server.http.get(f"{server.url}/health") as response:
        return int((await response.json())["sessions"])


async def flood(
    server: Remote, offer: str, first: int, count: int, *addresses: str
) -> Counter[int]:
    """Make `count` different offers from addresses in turn; return how many got which status."""
    places = asyncio.Semaphore(AT_ONCE)
    statuses: Counter[int] = Counter()

    async def one(number: int) -> None:
        behind = Behind(server.url, server.http, addresses[number % len(addresses)])
        async with places:
            status, _, wait = await behind.ask("/offer", sdp=renamed(offer, number), type="offer")
        statuses[status] += 1
        assert status != 429 or int(wait or 0) >= 1

    await asyncio.gather(*(one(number) for number in range(first, first + count)))
    return statuses


async def speaking(client: Publishing, until: asyncio.Event) -> None:
    """Send in real time."""
    began = asyncio.get_running_loop().time()
    while not until.is_set():
        passed = asyncio.get_running_loop().time() - began
        client.send(int(passed * 50) - client.sent)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "count", [400, pytest.param(3000, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]
)
async def test_one_address_takes_nothing_from_others(tmp_path: pathlib.Path, count: int) -> None:
    with serving(tmp_path, *PROXIED) as served:
        process = served.process.process.pid
        async with aiohttp.ClientSession() as http:
            server = Remote(served.url, http)
            offer = await an_offer(server)
            speaker = Publishing(Behind(served.url, http, SPEAKER))
            await speaker.start()
            over = asyncio.Event()
            talk = asyncio.create_task(speaking(speaker, over))
            before = resident_bytes(process)
            began = asyncio.get_running_loop().time()
            attack = asyncio.create_task(flood(server, offer, 0, count, ATTACKER))
            newcomers = []
            while not attack.done() or not newcomers:
                newcomers.append(
                    Publishing(Behind(served.url, http, f"2001:db8:{len(newcomers):x}::1"))
                )
                await newcomers[-1].start()  # its first offer is accepted
                newcomers[-1].send(1)
                await asyncio.sleep(0.5)
            statuses, after = attack.result(), resident_bytes(process)
            lasted_s = asyncio.get_running_loop().time() - began
            over.set()
            await talk
            for client in (*newcomers, speaker):
                await client.close()
        print(f"{count} offers: {statuses}; {before >> 20} MB, {after >> 20} MB after them")
        assert set(statuses) == {200, 429}
        assert statuses[200] <= 60 + lasted_s
        assert after - before < MAX_GROWTH_BYTES
    found = {ledger["id"]: ledger for ledger in ledgers(tmp_path)}
    assert found.keys() == {client.id for client in (*newcomers, speaker)}
    spoken = found[speaker.id]
    assert {span["kind"] for span in spoken["spans"]} == {"received"}
    assert spoken["length_samples"] == speaker.sent * 960


def ledgers(folder: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


async def test_a_classroom_behind_one_address_starts_at_once(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, *PROXIED) as served:
        async with aiohttp.ClientSession() as http:
            room = Behind(served.url, http, CLASSROOM)
            pupils = [Publishing(room) for _ in range(30)]
            await asyncio.gather(*(pupil.start() for pupil in pupils))
            for pupil in pupils:
                pupil.send(1)
            await asyncio.gather(*(pupil.close() for pupil in pupils))
    assert {ledger["id"] for ledger in ledgers(tmp_path)} == {pupil.id for pupil in pupils}


@pytest.mark.parametrize(
    "count", [25, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]
)
async def test_all_come_back_at_once_after_an_outage(tmp_path: pathlib.Path, count: int) -> None:
    """The limits are far below what a company has on its one address."""
    limits = ("--max-unproven", "1", "--offers-per-minute", "1", "--max-sessions", str(count))
    with serving(tmp_path, *PROXIED, *limits, "--inactivity-timeout-s", "300") as served:
        async with aiohttp.ClientSession() as http:
            clients = [
                Publishing(Behind(served.url, http, f"198.51.100.{number}"))
                for number in range(count)
            ]
            for client in clients:
                await client.start()
                client.send(1)
            office = Behind(served.url, http, CLASSROOM)
            for client in clients:
                client.server = office
            await asyncio.gather(*(client.come_back() for client in clients))
            assert await session_count(office) == count
            await asyncio.gather(*(client.close() for client in clients))
    found = ledgers(tmp_path)
    assert {ledger["id"] for ledger in found} == {client.id for client in clients}
    for ledger in found:
        assert "reconnected" in {event["type"] for event in ledger["events"]}


@pytest.mark.parametrize(
    "count", [300, pytest.param(3000, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]
)
async def test_sessions_that_never_connect_leave_no_memory(
    tmp_path: pathlib.Path, count: int
) -> None:
    more = ("--connect-timeout-s", "0.5", "--offers-per-minute", "100000")
    addresses = [f"198.51.100.{number}" for number in range(250)]
    with serving(tmp_path, *PROXIED, *more) as served:
        process = served.process.process.pid
        async with aiohttp.ClientSession() as http:
            server = Remote(served.url, http)
            offer, made, opened = await an_offer(server), 0, 0
            sizes = []
            for wanted in (200, 200 + count):
                while opened < wanted:
                    opened += (await flood(server, offer, made, 100, *addresses))[200]
                    made += 100
                while await session_count(server):
                    await asyncio.sleep(0.1)
                sizes.append(resident_bytes(process))
        print(f"{opened} of {made} offers opened a session: {[size >> 20 for size in sizes]} MB")
        assert sizes[1] - sizes[0] < MAX_GROWTH_BYTES


async def test_who_hangs_up_leaves_nothing(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, *PROXIED, "--connect-timeout-s", "1") as served:
        process = served.process.process.pid
        async with aiohttp.ClientSession() as http:
            server = Remote(served.url, http)
            offer = await an_offer(server)
            hang_up(served, renamed(offer, 0))  # the first session opens what the store keeps open
            await asyncio.to_thread(served.process.wait_for, "session ended: inactive")
            assert await session_count(server) == 0  # over the connection that is used below
            before = open_descriptors(process)
            for number in range(1, 31):
                hang_up(served, renamed(offer, number))
            for _ in range(30):
                await asyncio.to_thread(served.process.wait_for, "session ended: inactive")
            assert await session_count(server) == 0
            async with asyncio.timeout(10):
                while open_descriptors(process) > before:
                    await asyncio.sleep(0.05)


def hang_up(server: Server, offer: str) -> None:
    """Send an offer, and do not wait for the answer."""
    to = urlsplit(server.url)
    body = json.dumps({"sdp": offer, "type": "offer"}).encode()
    head = (
        f"POST /offer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-Forwarded-For: {ATTACKER}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((to.hostname, to.port)) as connection:
        connection.sendall(head.encode() + body)


async def test_a_replayed_offer_tells_nobody_else_the_secret(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, *PROXIED, "--connect-timeout-s", "2") as served:
        async with aiohttp.ClientSession() as http:
            one, other = (Behind(served.url, http, item) for item in (SPEAKER, ATTACKER))
            offer = {"sdp": await an_offer(one), "type": "offer"}
            status, answer = await one.post("/offer", **offer)
            assert status == 200
            assert await one.post("/offer", **offer) == (200, answer)
            status, refused = await other.post("/offer", **offer)
            assert (status, set(refused)) == (409, {"error"})
            await asyncio.to_thread(served.process.wait_for, "session ended: inactive")
            for again in (one, other):
                assert (await again.post("/offer", **offer))[0] == 409
            assert await session_count(one) == 0
