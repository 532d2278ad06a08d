"""A client numbers its packets consecutively, except where sound is missing."""

from __future__ import annotations

import pytest

from domain.rtp.packetizer import Packetizer

OPUS = 111  # the dynamic payload type that browsers use for Opus


def packetizer(*, sequence: int = 0, timestamp: int = 0) -> Packetizer:
    return Packetizer(ssrc=5, first_sequence=sequence, first_timestamp=timestamp)


@pytest.mark.parametrize("first", [0, 1000, 32_766, 65_534])
def test_sequence_numbers_go_up_by_one_in_sixteen_bits(first: int) -> None:
    made = packetizer(sequence=first)
    packets = [made.packet(b"x", n * 960) for n in range(5)]
    assert [packet.sequence for packet in packets] == [(first + n) % 2**16 for n in range(5)]
    assert {(packet.ssrc, packet.payload_type) for packet in packets} == {(5, OPUS)}


@pytest.mark.parametrize("first", [0, 1000, 254, 32_766, 65_534, 65_535])
def test_sound_lost_before_sending_skips_one_sequence_number(first: int) -> None:
    made = packetizer(sequence=first)
    assert made.packet(b"x", 0).sequence == first
    made.skip()
    assert made.packet(b"x", 4800).sequence == (first + 2) % 2**16
    assert made.packet(b"x", 5760).sequence == (first + 3) % 2**16


@pytest.mark.parametrize("first", [0, 77, 2**31 - 500, 2**32 - 500])
@pytest.mark.parametrize("position", [0, 960, 2**31, 2**32, 2**33 + 960])
def test_timestamps_are_positions_in_thirty_two_bits(first: int, position: int) -> None:
    made = packetizer(timestamp=first)
    assert made.packet(b"x", position).timestamp == (first + position) % 2**32


def test_the_marker_is_on_the_first_packet_with_sound_after_a_break() -> None:
    made = packetizer()
    markers = [made.packet(payload, 0).marker for payload in (b"", b"x", b"x")]
    made.skip()
    markers += [made.packet(payload, 0).marker for payload in (b"", b"", b"x", b"x")]
    assert markers == [False, True, False, False, False, True, False]
