"""RED: later packets repeat the payloads of earlier ones (RFC 2198)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from domain.errors import PayloadInvalid
from domain.rtp.packets import RtpPacket

MAX_COPIES = 17
"""Copies that are used of a packet: with packets of 20 ms, the offset of 14 bits reaches no further
back. Each costs as much as a packet, and a packet could hold three hundred."""


@dataclass(slots=True)
class Recovered(RtpPacket):
    """A packet rebuilt from the copy in a later one; it has that packet's arrival time."""


def split_red(packet: RtpPacket) -> RtpPacket:
    """Unwrap a RED packet: its primary payload, with earlier payloads as `copies`, oldest first.

    A redundant block states its timestamp offset but not its sequence number. Senders repeat the
    packets directly before (libwebrtc does), so the k-th block from the end is k packets back.
    Blocks that are empty or of another payload type are left out, and all but the latest
    `MAX_COPIES`. Raises `PayloadInvalid`.
    """
    data, position = packet.payload, 0
    headers: list[tuple[int, int, int]] = []  # payload type, timestamp offset, length
    while True:
        if position >= len(data):
            raise PayloadInvalid("the RED headers are truncated")
        if not data[position] & 0x80:
            break
        if position + 4 > len(data):
            raise PayloadInvalid("a RED header is truncated")
        fields = int.from_bytes(data[position + 1 : position + 4], "big")
        headers.append((data[position] & 0x7F, fields >> 10, fields & 0x3FF))
        position += 4
    primary_type = data[position]
    position += 1
    copies: list[RtpPacket] = []
    for index, (payload_type, offset, length) in enumerate(headers):
        if position + length > len(data):
            raise PayloadInvalid("a RED block is truncated")
        is_recent = len(headers) - index <= MAX_COPIES
        if length and payload_type == primary_type and is_recent:
            copies.append(
                Recovered(
                    payload_type,
                    (packet.sequence - (len(headers) - index)) % 2**16,
                    (packet.timestamp - offset) % 2**32,
                    packet.ssrc,
                    data[position : position + length],
                    arrived=packet.arrived,
                )
            )
        position += length
    return replace(packet, payload_type=primary_type, payload=data[position:], copies=copies)
