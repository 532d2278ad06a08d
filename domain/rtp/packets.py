"""Parses and writes RTP packets, as far as a recorder needs (RFC 3550; § are its sections)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from domain.errors import PacketInvalid

_HEADER = struct.Struct("!BBHII")
_PLAIN = 0x80
"""The first byte of a packet of version 2 without padding, extension or CSRCs."""
_ONE_BYTE, _TWO_BYTE = 0xBEDE, 0x1000
"""Header extensions whose elements have headers of one or two bytes (RFC 8285 § 4.2, § 4.3)."""
_MAX_ELEMENTS = 64
"""Elements of a header extension that are looked at, bytes of padding included. Two thousand would
cost as much as a hundred packets."""


@dataclass(slots=True)
class RtpPacket:
    """An RTP packet without the parts that a recorder does not use (CSRCs, header extensions).

    Treat it as immutable. It is not frozen, because that would make creating it four times as
    expensive.
    """

    payload_type: int
    sequence: int
    """16 bits, wraps."""
    timestamp: int
    """32 bits, wraps, in units of the codec's clock rate."""
    ssrc: int
    payload: bytes
    marker: bool = False
    arrived: float = 0.0
    """When it arrived (monotonic seconds)."""
    copies: Sequence[RtpPacket] = ()
    """Earlier packets whose payloads this one repeats (RED, RFC 2198)."""
    captured_s: float | None = None
    """When its sound was captured, by the sender's clock (seconds); None if that is not known."""


def parse_rtp(data: bytes, arrived: float = 0.0) -> RtpPacket:
    """Parse an RTP packet (§ 5.1); raises `PacketInvalid` with the reason."""
    if len(data) < _HEADER.size:
        raise PacketInvalid(f"{len(data)} bytes are too short for an RTP header")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    payload = data[_HEADER.size :] if first == _PLAIN else _payload(data, first)
    return RtpPacket(second & 0x7F, sequence, timestamp, ssrc, payload, second >= 0x80, arrived)


def _payload(data: bytes, first: int) -> bytes:
    """Return the payload of a packet with CSRCs, a header extension or padding."""
    if first >> 6 != 2:
        raise PacketInvalid(f"RTP version is {first >> 6}, not 2")
    start, end = _HEADER.size + 4 * (first & 0x0F), len(data)
    if first & 0x10:
        if end < start + 4:
            raise PacketInvalid("the header extension is truncated")
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    if first & 0x20:
        padding = data[-1]
        if padding == 0:
            raise PacketInvalid("the padding has length 0")
        end -= padding
    if start > end:
        raise PacketInvalid("header and padding are longer than the packet")
    return data[start:end]


def header_extension(data: bytes, identifier: int) -> bytes | None:
    """The header extension element with an identifier, or None (RFC 8285).

    `data` is a packet that `parse_rtp` accepts.
    """
    if not data[0] & 0x10:
        return None
    start = _HEADER.size + 4 * (data[0] & 0x0F)
    profile = int.from_bytes(data[start : start + 2], "big")
    end = start + 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    is_one_byte = profile == _ONE_BYTE
    if not is_one_byte and profile & 0xFFF0 != _TWO_BYTE:
        return None
    at = start + 4
    for _ in range(_MAX_ELEMENTS):
        if at >= end:
            break
        if data[at] == 0:  # padding
            at += 1
            continue
        if is_one_byte:
            found, length, behind = data[at] >> 4, (data[at] & 0x0F) + 1, at + 1
            if found == 15:
                return None  # what follows must be ignored
        elif at + 1 < end:
            found, length, behind = data[at], data[at + 1], at + 2
        else:
            return None
        at = behind + length
        if found == identifier and at <= end:
            return data[behind:at]
    return None


def captured_s(data: bytes, identifier: int) -> float | None:
    """When a packet was captured, by the sender's clock (NTP seconds); None if it does not say.

    Read from abs-capture-time, the header extension with this identifier
    (https://webrtc.org/experiments/rtp-hdrext/abs-capture-time). `data` is a packet that
    `parse_rtp` accepts.
    """
    captured = header_extension(data, identifier)
    if captured is None or len(captured) < 8:
        return None
    return int.from_bytes(captured[:8], "big") / 2**32


def write_rtp(packet: RtpPacket) -> bytes:
    """Serialize the packet (§ 5.1)."""
    second = packet.payload_type | (0x80 if packet.marker else 0)
    header = _HEADER.pack(_PLAIN, second, packet.sequence, packet.timestamp, packet.ssrc)
    return header + packet.payload


def is_rtcp(data: bytes) -> bool:
    """Whether a packet on a shared port is RTCP (RFC 5761 § 4)."""
    return len(data) >= 2 and 192 <= data[1] <= 223
