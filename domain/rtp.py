"""RTP as far as a recorder needs it: the header, arithmetic that wraps, reception statistics.

RFC 3550; the numbers after § are its sections.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from domain.errors import PacketInvalid

OPUS_PAYLOAD_TYPE = 111
"""What our own client offers Opus as: dynamic (RFC 3551 § 6), and what browsers take, too."""
RTP_RATE_HZ = 48_000
"""Opus' RTP clock (RFC 7587 § 4.1), and the rate at which our own client encodes."""
_HEADER = struct.Struct("!BBHII")
_PLAIN = 0x80
"""The first byte of a packet that is a header and a payload: version 2, and nothing else."""


@dataclass(slots=True)
class RtpPacket:
    """An RTP packet without what a recorder has no use for (CSRCs, header extensions).

    A value, as all that is made for each packet: freezing it would make it four times as costly.
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
    """When it came (monotonic seconds)."""
    copies: Sequence[RtpPacket] = ()
    """Earlier packets whose payloads it carries again (RFC 2198)."""


def parse_rtp(data: bytes, arrived: float = 0.0) -> RtpPacket:
    """Read an RTP packet (§ 5.1); raises `PacketInvalid` with the reason."""
    if len(data) < _HEADER.size:
        raise PacketInvalid(f"{len(data)} bytes are too short for an RTP header")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    payload = data[_HEADER.size :] if first == _PLAIN else _payload(data, first)
    return RtpPacket(second & 0x7F, sequence, timestamp, ssrc, payload, second >= 0x80, arrived)


def _payload(data: bytes, first: int) -> bytes:
    """What is between the parts of a packet that its first byte tells of."""
    if first >> 6 != 2:
        raise PacketInvalid(f"RTP version {first >> 6}")
    start, end = _HEADER.size + 4 * (first & 0x0F), len(data)
    if first & 0x10:
        if end < start + 4:
            raise PacketInvalid("the header extension is cut off")
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    if first & 0x20:
        padding = data[-1]
        if padding == 0:
            raise PacketInvalid("padding of length 0")
        end -= padding
    if start > end:
        raise PacketInvalid("header and padding are longer than the packet")
    return data[start:end]


def write_rtp(packet: RtpPacket) -> bytes:
    """The packet as it is sent (§ 5.1)."""
    second = packet.payload_type | (0x80 if packet.marker else 0)
    header = _HEADER.pack(_PLAIN, second, packet.sequence, packet.timestamp, packet.ssrc)
    return header + packet.payload


class Packetizer:
    """Numbers the packets of one source, whatever connections carry them.

    SSRC, sequence and timestamps go on from one connection to the next, so that a receiver knows
    to the sample where a packet belongs. The three numbers come from chance (§ 5.1).
    """

    def __init__(self, *, ssrc: int, first_sequence: int, first_timestamp: int) -> None:
        self._ssrc = ssrc
        self._sequence = first_sequence
        self._first_timestamp = first_timestamp
        self._marker = True

    @property
    def last_sequence(self) -> int:
        """Of the latest packet; 16 bits."""
        return (self._sequence - 1) % 2**16

    def packet(self, payload: bytes, position: int) -> RtpPacket:
        """The next packet; its first sample is the `position`th of the source's.

        One without a payload says that the source lives, and that there was no sound up to
        `position` (RFC 6263 § 4.6).
        """
        packet = RtpPacket(
            payload_type=OPUS_PAYLOAD_TYPE,
            sequence=self._sequence,
            timestamp=(self._first_timestamp + position) % 2**32,
            ssrc=self._ssrc,
            payload=payload,
            marker=self._marker and bool(payload),
        )
        self._marker = self._marker and not payload
        self._sequence = (self._sequence + 1) % 2**16
        return packet

    def skip(self) -> None:
        """Sound before the next packet was lost before it could be sent: a number is missing.

        Without that the receiver would take the time for silence that was meant (DTX).
        """
        self._sequence = (self._sequence + 1) % 2**16
        self._marker = True


def is_rtcp(data: bytes) -> bool:
    """Whether a packet on a shared port is RTCP (RFC 5761 § 4)."""
    return len(data) >= 2 and 192 <= data[1] <= 223


def signed(difference: int, *, bits: int) -> int:
    """The difference of two counters that wrap at `bits`, taken the short way round."""
    half = 1 << (bits - 1)
    return (difference + half) % (half << 1) - half


class Unwrapper:
    """Turns a wrapping counter into one that goes on for ever.

    Each value is taken as the one nearest to the value before it.
    """

    def __init__(self, *, bits: int) -> None:
        self._half = 1 << (bits - 1)
        self._last: int | None = None

    def unwrap(self, value: int) -> int:
        """The extended value; the first one comes back unchanged."""
        if self._last is None:
            self._last = value
            return value
        # as `signed`, which a call for each packet would cost more than all the rest
        self._last += (value - self._last + self._half) % (self._half << 1) - self._half
        return self._last


@dataclass(frozen=True, slots=True)
class ReceptionReport:
    """The figures of one report block (§ 6.4.1) that come from received packets."""

    ssrc: int
    fraction_lost: int
    """Loss since the previous report, in 1/256."""
    packets_lost: int
    """Loss since the beginning; negative when duplicates outnumber losses."""
    highest_sequence: int
    """Extended highest sequence number, 32 bits."""
    jitter: int
    """Interarrival jitter in timestamp units."""


class ReceptionStatistics:
    """What receiver reports say of one source (§ A.3, § A.8)."""

    def __init__(self, ssrc: int, *, clock_rate_hz: int) -> None:
        self.ssrc = ssrc
        self._clock_rate_hz = clock_rate_hz
        self._base: int | None = None
        self._highest = 0
        self._received = 0
        self._jitter = 0.0
        self._transit: float | None = None
        self._reported_expected = 0
        self._reported_received = 0

    def begin_anew(self) -> ReceptionStatistics:
        """The same source, after an outage that may be longer than its numbers can tell."""
        return ReceptionStatistics(self.ssrc, clock_rate_hz=self._clock_rate_hz)

    def received(self, packets: Sequence[RtpPacket]) -> None:
        """Count packets, in the order in which they came; one at least."""
        if self._base is None:
            self._base = self._highest = packets[0].sequence
        highest, jitter, last = self._highest, self._jitter, self._transit
        for packet in packets:
            # as `signed`, which a call for each packet would cost more than all the rest
            ahead = (packet.sequence - highest + 0x8000) % 0x10000 - 0x8000
            if ahead > 0:
                highest += ahead
            transit = packet.arrived * self._clock_rate_hz - packet.timestamp
            if last is not None:
                difference = transit - last
                if not -(2**31) <= difference < 2**31:
                    # the timestamp wraps every 25 hours at 48 kHz: take the difference modulo 2^32
                    difference = (difference + 2**31) % 2**32 - 2**31
                jitter += (abs(difference) - jitter) / 16
            last = transit
        self._highest, self._jitter, self._transit = highest, jitter, last
        self._received += len(packets)

    def report(self) -> ReceptionReport | None:
        """The next report block, or None before the first packet."""
        if self._base is None:
            return None
        expected = self._highest - self._base + 1
        lost = expected - self._received
        expected_now = expected - self._reported_expected
        lost_now = expected_now - (self._received - self._reported_received)
        self._reported_expected, self._reported_received = expected, self._received
        fraction = min(255, (lost_now << 8) // expected_now) if expected_now and lost_now > 0 else 0
        return ReceptionReport(
            ssrc=self.ssrc,
            fraction_lost=fraction,
            packets_lost=max(-(1 << 23), min(lost, (1 << 23) - 1)),
            highest_sequence=self._highest & 0xFFFFFFFF,
            jitter=int(self._jitter),
        )
