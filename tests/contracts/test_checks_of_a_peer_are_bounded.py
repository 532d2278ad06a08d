"""What a peer can make an ICE agent do by checks and candidates, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aioice import mdns, stun

from adapters.runtime.asyncio_runtime import BackgroundTasks
from adapters.transport.ice import consent
from adapters.transport.ice.candidates import parse_candidate
from adapters.transport.ice.guard import MAX_HEARD
from adapters.transport.ice.transport import IceTransport
from adapters.transport.server import WebRtcServerTransport
from adapters.transport.sockets.port import SharedTransport
from domain.rtp.packets import RtpPacket
from domain.session import checks
from domain.session.ice import IceCandidate, IceDescription
from tests.contracts.test_transport_contract import (
    OPTIONS,
    Heard,
    connect,
    real_publisher,
    real_server,
)
from tests.rigs.rebinding import rebound
from tests.rigs.victims import VICTIMS

INTERVAL_S = 0.05
NAME = "a0b1c2d3-0000-4000-8000-a0b1c2d3e4f5.local"


def check(transport: IceTransport, *, password: str = "") -> bytes:
    """A check of the peer of `transport`."""
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes |= {
        "USERNAME": f"{transport.username}:{transport.remote.username}",
        "PRIORITY": 1,
        "ICE-CONTROLLING": 1,
    }
    message.add_message_integrity((password or transport.password).encode())
    return bytes(message)


def send_from_new_port(data: bytes, address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 0))
        sender.sendto(data, address)


def loopback_address(transport: IceTransport) -> tuple[str, int]:
    """Where an agent receives on loopback."""
    (address,) = [
        (candidate.host, candidate.port)
        for candidate in transport._agent.local_candidates
        if candidate.host == "127.0.0.1"
    ]
    return address


@asynccontextmanager
async def accepted(transport: WebRtcServerTransport) -> AsyncIterator[tuple[Any, Any, Heard]]:
    """A publisher, the server's connection for it, and what that hears."""
    publisher, heard = real_publisher(), Heard()
    server = await transport.accept(publisher.offer_sdp, ice_servers=())
    server.start(heard)
    try:
        yield publisher, server, heard
    finally:
        await publisher.close()
        await server.close()


@pytest.fixture
async def transport() -> AsyncIterator[WebRtcServerTransport]:
    spawner = BackgroundTasks()
    yield real_server(spawner)
    await spawner.join()


@pytest.mark.parametrize(("count", "is_rate_limited"), [(10_000, True), (2_000, False)])
async def test_thousands_of_addresses_leave_little_behind(
    transport: WebRtcServerTransport,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    is_rate_limited: bool,
) -> None:
    if not is_rate_limited:
        monkeypatch.setattr(checks, "RECEIVED", 1_000_000)
    async with accepted(transport) as (_, flooded, _), accepted(transport) as other:
        ice = flooded._transport.ice
        agent, address = ice._agent, loopback_address(ice)
        (port,) = {
            protocol.transport.port
            for protocol in agent._protocols
            if protocol.local_candidate.host == "127.0.0.1"
        }
        tasks = len(asyncio.all_tasks())
        data, may_answer, began = check(ice), agent.may_answer, time.monotonic()
        answered: list[bool] = []

        def counted(*request: Any) -> bool:
            answered.append(may_answer(*request))
            return answered[-1]

        agent.may_answer = counted
        for number in range(count):
            send_from_new_port(data, address)
            if number % 100 == 0:
                await asyncio.sleep(0)
        async with asyncio.timeout(50):
            while len(answered) < count:
                await asyncio.sleep(0.01)
        passed_s = time.monotonic() - began
        if is_rate_limited:
            assert sum(answered) <= checks.RECEIVED + checks.RECEIVED_PER_S * passed_s
        else:
            assert all(answered)
        assert len(agent._heard_at) <= MAX_HEARD
        assert len(agent._remote_candidates) <= MAX_HEARD
        assert len(agent._check_list) <= MAX_HEARD
        assert len(port._checked) <= MAX_HEARD
        await asyncio.sleep(0)  # cancelled checks end
        assert len(asyncio.all_tasks()) <= tasks + MAX_HEARD
        assert len(ice.budget._targets) <= MAX_HEARD
        publisher, server, heard = other
        await connect(publisher, server)
        publisher.send(RtpPacket(111, 1, 960, 7, b"\x78x"))
        await heard.until(lambda: len(heard.packets) == 1)


async def test_only_checks_with_the_right_password_are_answered(
    transport: WebRtcServerTransport,
) -> None:
    async with accepted(transport) as (_, server, _):
        loop, ice = asyncio.get_running_loop(), server._transport.ice
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.setblocking(False)
            peer.bind(("127.0.0.1", 0))
            await loop.sock_connect(peer, loopback_address(ice))
            peer.send(check(ice, password="wrong" * 5))
            peer.send(check(ice)[:-40])
            good = check(ice)
            peer.send(good)
            async with asyncio.timeout(10):
                answer = stun.parse_message(await loop.sock_recv(peer, 2000))
                request = stun.parse_message(await loop.sock_recv(peer, 2000))
        assert answer.message_class == stun.Class.RESPONSE
        assert answer.transaction_id == good[8:20]
        assert request.message_class == stun.Class.REQUEST  # its own check of the address


@pytest.mark.parametrize(
    "times", [2 * MAX_HEARD, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
async def test_a_client_is_followed_through_any_number_of_addresses(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(consent, "CONSENT_INTERVAL", INTERVAL_S)
    # half a day with an address every minute or so takes seconds here
    monkeypatch.setattr(checks, "RECEIVED_PER_S", 10_000)
    client = IceTransport(OPTIONS, controlling=True)
    server = IceTransport(replace(OPTIONS, is_server=True), controlling=False)
    client.set_remote(server.username, server.password)
    server.set_remote(client.username, client.password)
    await client.gather(())
    for candidate in await server.gather(()):
        await client.add_remote_candidate(parse_candidate(candidate))
    await asyncio.gather(client.connect(), server.connect())
    path = client._agent.selected
    assert path is not None
    assert isinstance(path.protocol.transport, SharedTransport)
    for _ in range(times):
        after = rebound(path.protocol.transport.port)
        async with asyncio.timeout(20):
            while (pair := server._agent.selected) is None or pair.remote_addr != after:
                await asyncio.sleep(0.01)
        assert len(server._agent._heard_at) <= MAX_HEARD
    received: list[bytes] = []
    client.on_media = lambda datagrams: received.extend(data for data, _ in datagrams)
    assert server.send(b"\x80 and the packets arrive")
    async with asyncio.timeout(20):
        while not received:
            await asyncio.sleep(0.01)
    await client.close()
    await server.close()


async def test_checks_from_elsewhere_do_not_keep_a_path(
    transport: WebRtcServerTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their source may be forged, and the path may lead to somebody else by now."""
    monkeypatch.setattr(consent, "CONSENT_INTERVAL", INTERVAL_S)
    async with accepted(transport) as (publisher, server, _):
        await connect(publisher, server)
        ice = server._transport.ice
        data, address = check(ice), loopback_address(ice)
        publisher._transport.ice._agent._closing = True  # it answers no more
        for protocol in publisher._transport.ice._agent._protocols:
            protocol.datagram_received = lambda *_: None
            protocol.send_stun = lambda *_: None
        async with asyncio.timeout(20):
            while not ice.is_lost:
                send_from_new_port(data, address)
                await asyncio.sleep(INTERVAL_S / 4)


async def test_names_are_not_looked_up_and_their_owners_connect(
    transport: WebRtcServerTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers hide addresses behind mDNS names; their checks show where they are."""
    asked: list[object] = []

    async def create() -> None:
        asked.append(None)
        raise OSError

    monkeypatch.setattr(mdns, "create_mdns_protocol", create)
    publisher, heard = real_publisher(), Heard()
    named = f"candidate:1 1 udp 2122260223 {NAME} 50000 typ host"
    offer = publisher.offer_sdp + f"a={named}\r\n"
    server = await transport.accept(offer, ice_servers=())
    server.start(heard)
    server.add_candidate(IceCandidate(named.replace("50000", "50001")))

    async def keep_to_oneself(_candidate: IceCandidate) -> None:
        """The server gets no other candidate."""

    answer = server.answer_sdp.replace("a=candidate:", f"a={named}\r\na=candidate:", 1)
    await publisher.connect(answer, ice_servers=(), send_candidate=keep_to_oneself)
    publisher.send(RtpPacket(111, 1, 960, 7, b"\x78x"))
    await heard.until(lambda: len(heard.packets) == 1)
    assert asked == []
    await publisher.close()
    await server.close()


async def test_candidates_are_counted_over_trickle_and_restarts() -> None:
    transport = IceTransport(replace(OPTIONS, max_candidates=5), controlling=True)
    transport.set_remote("abcd", "x" * 22)
    await transport.gather(())
    lines = [f"{n} 1 udp {n + 1} 192.0.2.{n} 9 typ host" for n in range(20)]
    for line in lines[:3]:
        await transport.add_remote_candidate(parse_candidate(line))
    remote = IceDescription("efgh", "y" * 22, lines[3:])
    await transport.answer_restart(remote, ())
    async with asyncio.timeout(10):
        while transport._latest._remote_candidates == []:
            await asyncio.sleep(0.01)
    taken = [candidate.host for candidate in transport._latest._remote_candidates]
    assert taken == ["192.0.2.3", "192.0.2.4"]
    await transport.close()


async def test_a_restart_brings_no_new_allowance() -> None:
    server = IceTransport(replace(OPTIONS, is_server=True), controlling=True)
    server.set_remote("abcd", "x" * 22, is_lite=True)
    server.budget.earn(1000)
    now = time.monotonic()
    while server.budget.take(("192.0.2.1", 9), 100, now=now, is_connected=False):
        pass
    await server.gather(())
    await server.answer_restart(IceDescription("efgh", "y" * 22), ())
    assert not server._latest.budget.take(("192.0.2.2", 9), 100, now=now, is_connected=False)
    await server.close()


async def test_a_client_takes_no_candidates_of_services_and_groups() -> None:
    """A hostile server may name them."""
    client = IceTransport(OPTIONS, controlling=True)
    client.set_remote("abcd", "x" * 22)
    await client.gather(())
    for kind in ("metadata", "multicast", "translated", "private"):
        for address in VICTIMS[kind]:
            line = f"1 1 udp 1 {address} 4444 typ host"
            await client.add_remote_candidate(parse_candidate(line))
    taken = {candidate.host for candidate in client._latest._remote_candidates}
    assert taken == set(VICTIMS["private"])
    await client.close()
