"""Ports, IPv6, and candidates in any order."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import re
import socket

import pytest

from domain.errors import PortInUse
from tests.rigs.clients import Publishing, local_server
from tests.rigs.outages import Client, only_recording


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def addresses_in(answer: str) -> list[tuple[str, int]]:
    """The addresses of an answer's host candidates."""
    found = re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", answer)
    return [(host, int(port)) for host, port in found]


def udp_sockets() -> set[tuple[str, str]]:
    """The local addresses of this process's UDP sockets, with their inodes."""
    mine = set()
    for link in pathlib.Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            mine.add(str(link.readlink()))
    lines = [
        line.split()
        for name in ("udp", "udp6")
        for line in pathlib.Path("/proc/net", name).read_text().splitlines()[1:]
    ]
    return {(line[1], line[9]) for line in lines if f"socket:[{line[9]}]" in mine}


async def test_all_sessions_share_one_port_of_each_address() -> None:
    before = udp_sockets()
    async with local_server() as server:
        bound = udp_sockets() - before
        clients = [Publishing(server) for _ in range(8)]
        for client in clients:
            await client.start()
            client.send(20)
        assert {address for address, _ in bound} <= {address for address, _ in udp_sockets()}
        used = [set(addresses_in(client.answer)) for client in clients]
        assert all(addresses == used[0] for addresses in used)
        assert len({port for _, port in used[0]}) == 1  # one number on all of them
        assert len(bound) == len(used[0])
        for client in clients:
            await client.close()
        while len(server.seen.finished) < len(clients):
            await server.seen.next_end()
        assert [seconds for _, seconds in server.seen.finished] == [pytest.approx(0.4)] * 8
    assert udp_sockets() == before


async def test_the_port_is_the_one_that_was_set() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    async with local_server(udp_port=number) as server:
        client = Publishing(server)
        await client.start()
        assert {port for _, port in addresses_in(client.answer)} == {number}
        with pytest.raises(PortInUse, match=f"UDP port {number} of .* is in use"):
            async with local_server(udp_port=number):
                pass
        client.send(20)
        await client.close()
        await server.seen.next_end()


@pytest.mark.skipif(not has_ipv6_loopback(), reason="no IPv6 here")
async def test_everything_works_over_ipv6() -> None:
    async with local_server(host="::1") as server:
        assert server.url.startswith("http://[::1]:")
        client = Client(server.url)
        await client.until("connected")
        await asyncio.sleep(0.5)  # some sound
        summary = await client.stop()
        assert summary.safe_s == pytest.approx(len(only_recording(server).samples) / 48_000)


async def test_repeated_late_and_foreign_candidates_are_accepted() -> None:
    async with local_server() as server:
        client = Publishing(server)
        offer = client.connection.offer_sdp
        status, body = await server.post("/offer", sdp=offer, type="offer")
        assert status == 200
        strange = "candidate:1 1 udp 2122260223 127.0.0.1 {} typ host"

        async def candidate(text: str | None, **more: object) -> int:
            return (await server.post("/ice-candidate", id=body["id"], candidate=text, **more))[0]

        assert await candidate(strange.format(9)) == 204
        assert await candidate(strange.format(9)) == 204
        assert await candidate(strange.format(9), usernameFragment="other") == 204
        assert await candidate(strange.format(9) + " ufrag other") == 204
        for port in range(10, 200):
            assert await candidate(strange.format(port)) == 204
        assert await candidate("candidate:1 1 tcp 1 127.0.0.1 9 typ host tcptype active") == 204
        assert await candidate(None) == 204
        assert await candidate(strange.format(8)) == 204
        assert await candidate("rubbish") == 400
        client.id = body["id"]
        await client.connect(body["sdp"])  # the server learns its address from its checks
        client.send(20)
        await client.close()
        await server.seen.next_end()
        ((_, seconds),) = server.seen.finished
        assert seconds == pytest.approx(0.4)
        assert await candidate(strange.format(9)) == 404
        assert server.seen.failures == []
