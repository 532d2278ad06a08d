"""What a stranger can send to a shared UDP port costs a session nothing, and the others little."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aioice import stun

from adapters.runtime.asyncio_runtime import BackgroundTasks
from adapters.transport.sockets import datagrams, faults, port, rounds
from adapters.transport.sockets.datagrams import Datagram, DatagramReader
from adapters.transport.sockets.faults import Faults
from adapters.transport.sockets.port import MAX_STRANGE, SharedTransport, UdpPort
from adapters.transport.sockets.ports import UdpPorts
from tests.contracts.test_sockets_are_shared import (
    ALERT,
    Agent,
    Peer,
    attached,
    rtp,
    until,
)
from tests.contracts.test_transport_contract import real_publisher, real_server
from tests.rigs.junk import Live, kinds

SSRC = 7
NAME = "session"
OF_A_SESSION = {"SRTP, SSRC of a session", "SRTCP, SSRC of a session"}


@pytest.fixture
async def shared() -> UdpPort:
    return UdpPorts().at("127.0.0.1")


@pytest.fixture
def peers(shared: UdpPort) -> Iterator[list[Peer]]:
    made = [Peer(shared) for _ in range(3)]
    yield made
    for peer in made:
        peer.socket.close()
    shared.close()


async def checked(shared: UdpPort, peer: Peer, name: str, ssrc: int) -> Agent:
    """Attach an agent whose peer has been checked, and has sent."""
    agent = attached(shared, name)
    peer.check(name)
    await until(lambda: agent.checks)
    shared._sources.add(ssrc, agent)
    return agent


async def heard(peer: Peer, agent: Agent, ssrc: int) -> None:
    """Wait until what was sent before has been delivered, by a packet of the peer."""
    last = rtp(ssrc, random.getrandbits(16))
    peer.send(last)
    await until(lambda: last in agent.received)


@pytest.mark.parametrize("kind", list(kinds(Live(), random.Random())))
async def test_junk_of_a_kind_reaches_no_session(
    shared: UdpPort, peers: list[Peer], kind: str
) -> None:
    agent = await checked(shared, peers[0], NAME, SSRC)
    make = kinds(Live([SSRC], [NAME]), random.Random(1))[kind]
    junk = [make() for _ in range(20)]
    peers[2].send(*junk)
    await heard(peers[0], agent, SSRC)
    if kind in OF_A_SESSION:  # they may be of its peer, with another address
        await until(lambda: len(agent.received) == len(junk) + 1)
        assert agent.received[1:] == junk
    else:
        assert len(agent.received) == 1
    assert len(agent.checks) == 1
    peers[2].socket.setblocking(False)
    with pytest.raises(BlockingIOError):  # nothing is answered
        peers[2].socket.recv(2048)


async def test_a_port_does_not_see_what_the_kernel_drops(
    shared: UdpPort, peers: list[Peer]
) -> None:
    peers[2].send(b"", b"\x80", bytes(12), rtp(SSRC))
    (head,) = DatagramReader().read(shared.socket.fileno())
    assert head[1][3] == SSRC.to_bytes(4, "big")


async def test_an_unknown_address_comes_after_all_that_are_known(
    shared: UdpPort, peers: list[Peer]
) -> None:
    one = await checked(shared, peers[0], "one", 1)
    other = await checked(shared, peers[1], "other", 2)
    order: list[tuple[Agent, int]] = []
    for agent in (one, other):

        def note(datagrams: Sequence[Datagram], agent: Agent = agent) -> None:
            order.extend((agent, int.from_bytes(data[2:4], "big")) for data, _ in datagrams)

        agent.on_media = note
    count = MAX_STRANGE + 100
    peers[2].send(*(rtp(1, number) for number in range(count)))
    peers[0].send(rtp(1, 5000))
    peers[1].send(rtp(2, 5001))
    shared.read()
    assert order[:2] == [(one, 5000), (other, 5001)]
    assert order[2:] == [(one, number) for number in range(MAX_STRANGE)]  # no more in a round


async def test_guesses_do_not_keep_the_peer_from_being_heard(
    shared: UdpPort, peers: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharedTransport, "GUESSES_PER_S", 3)
    agent = await checked(shared, peers[0], NAME, SSRC)
    other = await checked(shared, peers[1], "other", SSRC + 1)
    looked_at: list[bytes] = []

    def is_authentic(data: bytes, password: bytes) -> bool:
        looked_at.append(data)
        return real(data, password)

    real = port.is_authentic
    monkeypatch.setattr(port, "is_authentic", is_authentic)
    for _ in range(100):
        peers[2].check(NAME, "guessed")
    await heard(peers[0], agent, SSRC)
    assert 3 <= len(looked_at) < 20
    peers[2].check("other")  # another agent is asked from the same address
    peers[0].check(NAME)
    await until(lambda: len(other.checks) == 2 and len(agent.checks) == 2)


async def test_a_peer_is_heard_from_a_new_address_between_some_guesses(
    shared: UdpPort, peers: list[Peer]
) -> None:
    agent = await checked(shared, peers[0], NAME, SSRC)
    for number in range(50):
        peers[2].check(NAME, f"guess {number}")
    peers[1].check(NAME)
    await until(lambda: len(agent.checks) == 2)
    assert agent.checks[1][1] == peers[1].address


async def test_dtls_with_the_address_of_a_peer_is_limited(
    shared: UdpPort, peers: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharedTransport, "DTLS_AT_ONCE", 10)
    monkeypatch.setattr(SharedTransport, "DTLS_PER_S", 1)
    agent = await checked(shared, peers[0], NAME, SSRC)
    other = await checked(shared, peers[1], "other", SSRC + 1)
    peers[0].send(*[ALERT] * 100)
    peers[1].send(ALERT)
    await heard(peers[0], agent, SSRC)
    assert 10 <= agent.received.count(ALERT) < 30
    await until(lambda: other.received == [ALERT])


async def test_dtls_hurries_a_port_during_handshakes_only(
    shared: UdpPort, peers: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await checked(shared, peers[0], NAME, SSRC)
    for limit, is_hurried in ((port.CONNECTING_S, True), (0.0, False)):
        monkeypatch.setattr(port, "CONNECTING_S", limit)
        shared._hurried_until = 0.0
        peers[0].send(ALERT)
        await heard(peers[0], agent, SSRC)
        assert bool(shared._hurried_until) == is_hurried


async def test_a_full_round_is_followed_by_the_next_at_once(
    shared: UdpPort, peers: list[Peer], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await checked(shared, peers[0], NAME, SSRC)
    await slowed(shared, monkeypatch)
    monkeypatch.setattr(rounds, "MAX_ROUND", 1)
    peers[0].send(*(rtp(SSRC, number) for number in range(1000)))
    await until(lambda: len(agent.received) == 1000)


async def test_a_small_buffer_is_read_before_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagrams, "BUFFER_BYTES", 100_000)
    shared = UdpPorts().at("127.0.0.1")
    peer = Peer(shared)
    agent = await checked(shared, peer, NAME, SSRC)
    await slowed(shared, monkeypatch)
    await heard(peer, agent, SSRC)
    received = len(agent.received)
    peer.send(*(rtp(SSRC, number) for number in range(5)))
    await asyncio.sleep(0.05)  # a few packets wait for the next read, which is not due
    assert len(agent.received) == received
    peer.send(*(rtp(SSRC, number) for number in range(5, 100)))
    await until(lambda: len(agent.received) == received + 100)
    shared.close()
    peer.socket.close()


async def slowed(shared: UdpPort, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a port read the next datagram at once, and then wait for so long that a test fails."""
    await until(lambda: shared._is_awaited)
    shared._hurried_until = 0.0
    monkeypatch.setattr(rounds, "READ_S", 60.0)
    monkeypatch.setattr(rounds, "MAX_WAIT_S", 60.0)


async def test_faults_of_one_kind_are_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    found = Faults(loop)

    def fail(kind: str) -> None:
        try:
            if kind == "value":
                raise ValueError(kind)
            raise KeyError(kind)
        except (ValueError, KeyError) as error:
            found.tell(error)

    for _ in range(100):
        fail("value")
    assert [type(context["exception"]) for context in told] == [ValueError]
    for _ in range(100):
        fail("key")
    assert [type(context["exception"]) for context in told] == [ValueError, KeyError]
    monkeypatch.setattr(faults, "TELL_S", 0.0)
    fail("value")
    assert "99 before it" in told[-1]["message"]
    fail("value")
    assert "before it" not in told[-1]["message"]


async def test_a_stranger_gets_no_answer_from_a_real_agent() -> None:
    """aioice answers a wrong password with an error, and so would serve to flood third parties."""
    spawner, publisher = BackgroundTasks(), real_publisher()
    server = await real_server(spawner).accept(publisher.offer_sdp, ice_servers=())
    (candidate,) = [
        line.split()
        for line in server.answer_sdp.splitlines()
        if line.startswith("a=candidate:") and " 127.0.0.1 " in line
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.connect((candidate[4], int(candidate[5])))
        stranger.setblocking(False)
        peer = publisher.offer_sdp.partition("a=ice-ufrag:")[2].split()[0]
        for password in ("guessed", server.answer_sdp.partition("a=ice-pwd:")[2].split()[0]):
            message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
            message.attributes["USERNAME"] = f"{server.ice_tag}:{peer}"
            message.add_message_integrity(password.encode())
            stranger.send(bytes(message))
        async with asyncio.timeout(10):  # the answer to the second one
            answer = stun.parse_message(await asyncio.get_running_loop().sock_recv(stranger, 2048))
        assert answer.transaction_id == message.transaction_id
        assert answer.message_class == stun.Class.RESPONSE
    await publisher.close()
    await server.close()
    await spawner.join()
