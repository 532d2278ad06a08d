"""The contract of `DatagramReader`, tested with real sockets."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

from adapters.transport.sockets.datagrams import (
    MAX_BYTES,
    MAX_DATAGRAMS,
    Datagram,
    DatagramReader,
    decode_address,
    encode_address,
)


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket to read, and one that sends to it."""
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


def read(reader: DatagramReader, reading: socket.socket) -> list[Datagram]:
    return [reader.datagram(index) for index, *_ in reader.read(reading.fileno())]


def test_all_waiting_datagrams_are_read_in_order_empty_ones_too(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    reading, sending = pair
    reader = DatagramReader()
    assert read(reader, reading) == []
    sent = [b"one", b"", b"3" * 1400]
    for data in sent:
        sending.send(data)
    heads = list(reader.read(reading.fileno()))
    assert [reader.datagram(index)[0] for index, *_ in heads] == sent
    source = encode_address(sending.getsockname())
    assert [sender for *_, sender in heads] == [source] * 3
    assert decode_address(source) == sending.getsockname()[:2]
    assert read(reader, reading) == []


def test_a_read_tells_what_datagrams_begin_with(pair: tuple[socket.socket, socket.socket]) -> None:
    reading, sending = pair
    reader = DatagramReader()
    sent = [b"\x80\x6f__FOURlast and more", bytes(12), b"x" * 1500]
    for data in sent:
        sending.send(data)
    found = [(index, beginning) for index, beginning, _ in reader.read(reading.fileno())]
    assert found == [
        (index, (data[0], data[1], data[4:8], data[8:12])) for index, data in enumerate(sent)
    ]


def test_what_is_too_long_is_cut_off(pair: tuple[socket.socket, socket.socket]) -> None:
    reading, sending = pair
    reader = DatagramReader()
    for data in (b"1" * 5000, b"2" * MAX_BYTES):
        sending.send(data)
    assert [data for data, _ in read(reader, reading)] == [b"1" * MAX_BYTES, b"2" * MAX_BYTES]


def test_datagrams_beyond_one_call_are_left_for_the_next(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    reading, sending = pair
    reader = DatagramReader()
    for index in range(MAX_DATAGRAMS + 3):
        sending.send(index.to_bytes(2, "big"))
    first, rest = read(reader, reading), read(reader, reading)
    numbers = [int.from_bytes(data, "big") for data, _ in (*first, *rest)]
    assert numbers == list(range(MAX_DATAGRAMS + 3))
    assert len(rest) == 3


def test_eight_seconds_of_packets_fit_the_receive_buffer(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    reading, sending = pair
    reader, count = DatagramReader(), 400  # 8 s; the default buffer holds 256
    for index in range(count):
        sending.send(index.to_bytes(2, "big") + bytes(120))
    found: list[int] = []
    while datagrams := read(reader, reading):
        found += [int.from_bytes(data[:2], "big") for data, _ in datagrams]
    assert found == list(range(count))


def test_a_datagram_has_its_time_of_arrival_not_that_of_the_read(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    reading, sending = pair
    before = time.monotonic()
    sending.send(b"early")
    after = time.monotonic()
    time.sleep(0.05)  # must not change the time of arrival
    ((_, arrived),) = read(DatagramReader(), reading)
    assert before - 0.001 <= arrived <= after + 0.01


def test_an_error_from_the_network_is_raised() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(("127.0.0.1", 0))
            one.connect(gone.getsockname())
        one.send(b"anybody?")
        select.select([one], [], [], 5)
        with pytest.raises(ConnectionRefusedError):
            DatagramReader().read(one.fileno())
