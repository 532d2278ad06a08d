"""What the filter of a UDP port lets through, and what the kernel's buffer loses."""

from __future__ import annotations

import logging
import random
import socket
from collections.abc import Iterator

import pytest
from aiortc.rtcdtlstransport import SRTP_PROFILES

from adapters.transport.sockets import buffer, kernel_filter
from adapters.transport.sockets.buffer import ReceiveBuffer
from adapters.transport.sockets.datagrams import MAX_BYTES
from tests.rigs.junk import Live, kinds

COOKIE = b"\x21\x12\xa4\x42"
SMALL = 20_000  # bytes


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket with a filter and a small buffer, and one that sends to it."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with (
        socket.socket(family, socket.SOCK_DGRAM) as reading,
        socket.socket(family, socket.SOCK_DGRAM) as sending,
    ):
        reading.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        kernel_filter.attach(reading)
        reading.bind((request.param, 0))
        reading.setblocking(False)
        sending.connect(reading.getsockname())
        yield reading, sending


def passes(pair: tuple[socket.socket, socket.socket], data: bytes) -> bool:
    reading, sending = pair
    sending.send(data)
    try:
        assert reading.recv(65_536) == data
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80\x6f" + bytes(19),  # shorter than any SRTP
        b"\x80\x6f" + bytes(MAX_BYTES),  # longer than any MTU
        b"\x00\x01\x00\x00" + b"\x21\x12\xa4\x43" + bytes(12),  # another cookie
        b"\x00\x01\x00\x00" + COOKIE + bytes(11),
        b"\x04\x01\x00\x00" + COOKIE + bytes(12),
        b"\x13" + bytes(20),
        b"\x16" + bytes(11),
        b"\x40" + bytes(100),  # ChannelData of TURN, and what follows in the table of RFC 7983
        b"\x7f" + bytes(100),
        b"\xc0" + bytes(100),
        b"\xff" + bytes(100),
    ],
)
def test_what_is_no_rtp_stun_or_dtls_is_dropped(
    pair: tuple[socket.socket, socket.socket], data: bytes
) -> None:
    assert not passes(pair, data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x6f" + bytes(20),
        b"\xbf\xc8" + bytes(MAX_BYTES - 2),
        b"\x00\x01\x00\x00" + COOKIE + bytes(12),
        b"\x01\x01\x00\x00" + COOKIE + bytes(1400),
        b"\x14" + bytes(12),
        b"\x3f" + bytes(1400),
    ],
)
def test_what_may_be_rtp_stun_or_dtls_passes(
    pair: tuple[socket.socket, socket.socket], data: bytes
) -> None:
    assert passes(pair, data)


def test_no_negotiated_profile_has_a_shorter_tag() -> None:
    assert {profile.openssl_profile for profile in SRTP_PROFILES} == {
        b"SRTP_AEAD_AES_256_GCM", b"SRTP_AEAD_AES_128_GCM", b"SRTP_AES128_CM_SHA1_80"
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["nothing", "12 bytes", "a few bytes", "SRTP of 4000 bytes"])
def test_kinds_of_junk_that_are_dropped(
    pair: tuple[socket.socket, socket.socket], kind: str
) -> None:
    make = kinds(Live(), random.Random(1))[kind]
    assert not any(passes(pair, make()) for _ in range(10))


def test_a_line_a_minute_tells_what_the_kernel_dropped(
    pair: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    reading, sending = pair
    caplog.set_level(logging.WARNING, logger="gapless")
    room = ReceiveBuffer(reading)
    valid = b"\x80\x6f" + bytes(120)

    def send(count: int, data: bytes) -> None:
        for _ in range(count):
            sending.send(data)

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    room.measure()
    assert not room.is_filling
    send(1000, b"junk")  # dropped by the filter, which loses nothing
    room.look(now=0)
    assert lines() == []
    send(1000, valid)
    room.measure()
    assert room.is_filling
    fitted = 0
    while passes_on(reading):
        fitted += 1
    send(1000, b"junk")
    room.look(now=buffer.LOOK_S / 2)  # too early to look again
    assert lines() == []
    room.look(now=10)
    (line,) = lines()
    assert f" at UDP port {reading.getsockname()[1]}: " in line
    # of what the filter has dropped as many are counted as other sockets of the system have lost
    assert 1000 - fitted <= int(line.split("dropped ")[1].split()[0]) < 2000 - fitted
    send(1000, valid)
    room.measure()
    while passes_on(reading):
        pass
    for now in range(11, 70):
        room.look(now=now)
    assert len(lines()) == 1
    room.look(now=71)
    assert f"dropped {1000 - fitted} datagrams" in lines()[1]
    for now in range(72, 300):
        room.look(now=now)
    assert len(lines()) == 2


def test_what_other_sockets_lose_is_not_told(
    pair: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    reading, sending = pair
    caplog.set_level(logging.WARNING, logger="gapless")
    room = ReceiveBuffer(reading)
    with socket.socket(reading.family, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        other.bind((reading.getsockname()[0], 0))
        for _ in range(1000):
            sending.send(b"junk")  # the filter drops it
            sending.sendto(bytes(100), other.getsockname())
    room.measure()
    room.look(now=10)
    assert caplog.records == []


def passes_on(reading: socket.socket) -> bool:
    try:
        reading.recv(2048)
    except BlockingIOError:
        return False
    return True
