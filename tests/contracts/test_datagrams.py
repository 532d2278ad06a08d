"""What `DatagramReader` promises, held against the sockets of this machine."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

from adapters.transport.sockets.datagrams import MAX_DATAGRAMS, DatagramReader


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket that is read, and one that sends to it."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with (
        socket.socket(family, socket.SOCK_DGRAM) as reading,
        socket.socket(family, socket.SOCK_DGRAM) as sending,
    ):
        for one in (reading, sending):
            DatagramReader.prepare(one)
            one.bind((request.param, 0))
        sending.connect(reading.getsockname())
        yield reading, sending


def test_all_that_waits_is_read_in_order_empty_datagrams_too(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    reading, sending = pair
    reader = DatagramReader()
    assert reader.read(reading.fileno()) == []
    sent = [b"one", b"", b"3" * 1400]
    for data in sent:
        sending.send(data)
    assert [data for data, _ in reader.read(reading.fileno())] == sent
    assert [reader.source(index) for index in range(3)] == [sending.getsockname()] * 3
    assert reader.read(reading.fileno()) == []


def test_more_than_one_call_takes_is_there_for_the_next(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    reading, sending = pair
    reader = DatagramReader()
    for index in range(MAX_DATAGRAMS + 3):
        sending.send(bytes([index]))
    first, rest = reader.read(reading.fileno()), reader.read(reading.fileno())
    assert [data[0] for data, _ in first] == list(range(MAX_DATAGRAMS))
    assert [data[0] for data, _ in rest] == list(range(MAX_DATAGRAMS, MAX_DATAGRAMS + 3))


def test_nothing_is_lost_while_nobody_can_read(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    reading, sending = pair
    reader, count = DatagramReader(), 400  # 8 s; without being asked the kernel keeps 256
    for index in range(count):
        sending.send(index.to_bytes(2, "big") + bytes(120))
    found: list[int] = []
    while datagrams := reader.read(reading.fileno()):
        found += [int.from_bytes(data[:2], "big") for data, _ in datagrams]
    assert found == list(range(count))


def test_a_datagram_has_the_time_at_which_it_came_not_that_of_the_reading(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    reading, sending = pair
    before = time.monotonic()
    sending.send(b"early")
    after = time.monotonic()
    time.sleep(0.05)  # what is measured is that this makes no difference
    ((_, arrived),) = DatagramReader().read(reading.fileno())
    assert before - 0.001 <= arrived <= after + 0.01


def test_what_a_socket_says_about_its_peer_is_an_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            one.connect(gone.getsockname())
        one.send(b"anybody?")
        select.select([one], [], [], 5)
        with pytest.raises(ConnectionRefusedError):
            DatagramReader().read(one.fileno())
