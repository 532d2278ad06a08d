"""What `UdpSockets` guarantees to each socket, whatever another one receives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from adapters.transport.sockets.datagrams import Datagram
from adapters.transport.sockets.udp import UdpSockets, UdpTransport

FEW, MOST = 60, 20_000


class Flooded:
    """Sends itself another datagram for each one that it receives."""

    transport: UdpTransport

    def __init__(self) -> None:
        self.count = self.sent = 0
        self.is_over = False
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._sender.close()

    def error_received(self, exc: Exception) -> None:
        raise exc

    def datagrams_received(
        self, datagrams: Sequence[Datagram], source: Callable[[int], tuple[Any, ...]]
    ) -> None:
        self.count += len(datagrams)
        if not self.is_over and self.count < MOST:
            self.send(len(datagrams))

    def send(self, count: int) -> None:
        self.sent += count
        for _ in range(count):
            self._sender.sendto(b"x", self.transport.get_extra_info("sockname"))


@pytest.mark.parametrize("is_coalesced", [False, True])
async def test_a_flooded_socket_does_not_block_the_event_loop(is_coalesced: bool) -> None:
    flooded = UdpSockets().open(Flooded, "127.0.0.1", 0)
    if is_coalesced:
        flooded.transport.coalesce_reads()
    flooded.send(FEW)
    async with asyncio.timeout(10):
        while not flooded.count:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)  # the event loop still runs
    flooded.is_over = True
    assert FEW < flooded.count < MOST
    async with asyncio.timeout(10):
        while flooded.count < flooded.sent:  # the remaining datagrams are read as well
            await asyncio.sleep(0.01)
    flooded.transport.close()
    await asyncio.sleep(0)
