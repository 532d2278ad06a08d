"""Header extension elements of RTP packets (RFC 8285)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import PacketInvalid
from domain.rtp.packets import RtpPacket, header_extension, parse_rtp, write_rtp

ONE_BYTE, TWO_BYTE = 0xBEDE, 0x1000


def packet_with(profile: int, body: bytes, *, csrcs: int = 0) -> bytes:
    body += bytes(-len(body) % 4)
    plain = write_rtp(RtpPacket(111, 1, 960, 7, b"payload"))
    extension = profile.to_bytes(2, "big") + (len(body) // 4).to_bytes(2, "big") + body
    first = bytes([plain[0] | 0x10 | csrcs])
    return first + plain[1:12] + bytes(4 * csrcs) + extension + plain[12:]


def one_byte(identifier: int, value: bytes) -> bytes:
    return bytes([identifier << 4 | len(value) - 1]) + value


def two_byte(identifier: int, value: bytes) -> bytes:
    return bytes([identifier, len(value)]) + value


one_byte_elements = st.dictionaries(st.integers(1, 14), st.binary(min_size=1, max_size=16))
two_byte_elements = st.dictionaries(st.integers(1, 255), st.binary(max_size=255), max_size=16)


@given(elements=one_byte_elements, padding=st.integers(0, 3), csrcs=st.integers(0, 15))
def test_elements_with_one_byte_headers_are_found(
    elements: dict[int, bytes], padding: int, csrcs: int
) -> None:
    body = b"".join(one_byte(*item) + bytes(padding) for item in elements.items())
    data = packet_with(ONE_BYTE, body, csrcs=csrcs)
    assert parse_rtp(data).payload == b"payload"
    for identifier in range(1, 15):
        assert header_extension(data, identifier) == elements.get(identifier)


@given(elements=two_byte_elements, padding=st.integers(0, 3), bits=st.integers(0, 15))
def test_elements_with_two_byte_headers_are_found(
    elements: dict[int, bytes], padding: int, bits: int
) -> None:
    body = b"".join(two_byte(*item) + bytes(padding) for item in elements.items())
    data = packet_with(TWO_BYTE | bits, body)
    assert parse_rtp(data).payload == b"payload"
    for identifier in range(1, 256):
        assert header_extension(data, identifier) == elements.get(identifier)


def test_elements_after_the_reserved_identifier_are_ignored() -> None:
    data = packet_with(ONE_BYTE, one_byte(1, b"a") + b"\xf0\x00" + one_byte(2, b"b"))
    assert header_extension(data, 1) == b"a"
    assert header_extension(data, 2) is None


def test_an_element_that_exceeds_the_extension_is_no_element() -> None:
    assert header_extension(packet_with(ONE_BYTE, b"\x1fabc"), 1) is None
    assert header_extension(packet_with(TWO_BYTE, b"\x01\x09ab"), 1) is None
    assert header_extension(packet_with(TWO_BYTE, b"\x02\x01a\x01"), 1) is None


@pytest.mark.parametrize(
    ("profile", "filling"), [(ONE_BYTE, b"\0"), (ONE_BYTE, b"\x20x"), (TWO_BYTE, b"\x02\0")]
)
def test_elements_are_not_looked_for_without_end(profile: int, filling: bytes) -> None:
    """A packet has room for two thousand, which would take half a millisecond."""
    for count, found in ((60, b"mid"), (500, None)):
        write = one_byte if profile == ONE_BYTE else two_byte
        data = packet_with(profile, count * filling + write(1, b"mid"))
        assert header_extension(data, 1) == found


def test_a_packet_without_a_known_extension_has_no_elements() -> None:
    assert header_extension(write_rtp(RtpPacket(111, 1, 960, 7, b"\x10\x61")), 1) is None
    assert header_extension(packet_with(0x1234, one_byte(1, b"a")), 1) is None


@given(data=st.binary(min_size=12, max_size=80), profile=st.sampled_from([ONE_BYTE, TWO_BYTE]))
def test_every_valid_packet_can_be_searched(data: bytes, profile: int) -> None:
    data = bytes([0x90]) + data[1:12] + profile.to_bytes(2, "big") + data[12:]
    with contextlib.suppress(PacketInvalid):
        parse_rtp(data)
        for identifier in range(1, 256):
            found = header_extension(data, identifier)
            assert found is None or found in data
