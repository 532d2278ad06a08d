"""How the addresses become known at which a server is reached from the internet."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aioice import stun

from adapters.runtime.asyncio_runtime import BackgroundTasks, SystemClock
from adapters.transport.ice import public
from adapters.transport.ice.options import IceOptions
from adapters.transport.ice.public import PublicAddresses
from adapters.transport.sdp.codecs import OpusPreferences
from adapters.transport.server import WebRtcServerTransport
from adapters.transport.sockets.ports import UdpPorts
from domain.errors import SettingInvalid
from domain.rtp.packets import RtpPacket
from domain.session.ice import IceServer
from tests.contracts.test_transport_contract import OPTIONS, Heard, connect, real_publisher

MAPPED, MOVED = ("192.0.2.77", 40_077), ("192.0.2.78", 40_078)
TIMEOUT_S = 10.0


class StunServer(asyncio.DatagramProtocol):
    """Answers with an address of the test's choice, as if there were a NAT between."""

    def __init__(self) -> None:
        self.mapped: tuple[str, int] | None = MAPPED
        """None: it is silent."""
        self.asked: list[tuple[str, int]] = []
        """Who has asked, once for each request and not for each datagram."""
        self._seen: set[bytes] = set()
        self._transport: Any = None

    @property
    def setting(self) -> IceServer:
        return IceServer(f"stun:127.0.0.1:{self._transport.get_extra_info('sockname')[1]}")

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        request = stun.parse_message(data)
        if request.transaction_id not in self._seen:
            self._seen.add(request.transaction_id)
            self.asked.append(addr[:2])
        if self.mapped is not None:
            answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
            answer.attributes["XOR-MAPPED-ADDRESS"] = self.mapped
            self._transport.sendto(bytes(answer), addr)

    def close(self) -> None:
        self._transport.close()


@pytest.fixture
async def stun_server() -> AsyncIterator[StunServer]:
    loop = asyncio.get_running_loop()
    _, server = await loop.create_datagram_endpoint(StunServer, local_addr=("127.0.0.1", 0))
    yield server
    server.close()


@asynccontextmanager
async def serving(
    names: Sequence[str] = (),
    servers: Sequence[IceServer] = (),
    *,
    loopback: Sequence[str] = ("127.0.0.1",),
    public_only: bool = False,
) -> AsyncIterator[tuple[WebRtcServerTransport, UdpPorts]]:
    """An open transport with public addresses."""
    spawner, shared = BackgroundTasks(), UdpPorts()
    options = IceOptions(
        loopback=loopback,
        shared=shared,
        public=PublicAddresses(names, servers),
        public_only=public_only,
    )
    transport = WebRtcServerTransport(
        options, preferences=OpusPreferences(), clock=SystemClock(), spawner=spawner
    )
    try:
        await transport.open()
        yield transport, shared
    finally:
        await transport.close()
        await spawner.join()


async def announced(transport: WebRtcServerTransport) -> list[tuple[str, int, str]]:
    """Host, port and type of the candidates in an answer."""
    publisher = real_publisher()
    connection = await transport.accept(publisher.offer_sdp, ice_servers=())
    await connection.close()
    await publisher.close()
    return candidates_in(connection.answer_sdp)


def candidates_in(answer: str) -> list[tuple[str, int, str]]:
    lines = re.findall(r"^a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ (\S+)", answer, re.MULTILINE)
    return [(host, int(port), kind) for host, port, kind in lines]


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not true():
            await asyncio.sleep(0.01)


def refresh_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "REFRESH_S", 0.1)
    monkeypatch.setattr(public, "ANSWER_S", 0.1)


# -- STUN servers -------------------------------------------------------------------------------


async def test_each_port_asks_once_however_many_offers_there_are(stun_server: StunServer) -> None:
    async with serving(servers=[stun_server.setting]) as (transport, shared):
        ipv4 = [port.address for port in shared.opened if ":" not in port.address[0]]
        # what is asked comes from the port itself, as the mapping is that of the port
        assert {number for _, number in stun_server.asked} == {shared.number}
        assert sorted(stun_server.asked) == sorted(ipv4)
        for _ in range(5):
            found = await announced(transport)
            assert [item for item in found if item[2] == "srflx"] == [(*MAPPED, "srflx")]
            hosts = {(host, number) for host, number, kind in found if kind == "host"}
            assert hosts == {port.address for port in shared.opened}
        assert len(stun_server.asked) == len(ipv4)


async def test_nothing_waits_long_for_a_silent_server(stun_server: StunServer) -> None:
    stun_server.mapped = None
    began = time.monotonic()
    async with serving(servers=[stun_server.setting]) as (transport, _):
        opened = time.monotonic()
        # a server with a NAT before it is useful within a second or so
        assert public.FIRST_ANSWER_S <= opened - began < public.FIRST_ANSWER_S + 1
        found = await announced(transport)
        assert time.monotonic() - opened < public.FIRST_ANSWER_S
        assert {kind for _, _, kind in found} == {"host"}


async def test_an_answer_that_comes_late_is_announced(
    stun_server: StunServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public, "FIRST_ANSWER_S", 0.05)
    stun_server.mapped = None
    async with serving(servers=[stun_server.setting]) as (transport, _):
        assert {kind for _, _, kind in await announced(transport)} == {"host"}
        stun_server.mapped = MAPPED  # the request is sent again and again
        async with asyncio.timeout(TIMEOUT_S):
            while (*MAPPED, "srflx") not in await announced(transport):
                await asyncio.sleep(0.01)


async def test_a_changed_mapping_is_announced(
    stun_server: StunServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public, "REFRESH_S", 0.1)
    async with serving(servers=[stun_server.setting]) as (transport, shared):
        assert (*MAPPED, "srflx") in await announced(transport)
        stun_server.mapped, before = MOVED, len(stun_server.asked)
        await until(lambda: len(stun_server.asked) > before + 2 * len(shared.opened))
        found = await announced(transport)
        assert (*MOVED, "srflx") in found
        assert (*MAPPED, "srflx") not in found


async def test_a_server_that_stops_answering_is_dropped_and_told_once(
    stun_server: StunServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refresh_often(monkeypatch)
    url = stun_server.setting.url

    async def asked_again() -> None:
        before = len(stun_server.asked)
        await until(lambda: len(stun_server.asked) > before + 8)

    async def kinds(wanted: set[str]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while {kind for _, _, kind in await announced(transport)} != wanted:
                await asyncio.sleep(0.01)

    async with serving(servers=[stun_server.setting]) as (transport, _):
        for times in (1, 2):
            await kinds({"host", "srflx"})
            stun_server.mapped = None
            await kinds({"host"})
            await asked_again()
            told = [item.getMessage() for item in caplog.records if url in item.getMessage()]
            assert told == [f"{url} has not answered within 0.1 s"] * times
            stun_server.mapped = MAPPED


async def test_a_server_without_an_ipv4_address_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(servers=[IceServer("stun:[::1]:3478")]) as (transport, _):
        assert {kind for _, _, kind in await announced(transport)} == {"host"}
        await until(lambda: caplog.records)
    assert "stun:[::1]:3478 cannot be reached" in caplog.text


async def test_turn_servers_are_not_asked(stun_server: StunServer) -> None:
    url = stun_server.setting.url.replace("stun:", "turn:")
    began = time.monotonic()
    async with serving(servers=[IceServer(url, "user", "secret")]):
        assert time.monotonic() - began < public.FIRST_ANSWER_S / 2
        assert stun_server.asked == []


async def test_an_answer_to_somebody_else_is_not_believed(stun_server: StunServer) -> None:
    """A stranger does not know the id of the request."""
    stun_server.mapped = None
    async with serving(servers=[stun_server.setting]) as (transport, shared):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE)
            answer.attributes["XOR-MAPPED-ADDRESS"] = MAPPED
            stranger.sendto(bytes(answer), ("127.0.0.1", shared.number))
        await asyncio.sleep(0.05)
        assert {kind for _, _, kind in await announced(transport)} == {"host"}


# -- configured addresses -----------------------------------------------------------------------


async def test_each_address_is_announced_once_with_the_number_of_the_port() -> None:
    names = ["192.0.2.10", "2001:db8::10"]
    async with serving(names, loopback=("127.0.0.1", "::1")) as (transport, shared):
        found = await announced(transport)
        assert len(found) == len(set(found)) == len(shared.opened) + 2
        for name in names:
            assert found.count((name, shared.number, "host")) == 1


async def test_the_address_families_are_kept_apart() -> None:
    """An address is reached through a port of its own family, or not at all."""
    addresses = PublicAddresses(["192.0.2.10", "2001:db8::10"])
    ipv4, ipv6 = UdpPorts(), UdpPorts()
    four, six = ipv4.at("127.0.0.1"), ipv6.at("::1")
    await addresses.open([four, six])

    def hosts(*ports: Any) -> list[tuple[str, int]]:
        return [(item.host, item.port) for item in addresses.candidates(ports)]

    assert hosts(four) == [("192.0.2.10", four.address[1])]
    assert hosts(six) == [("2001:db8::10", six.address[1])]
    assert hosts(four, six) == [*hosts(four), *hosts(six)]
    assert hosts() == []
    ipv4.close()
    ipv6.close()


async def test_stun_answers_belong_to_their_ports(stun_server: StunServer) -> None:
    addresses = PublicAddresses([], [stun_server.setting])
    ports = UdpPorts()
    one, other, six = (ports.at(address) for address in ("127.0.0.1", "127.0.0.2", "::1"))
    await addresses.open([one, other, six])
    assert sorted(stun_server.asked) == sorted([one.address, other.address])
    for port in (one, other):
        (candidate,) = addresses.candidates([port])
        assert (candidate.host, candidate.port) == MAPPED
        assert (candidate.related_address, candidate.related_port) == port.address
    assert addresses.candidates([six]) == []
    addresses.close()
    ports.close()


async def test_names_are_looked_up() -> None:
    async with serving(["localhost"], public_only=True) as (transport, shared):
        found = await announced(transport)
        assert ("127.0.0.1", shared.number, "host") in found
        assert {host for host, _, _ in found} <= {"127.0.0.1", "::1"}
        assert len(found) == len(set(found))


@pytest.mark.parametrize("name", ["nobody.invalid", "", "a" * 70 + ".invalid", "192.0.2.999"])
async def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        async with serving(["192.0.2.10", name]):
            pass
    assert "public_address" in str(refused.value)
    assert repr(name) in str(refused.value)


async def test_addresses_that_are_not_announced_are_used_all_the_same() -> None:
    """As behind a NAT that forwards: the client knows an address that this machine has not."""
    async with serving(["192.0.2.10"], public_only=True) as (transport, shared):
        publisher, heard = real_publisher(), Heard()
        server = await transport.accept(publisher.offer_sdp, ice_servers=())
        server.start(heard)
        assert candidates_in(server.answer_sdp) == [("192.0.2.10", shared.number, "host")]
        for port in shared.opened:
            assert f" {port.address[0]} " not in server.answer_sdp
        # the way that the NAT would forward
        answer = server.answer_sdp.replace(" 192.0.2.10 ", " 127.0.0.1 ")
        await connect(publisher, server, answer_sdp=answer)
        for number in range(10):
            publisher.send(RtpPacket(111, number, number * 960, 7, b"\x78x"))
        await heard.until(lambda: len(heard.packets) == 10)
        await publisher.close()
        await server.close()


async def test_an_address_of_this_machine_may_be_announced_alone() -> None:
    """Others may lead nowhere: those of containers, say."""
    async with serving(["127.0.0.1"], public_only=True) as (transport, shared):
        assert await announced(transport) == [("127.0.0.1", shared.number, "host")]


async def test_without_options_only_own_addresses_are_announced() -> None:
    options = replace(OPTIONS, shared=UdpPorts())
    assert options.public.candidates([]) == []
    async with serving() as (transport, shared):
        found = await announced(transport)
        assert {item[:2] for item in found} == {port.address for port in shared.opened}
