"""A peer may send any number of SSRCs and of reports: what they cost is bounded."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator, Callable

import pylibsrtp
import pytest

from adapters.runtime.asyncio_runtime import BackgroundTasks
from adapters.transport.rtcp.reports import MAX_BLOCKS
from adapters.transport.server_connection import (
    MAX_REPORTS,
    REPORTS_PER_S,
    ServerPeerConnection,
)
from adapters.transport.srtp import MAX_SOURCES, Protector, Unprotector
from domain.rtp.packets import RtpPacket, write_rtp
from tests.contracts.test_several_tracks import audio, offer
from tests.contracts.test_transport_contract import Heard, real_server


class _Session(pylibsrtp.Session):
    """Counts the sources whose state was released."""

    released = 0

    def remove_stream(self, ssrc: int) -> None:
        super().remove_stream(ssrc)
        self.released += 1


def sound(ssrc: int, sequence: int = 1) -> bytes:
    return write_rtp(RtpPacket(111, sequence, 960, ssrc, b"sound"))


def malformed(ssrc: int) -> bytes:
    """Its padding has no length."""
    return bytes([0xA0]) + sound(ssrc)[1:] + bytes(1)


def report(ssrc: int) -> bytes:
    return struct.pack("!BBHI", 0x80, 201, 1, ssrc)


def no_report(ssrc: int) -> bytes:
    """It ends within its second packet."""
    return report(ssrc) + struct.pack("!BBH", 0x80, 201, 9)


class Peer:
    """A peer that sends with a new source each time, and the connection that receives it."""

    def __init__(self, connection: ServerPeerConnection) -> None:
        self._key = os.urandom(30)
        kind = pylibsrtp.Policy.SSRC_ANY_INBOUND
        self.session = _Session(pylibsrtp.Policy(key=self._key, ssrc_type=kind))
        self.heard = Heard()
        self._connection = connection
        connection._sink = self.heard
        connection._transport.unprotector = Unprotector(self.session)

    def send(self, packet: bytes, *, at: float = 0.0) -> None:
        kind = pylibsrtp.Policy.SSRC_ANY_OUTBOUND
        protector = Protector(pylibsrtp.Session(pylibsrtp.Policy(key=self._key, ssrc_type=kind)))
        is_report = 200 <= packet[1] <= 201
        protected = protector.rtcp(packet) if is_report else protector.rtp(packet)
        self._connection._receiver([(protected, at)])


@pytest.fixture(params=[1, 3], ids=["one track", "three tracks"])
async def peer(request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    sections = [audio(str(number)) for number in range(request.param)]
    server = real_server(BackgroundTasks())
    connection = await server.accept(offer(*sections), ice_servers=())
    assert isinstance(connection, ServerPeerConnection)
    yield Peer(connection)
    await connection.close()


@pytest.mark.parametrize("make", [sound, malformed, report, no_report])
async def test_the_state_of_a_source_is_released_when_there_are_many(
    peer: Peer, make: Callable[[int], bytes]
) -> None:
    for ssrc in range(MAX_SOURCES + 50):
        peer.send(make(ssrc))
    assert peer.session.released == 50
    peer.send(make(0))  # it may come again
    assert peer.session.released == 51


async def test_a_source_that_is_heard_again_and_again_is_not_forgotten(peer: Peer) -> None:
    for ssrc in range(1, MAX_SOURCES + 50):
        peer.send(sound(ssrc))
        peer.send(sound(0, ssrc))
    peer.send(sound(0, MAX_SOURCES))
    assert peer.heard.repeated == [(0, MAX_SOURCES)]


def sender_report(ssrc: int) -> bytes:
    return struct.pack("!BBHIQIII", 0x80, 200, 6, ssrc, 1 << 32, 960, 0, 0)


async def test_reports_beyond_a_rate_are_not_looked_at(peer: Peer) -> None:
    for ssrc in range(MAX_REPORTS + 50):
        peer.send(sender_report(ssrc), at=1.0)
    assert [report.ssrc for report in peer.heard.reports] == list(range(MAX_REPORTS))
    for ssrc in range(2 * REPORTS_PER_S):
        peer.send(sender_report(1000 + ssrc), at=2.0)
    assert len(peer.heard.reports) == MAX_REPORTS + REPORTS_PER_S
    for second in range(60):  # as an honest sender does
        peer.send(sender_report(5000 + second), at=3.0 + second)
    assert len(peer.heard.reports) == MAX_REPORTS + REPORTS_PER_S + 60


async def test_of_the_reports_in_a_packet_as_many_are_looked_at_as_one_could_answer(
    peer: Peer,
) -> None:
    peer.send(b"".join(map(sender_report, range(45))))
    assert len(peer.heard.reports) == MAX_BLOCKS
