"""Ports, IPv6, and candidates in any order."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest

from domain.session.addresses import PortRange
from tests.rigs.clients import Publishing, local_server
from tests.rigs.outages import Client, only_recording


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def free_ports(count: int) -> PortRange:
    """Find a range of free ports."""
    for first in range(40_000, 60_000, count):
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        try:
            for offset, item in enumerate(sockets):
                item.bind(("0.0.0.0", first + offset))
            return PortRange(first, first + count - 1)
        except OSError:
            continue
        finally:
            for item in sockets:
                item.close()
    raise AssertionError("no free ports")


async def test_media_uses_only_the_configured_ports() -> None:
    ports = free_ports(8)
    async with local_server(udp_ports=ports) as server:
        client = Publishing(server)
        await client.start()
        used = [
            int(port) for port in re.findall(r"a=candidate:\S+ 1 udp \d+ \S+ (\d+)", client.answer)
        ]
        assert used
        assert all(ports.first <= port <= ports.last for port in used)
        client.send(20)
        others = []
        while True:  # until no port is left
            another = Publishing(server)
            others.append(another)
            offer = another.connection.offer_sdp
            status, body = await server.post("/offer", sdp=offer, type="offer")
            if status != 200:
                break
        assert status == 503
        assert "no UDP port" in body["error"]
        client.send(20)  # the first connection still works
        await client.close()
        for another in others:
            await another.close()
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
