"""Many clients that stream in real time, and that a NAT gives other addresses meanwhile."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import pathlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapters.codec.libopus import OpusEncoder
from adapters.runtime.asyncio_runtime import SystemClock
from adapters.transport.client import WebRtcClientTransport
from adapters.transport.ice.options import IceOptions
from adapters.transport.sockets.datagrams import DatagramReader
from adapters.transport.sockets.port import SharedTransport, UdpPort
from adapters.transport.sockets.ports import UdpPorts
from domain.ports.signaling import ClientConnection
from domain.sound.formats import AudioFormat, AudioFrame
from tests.rigs.clients import Publishing, Remote, new_packetizer
from tests.rigs.processes import Server
from tests.rigs.sound import RATE, speech

AT_ONCE = 10
"""Clients that connect at the same time."""
_BITRATE = 8_000
"""Speech of this rate takes little time to decode."""
_SLOTS = 10


@functools.cache
def long_packets(frame_ms: int) -> tuple[bytes, ...]:
    """Two seconds or more of speech in packets of up to 120 ms."""
    encoder = OpusEncoder(
        channels=1, bitrate=_BITRATE, complexity=5, fec=False, expected_loss_percent=0, dtx=False,
        application="voip",
    )  # fmt: skip
    length = RATE * frame_ms // 1000
    samples, audio_format = speech(2.4), AudioFormat(RATE, 1)
    packets = []
    for start in range(0, len(samples) - length + 1, length):
        packet = encoder.encode(AudioFrame(audio_format, samples[start : start + length], start))
        assert packet is not None
        packets.append(packet)
    return tuple(packets)


class Streaming(Publishing):
    """A client with packets of any length, each with the time at which its sound was captured.

    So the server can tell a test that is late from a microphone that stalls. All clients send to
    the same address of the server.
    """

    def __init__(self, server: Remote, *, frame_ms: int = 20) -> None:
        self.server = server
        self.connection = server.open_connection()
        self.packets = list(long_packets(frame_ms))
        self.frame = RATE * frame_ms // 1000
        self.packetizer = new_packetizer()
        self.sent = 0
        self.id = ""
        self.resume = ""
        self.answer = ""

    async def connect(self, answer: str) -> None:
        async def keep_to_oneself(_candidate: object) -> None:
            """The server learns our address from the checks."""

        await self.connection.connect(
            _with_one_candidate(answer), ice_servers=(), send_candidate=keep_to_oneself
        )

    def send_captured(self, captured_s: float) -> None:
        """Send the next packet."""
        payload = self.packets[self.sent % len(self.packets)]
        packet = self.packetizer.packet(payload, self.sent * self.frame)
        self.connection.send(replace(packet, captured_s=captured_s))
        self.sent += 1

    @property
    def ssrc(self) -> int:
        return self.packetizer._ssrc

    @property
    def ice_name(self) -> str:
        """The server's user name in the checks of this client."""
        connection: Any = self.connection
        return str(connection._transport.ice.remote.username)

    @property
    def server_address(self) -> tuple[str, int]:
        """The server's address on the path in use."""
        address: tuple[str, int] = self._pair.remote_addr
        return address

    @property
    def port(self) -> UdpPort:
        """The UDP port of the path in use."""
        transport = self._pair.protocol.transport
        assert isinstance(transport, SharedTransport)
        return transport.port

    @property
    def address(self) -> tuple[str, int]:
        """The address from which the packets come now."""
        address: tuple[str, int] = self.port.socket.getsockname()[:2]
        return address

    @property
    def _pair(self) -> Any:
        connection: Any = self.connection
        return connection._transport.ice._agent.selected

    async def delete(self) -> None:
        """End the session over HTTP: an alert from an address that is not checked is not heard."""
        async with self.server.http.delete(f"{self.server.url}/sessions/{self.id}") as response:
            assert response.status == 204, await response.text()
        await self.connection.close()


def _with_one_candidate(answer: str) -> str:
    lines = answer.splitlines(keepends=True)
    return "".join(
        line for line in lines if not line.startswith("a=candidate:") or " 127.0.0.1 " in line
    )


async def connected(clients: Sequence[Streaming]) -> None:
    """Connect all clients, `AT_ONCE` at the same time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def connect(client: Streaming) -> None:
        async with places:
            await client.start()

    await asyncio.gather(*(connect(client) for client in clients))


async def ended(clients: Sequence[Streaming], server: Server) -> None:
    """End all sessions over HTTP, and wait for their recordings."""
    await asyncio.gather(*(client.delete() for client in clients))
    for _ in clients:
        await asyncio.to_thread(server.process.wait_for, "session ended: deleted")


async def streaming(clients: Sequence[Streaming], seconds: float) -> AsyncIterator[float]:
    """Send the packets of all clients in real time, evenly spread; yield the seconds before each.

    The caller may do something to the clients between packets.
    """
    loop = asyncio.get_running_loop()
    frame_s, began = clients[0].frame / RATE, loop.time()
    for number in range(round(seconds / frame_s)):
        yield number * frame_s
        for slot in range(_SLOTS):
            due = began + (number + slot / _SLOTS) * frame_s
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            for client in clients[slot::_SLOTS]:
                client.send_captured(due)


# -- what a NAT does ----------------------------------------------------------------------------


def rebind(client: Streaming) -> None:
    """Let a client's packets come from another port, as after a reboot of its NAT."""
    before = client.address
    assert rebound(client.port) != before


def rebound(port: UdpPort) -> tuple[str, int]:
    """Let what a port sends come from another one, and return its address."""
    with socket.socket(port.socket.family, socket.SOCK_DGRAM) as fresh:
        fresh.setblocking(False)
        DatagramReader.prepare(fresh)
        fresh.bind((port.address[0], 0))
        _replace(port, fresh.fileno())
    address: tuple[str, int] = port.socket.getsockname()[:2]
    return address


def swap(one: Streaming, other: Streaming) -> None:
    """Let the packets of each client come from the port of the other one."""
    before = one.address, other.address
    assert before[0] != before[1]
    kept = os.dup(one.port.socket.fileno())
    try:
        _replace(one.port, other.port.socket.fileno())
        _replace(other.port, kept)
    finally:
        os.close(kept)
    assert (other.address, one.address) == before


def _replace(port: UdpPort, descriptor: int) -> None:
    """Give a port another socket, with the descriptor of its present one."""
    # the event loop watches the old socket, not the number of the descriptor
    port._await(False)
    os.dup2(descriptor, port.socket.fileno(), inheritable=False)
    port.read()


@dataclass(frozen=True)
class Multiplexed(Remote):
    """A server to which all connections go from one socket for each local address."""

    transport: WebRtcClientTransport

    @classmethod
    def of(cls, server: Remote) -> Multiplexed:
        options = IceOptions(loopback=("127.0.0.1",), shared=UdpPorts())
        transport = WebRtcClientTransport(options, ice_servers=(), channels=1, clock=SystemClock())
        return cls(server.url, server.http, transport)

    def open_connection(self) -> ClientConnection:
        return self.transport.open()


# -- what became of it ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a server has recorded of a client."""

    length: int
    kinds: dict[str, int]
    """Samples of each kind."""
    reason: str


def outcomes(folder: pathlib.Path) -> dict[str, Outcome]:
    """The complete recordings of a folder by their sessions."""
    found = {}
    for path in folder.glob("*.json"):
        ledger = json.loads(path.read_text())
        kinds: dict[str, int] = {}
        for span in ledger["spans"]:
            kinds[span["kind"]] = kinds.get(span["kind"], 0) + span["length"]
        found[ledger["id"]] = Outcome(sum(kinds.values()), kinds, ledger["end_reason"])
    return found


def expected(clients: Sequence[Streaming]) -> dict[str, Outcome]:
    """The outcomes if nothing is lost, and no session ends before its client ends it."""
    lengths = {client.id: client.sent * client.frame for client in clients}
    return {
        session: Outcome(length, {"received": length}, "deleted")
        for session, length in lengths.items()
    }
