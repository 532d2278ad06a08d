"""RED (RFC 2198): redundant payloads are read, and invalid packets are refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from domain.errors import PayloadInvalid
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import MAX_COPIES, Recovered, split_red

OPUS, OTHER = 111, 96


@dataclass(frozen=True)
class Block:
    offset: int
    data: bytes
    payload_type: int = OPUS

    @property
    def header(self) -> bytes:
        word = (self.payload_type | 0x80) << 24 | self.offset << 10 | len(self.data)
        return word.to_bytes(4, "big")


def red(
    *blocks: Block, primary: bytes = b"now", sequence: int = 500, timestamp: int = 10**6
) -> RtpPacket:
    payload = b"".join(block.header for block in blocks) + bytes([OPUS])
    payload += b"".join(block.data for block in blocks) + primary
    return RtpPacket(63, sequence, timestamp, 9, payload, arrived=4.5)


@pytest.mark.parametrize("sequence", [0, 1, 2, 300, 40_000, 65_535])
@pytest.mark.parametrize("timestamp", [0, 100, 1920, 100_000, 2**31 + 5, 2**32 - 1])
def test_the_kth_block_from_the_end_is_k_packets_back(sequence: int, timestamp: int) -> None:
    packet = red(Block(1920, b"older"), Block(960, b"old"), sequence=sequence, timestamp=timestamp)
    split = split_red(packet)
    assert (split.payload_type, split.payload) == (OPUS, b"now")
    assert (split.sequence, split.timestamp, split.ssrc, split.arrived) == (
        sequence, timestamp, 9, 4.5,
    )  # fmt: skip
    assert split.copies == [
        Recovered(
            OPUS, (sequence - back) % 2**16, (timestamp - 960 * back) % 2**32, 9, data, arrived=4.5
        )
        for back, data in ((2, b"older"), (1, b"old"))
    ]


def test_blocks_may_be_as_long_and_as_old_as_their_fields_can_say() -> None:
    (copy,) = split_red(red(Block(2**14 - 1, bytes(1023)))).copies
    assert (copy.payload, copy.timestamp) == (bytes(1023), 10**6 - 2**14 + 1)


def test_empty_and_foreign_blocks_are_left_out_and_keep_their_place() -> None:
    blocks = Block(2880, b"oldest"), Block(1920, b""), Block(960, b"other", OTHER)
    (copy,) = split_red(red(*blocks)).copies
    assert (copy.sequence, copy.payload) == (497, b"oldest")


def test_a_packet_may_carry_nothing_but_itself() -> None:
    split = split_red(red())
    assert (split.payload, list(split.copies)) == (b"now", [])


def test_an_empty_primary_block_says_nothing() -> None:
    split = split_red(red(Block(960, b"old"), primary=b""))
    assert split.payload == b""
    assert [copy.payload for copy in split.copies] == [b"old"]


def test_red_truncated_in_headers_or_blocks_is_refused() -> None:
    whole = red(Block(1920, b"older"), Block(960, b"old"), primary=b"")
    for length in range(len(whole.payload)):
        cut = RtpPacket(63, 1, 2, 3, whole.payload[:length])
        with pytest.raises(PayloadInvalid, match="truncated"):
            split_red(cut)


def test_a_header_without_the_blocks_that_it_announces_is_refused() -> None:
    for length in range(1, 4):
        with pytest.raises(PayloadInvalid, match="a RED header is truncated"):
            split_red(RtpPacket(63, 1, 2, 3, Block(960, b"old").header[:length]))
    with pytest.raises(PayloadInvalid, match="the RED headers are truncated"):
        split_red(RtpPacket(63, 1, 2, 3, Block(960, b"old").header))


def test_of_many_copies_the_latest_are_used() -> None:
    """A packet could repeat three hundred others; each costs as much as a packet."""
    split = split_red(red(*(Block(back, bytes([back])) for back in range(60, 0, -1))))
    assert [copy.payload[0] for copy in split.copies] == list(range(MAX_COPIES, 0, -1))
    assert split.copies[0].sequence == 500 - MAX_COPIES
