"""Many sessions stream to one UDP port, whatever NATs do to the addresses of their clients."""

from __future__ import annotations

import asyncio
import pathlib
from dataclasses import replace

import aiohttp
import pytest

from adapters.runtime.asyncio_runtime import BackgroundTasks
from adapters.transport.sockets import port, rounds
from domain.rtp.packets import RtpPacket
from tests.contracts.test_transport_contract import Heard, connect, real_publisher, real_server
from tests.rigs.clients import Remote
from tests.rigs.processes import serving
from tests.rigs.rebinding import (
    Multiplexed,
    Streaming,
    connected,
    ended,
    expected,
    outcomes,
    rebind,
    streaming,
    swap,
)


def given_other_addresses(clients: list[Streaming]) -> None:
    """Give half of the clients new ports, and the others the ports of each other."""
    half = len(clients) // 4 * 2
    for one, other in zip(clients[:half:2], clients[1:half:2], strict=True):
        swap(one, other)
    for client in clients[half:]:
        rebind(client)


@pytest.mark.parametrize(
    ("count", "rebinding", "frame_ms", "seconds", "storage"),
    [
        (40, 10, 20, 6.0, "wav"),
        # decoding a thousand streams takes a whole core
        pytest.param(
            1000, 200, 120, 20.0, "opus", marks=[pytest.mark.soak, pytest.mark.timeout(600)]
        ),
    ],
)
async def test_rebinding_loses_nothing(
    tmp_path: pathlib.Path, count: int, rebinding: int, frame_ms: int, seconds: float, storage: str
) -> None:
    with serving(tmp_path, "--max-sessions", str(count), "--storage", storage) as server:
        async with aiohttp.ClientSession() as http:
            remote = Remote(server.url, http)
            clients = [Streaming(remote, frame_ms=frame_ms) for _ in range(count)]
            await connected(clients)
            assert len({client.server_address for client in clients}) == 1
            moving = clients[:: count // rebinding]
            before = {client.id: client.address for client in moving}
            # once, and a second time before the new addresses are checked
            times = [seconds / 3, seconds / 3 + 1]
            async for at in streaming(clients, seconds):
                if times and at >= times[0]:
                    times.pop(0)
                    given_other_addresses(moving)
                    moving.reverse()
            assert not times
            assert all(client.address != before[client.id] for client in moving)
            await ended(clients, server)
        assert outcomes(tmp_path) == expected(clients)


async def test_what_waits_at_the_end_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy server reads late, and a session may end meanwhile."""
    spawner, heard = BackgroundTasks(), Heard()
    publisher = real_publisher()
    server = await real_server(spawner).accept(publisher.offer_sdp, ice_servers=())
    server.start(heard)
    await connect(publisher, server)
    monkeypatch.setattr(rounds, "READ_S", 60.0)
    monkeypatch.setattr(rounds, "HANDSHAKE_S", 60.0)
    monkeypatch.setattr(port, "MAX_ROUND", 1)
    for number in range(400):
        publisher.send(RtpPacket(111, number, number * 960, 7, b"\x78x"))
        if number == 0:
            await heard.until(lambda: len(heard.packets) == 1)
            await asyncio.sleep(0.1)  # the next read is not due
    await server.drain()
    assert len(heard.packets) == 400
    await publisher.close()
    await server.close()
    await spawner.join()


async def test_connections_from_one_socket_are_told_apart(tmp_path: pathlib.Path) -> None:
    """A peer may have several connections, and one socket for all of them."""
    with serving(tmp_path) as server:
        async with aiohttp.ClientSession() as http:
            remote = Multiplexed.of(Remote(server.url, http))
            clients = [Streaming(remote) for _ in range(3)]
            for client in clients:
                await client.start()
            assert len({client.address for client in clients}) == 1
            async for _ in streaming(clients, 3.0):
                pass
            # the end of one does not concern the others
            await clients[0].connection.close()
            await asyncio.to_thread(server.process.wait_for, "session ended: closed")
            async for _ in streaming(clients[1:], 1.0):
                pass
            await ended(clients[1:], server)
        found, wanted = outcomes(tmp_path), expected(clients)
        wanted[clients[0].id] = replace(wanted[clients[0].id], reason="closed")
        assert found == wanted
