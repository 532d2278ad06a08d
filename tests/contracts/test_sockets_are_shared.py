"""What a shared UDP port guarantees to each connection, whatever others receive."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aioice import stun

from adapters.transport.sockets.datagrams import Datagram
from adapters.transport.sockets.port import MAX_SHARING, SharedTransport, UdpPort
from adapters.transport.sockets.ports import UdpPorts
from adapters.transport.sockets.stun_requests import username_of
from domain.errors import PortInUse

FEW, MOST = 60, 20_000
ALERT = bytes([21, 254, 253]) + bytes(20)
TAG = bytes(16)
TIMEOUT_S = 10.0


class Agent:
    """An ICE agent that accepts everything, and notes what its connection receives."""

    transport: SharedTransport
    password = "password"

    def __init__(self, name: str = "user") -> None:
        self.name = name
        self.transactions: Any = {}
        self.received: list[bytes] = []
        self.checks: list[tuple[bytes, Any]] = []
        self.is_closed = False
        self.on_media = self.media_received

    @property
    def owner(self) -> Agent:
        return self

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True

    def error_received(self, exc: Exception) -> None:
        raise exc

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.checks.append((data, addr))
        self.transport.learn(addr)

    def media_received(self, datagrams: Sequence[Datagram]) -> None:
        self.received += [data for data, _ in datagrams]

    def dtls_received(self, data: bytes) -> None:
        self.received.append(data)


class Peer:
    """A socket that sends to a port."""

    def __init__(self, port: UdpPort) -> None:
        family = socket.AF_INET6 if ":" in port.address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.connect(port.address)

    @property
    def address(self) -> tuple[str, int]:
        return self.socket.getsockname()[:2]

    def send(self, *datagrams: bytes) -> None:
        for data in datagrams:
            self.socket.send(data)

    def check(self, name: str, password: str = Agent.password) -> None:
        """Send a connectivity check for an agent."""
        message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        message.attributes["USERNAME"] = f"{name}:peer"
        message.add_message_integrity(password.encode())
        message.add_fingerprint()
        self.send(bytes(message))


def rtp(ssrc: int, number: int = 0) -> bytes:
    head = bytes([0x80, 111]) + number.to_bytes(2, "big") + bytes(4)
    return head + ssrc.to_bytes(4, "big") + TAG


def rtcp(ssrc: int) -> bytes:
    return bytes([0x80, 201, 0, 1]) + ssrc.to_bytes(4, "big") + TAG


async def until(true: Any) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not true():
            await asyncio.sleep(0.001)


@pytest.fixture(params=["127.0.0.1", "::1"])
async def port(request: pytest.FixtureRequest) -> UdpPort:
    return UdpPorts().at(request.param)


@pytest.fixture
def peers(port: UdpPort) -> Iterator[list[Peer]]:
    made = [Peer(port) for _ in range(3)]
    yield made
    for peer in made:
        peer.socket.close()
    port.close()


def attached(port: UdpPort, name: str) -> Agent:
    agent = Agent(name)
    port.attach(agent, name)
    return agent


async def two_checked(port: UdpPort, peers: Sequence[Peer]) -> tuple[Agent, Agent]:
    """Attach two agents, one checked by the first peer, the other by the second."""
    one, other = attached(port, "one"), attached(port, "other")
    for agent, peer in ((one, peers[0]), (other, peers[1])):
        peer.check(agent.name)
        await until(lambda agent=agent: agent.checks)
    return one, other


async def test_each_agent_gets_what_is_its_own(port: UdpPort, peers: list[Peer]) -> None:
    one, other = attached(port, "one"), attached(port, "other")
    stranger = peers[2]
    for agent, peer in ((one, peers[0]), (other, peers[1])):
        peer.check(agent.name)
        await until(lambda agent=agent: agent.checks)
        assert [source for _, source in agent.checks] == [peer.address]
    stranger.check("nobody")
    stranger.send(rtp(1), rtcp(1), ALERT, b"", b"\xff", b"\x00", b"\x01" * 20)
    peers[0].send(rtp(1, 1), rtp(1, 2), rtcp(1), ALERT)
    peers[1].send(rtp(2, 1))
    await until(lambda: other.received)
    assert one.received == [rtp(1, 1), rtp(1, 2), rtcp(1), ALERT]
    assert other.received == [rtp(2, 1)]
    assert len(one.checks) == len(other.checks) == 1


async def test_an_authenticated_source_is_received_from_any_address(
    port: UdpPort, peers: list[Peer]
) -> None:
    one, other = await two_checked(port, peers)
    sources = port._sources
    sources.add(1, one)
    sources.add(2, other)
    peers[0].send(rtp(1))
    peers[1].send(rtp(2))
    peers[2].send(rtp(1, 1), rtcp(1))  # from a new address
    await until(lambda: len(one.received) == 3 and other.received)
    assert (one.received, other.received) == ([rtp(1), rtp(1, 1), rtcp(1)], [rtp(2)])
    peers[1].send(
        rtp(1, 2), rtcp(1)
    )  # a NAT gives it the address of the other: either may be meant
    await until(lambda: len(one.received) == 5)
    assert one.received[3:] == other.received[1:] == [rtp(1, 2), rtcp(1)]
    sources.remove(1, one)
    sources.remove(2, other)
    peers[2].send(rtp(2, 2))
    peers[1].send(rtp(2, 3))
    await until(lambda: rtp(2, 3) in other.received)
    assert rtp(2, 2) not in one.received + other.received


async def test_a_peer_gets_its_packets_whoever_else_uses_its_ssrc(
    port: UdpPort, peers: list[Peer]
) -> None:
    one, other = await two_checked(port, peers)
    port._sources.add(1, other)  # was the first to send with it
    peers[0].send(rtp(1, 1))
    await until(lambda: one.received)
    assert one.received == other.received == [rtp(1, 1)]
    port._sources.add(1, one)  # now the address has to tell
    peers[0].send(rtp(1, 2))
    peers[1].send(rtp(1, 3))
    await until(lambda: rtp(1, 2) in one.received and rtp(1, 3) in other.received)
    assert (one.received, other.received) == ([rtp(1, 1), rtp(1, 2)], [rtp(1, 1), rtp(1, 3)])
    port._sources.remove(1, other)
    port._sources.add(1, one)
    peers[2].send(rtp(1, 4))
    await until(lambda: rtp(1, 4) in one.received)


async def test_agents_whose_peers_share_an_address_all_get_what_may_be_theirs(
    port: UdpPort, peers: list[Peer]
) -> None:
    names = [str(number) for number in range(MAX_SHARING + 1)]
    agents = [attached(port, name) for name in names]
    for agent in agents:
        peers[0].check(agent.name)
        await until(lambda agent=agent: agent.checks)
    peers[0].send(rtp(1), ALERT)
    await until(lambda: len(agents[-1].received) == 2)
    assert [len(agent.received) for agent in agents] == [0] + [2] * MAX_SHARING
    for agent in agents[:-1]:
        agent.transport.close()
    peers[0].send(rtp(2))
    await until(lambda: len(agents[-1].received) == 3)
    assert [len(agent.received) for agent in agents[1:-1]] == [2] * (MAX_SHARING - 1)


async def test_an_address_that_may_be_forged_takes_no_other_agents_place(
    port: UdpPort, peers: list[Peer]
) -> None:
    agents = [attached(port, str(number)) for number in range(MAX_SHARING + 1)]
    address = peers[0].address
    for agent in agents:
        agent.transport.learn(address, is_proven=False)
    peers[0].send(ALERT)
    await until(lambda: agents[0].received)
    assert [len(agent.received) for agent in agents] == [1] * MAX_SHARING + [0]
    agents[-1].transport.learn(address)
    peers[0].send(ALERT)
    await until(lambda: agents[-1].received)
    assert len(agents[0].received) == 1


async def test_an_address_is_forgotten_for_one_agent(port: UdpPort, peers: list[Peer]) -> None:
    one, other = attached(port, "one"), attached(port, "other")
    address = peers[0].address
    for agent in (one, other):
        agent.transport.learn(address)
    one.transport.forget(address)
    one.transport.forget(address)
    peers[0].send(ALERT)
    await until(lambda: other.received)
    assert one.received == []
    other.transport.forget(address)
    assert port._checked == {}


async def test_a_fault_in_one_connection_concerns_no_other(
    port: UdpPort, peers: list[Peer]
) -> None:
    reported: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def fail(_: object) -> None:
        raise RuntimeError("broken")

    broken, sound = attached(port, "broken"), attached(port, "sound")
    broken.on_media = fail
    port._sources.add(1, broken)
    port._sources.add(2, sound)
    peers[0].send(rtp(1), rtp(2), rtp(1, 1), rtp(2, 1))
    await until(lambda: len(sound.received) == 2)
    assert reported
    assert all(isinstance(error, RuntimeError) for error in reported)


async def test_a_port_that_is_not_kept_closes_with_its_last_agent() -> None:
    ports = UdpPorts()
    port = ports.at("127.0.0.1")
    first, second = attached(port, "first"), attached(port, "second")
    assert ports.at("127.0.0.1") is port
    first.transport.close()
    assert not port.is_closed
    second.transport.close()
    await until(lambda: first.is_closed and second.is_closed)
    assert port.is_closed
    assert ports.at("127.0.0.1") is not port
    ports.close()


async def test_all_addresses_have_one_number_which_nobody_else_has() -> None:
    ports, others = UdpPorts(), UdpPorts()
    problems = ports.open(["127.0.0.1", "127.0.0.2", "192.0.2.1"])  # the last one is not ours
    assert [port.address for port in ports.opened] == [
        ("127.0.0.1", ports.number),
        ("127.0.0.2", ports.number),
    ]
    assert len(problems) == 1
    agent = attached(ports.at("127.0.0.1"), "user")
    agent.transport.close()
    assert not ports.at("127.0.0.1").is_closed
    others.number = ports.number
    with pytest.raises(PortInUse, match=f"UDP port {ports.number} of 127.0.0.2 is in use"):
        others.open(["127.0.0.3", "127.0.0.2"])
    assert not others.opened
    ports.close()
    assert others.open(["127.0.0.3", "127.0.0.2"]) == []
    others.close()


async def test_a_free_number_is_free_on_all_addresses() -> None:
    class Unlucky(UdpPorts):
        """Gets a number first that is taken on another address."""

        taken: int | None = None

        def _bind(self, address: str) -> UdpPort:
            if self.taken is None and self.number:
                self.taken = self.number
                raise OSError(errno.EADDRINUSE, "in use")
            return super()._bind(address)

    ports = Unlucky()
    assert ports.open(["127.0.0.1", "127.0.0.2"]) == []
    assert ports.taken
    assert {port.address[1] for port in ports.opened} == {ports.number}
    ports.close()


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x01", bytes(20), bytes(20) + b"\x00\x06\xff\xff", bytes(19)]
)
def test_a_check_without_a_user_name_names_nobody(data: bytes) -> None:
    assert username_of(data) == b""


class Flooded(Agent):
    """Sends itself another datagram for each one that it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.sent = 0
        self.is_over = False
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def media_received(self, datagrams: Sequence[Datagram]) -> None:
        self.count += len(datagrams)
        if not self.is_over and self.count < MOST:
            self.send(len(datagrams))

    def send(self, count: int) -> None:
        self.sent += count
        for _ in range(count):
            self.sender.sendto(rtp(1), self.transport.port.address)


async def test_a_flooded_port_does_not_block_the_event_loop() -> None:
    port, flooded = UdpPorts().at("127.0.0.1"), Flooded()
    port.attach(flooded, "user")
    port._sources.add(1, flooded)
    flooded.send(FEW)
    await until(lambda: flooded.count)
    await asyncio.sleep(0.05)  # the event loop still runs
    flooded.is_over = True
    assert FEW < flooded.count < MOST
    await until(lambda: flooded.count == flooded.sent)  # the remaining datagrams are read as well
    flooded.transport.close()
    flooded.sender.close()
