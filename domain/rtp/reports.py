"""Reception statistics for RTCP receiver reports (RFC 3550 § 6.4, § A.3, § A.8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domain.rtp.packets import RtpPacket


@dataclass(frozen=True, slots=True)
class ReceptionReport:
    """The fields of one report block (§ 6.4.1) that follow from received packets."""

    ssrc: int
    fraction_lost: int
    """Fraction of packets lost since the previous report, in units of 1/256."""
    packets_lost: int
    """Packets lost since the beginning; negative when duplicates outnumber losses."""
    highest_sequence: int
    """Extended highest sequence number, 32 bits."""
    jitter: int
    """Interarrival jitter in timestamp units."""


@dataclass(frozen=True, slots=True)
class Reception:
    """What has become of the packets of one source, or of several."""

    expected: int = 0
    """Packets that were sent, by their sequence numbers."""
    received: int = 0
    """Also those that arrived when they were sent again."""
    jitter_s: float = 0.0
    """Interarrival jitter of the latest source."""

    @property
    def lost(self) -> int:
        return max(0, self.expected - self.received)

    def __add__(self, later: Reception) -> Reception:
        expected, received = self.expected + later.expected, self.received + later.received
        return Reception(expected, received, later.jitter_s)


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What a sender report says of its source's clocks (§ 6.4.1)."""

    ssrc: int
    ntp: int
    """The sender's wall clock when it sent the report: an NTP timestamp, in 2^-32 s (64 bits)."""
    rtp_timestamp: int
    """The RTP timestamp that belongs to that time; 32 bits."""
    arrived: float
    """Monotonic seconds."""


class ReceptionStatistics:
    """Collects the reception statistics of one source (§ A.3, § A.8)."""

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
        """Return empty statistics for the same source, after a break in its sequence numbers."""
        return ReceptionStatistics(self.ssrc, clock_rate_hz=self._clock_rate_hz)

    def received(self, packets: Sequence[RtpPacket]) -> None:
        """Count packets in order of arrival; there must be at least one."""
        if self._base is None:
            self._base = self._highest = packets[0].sequence
        highest, jitter, last = self._highest, self._jitter, self._transit
        for packet in packets:
            # `signed`, inlined: a call per packet would cost more than the rest of the loop
            ahead = (packet.sequence - highest + 0x8000) % 0x10000 - 0x8000
            if ahead > 0:
                highest += ahead
            transit = packet.arrived * self._clock_rate_hz - packet.timestamp
            if last is not None:
                difference = transit - last
                if not -(2**31) <= difference < 2**31:
                    # the timestamp wraps every 25 hours at 48 kHz: reduce the difference mod 2^32
                    difference = (difference + 2**31) % 2**32 - 2**31
                jitter += (abs(difference) - jitter) / 16
            last = transit
        self._highest, self._jitter, self._transit = highest, jitter, last
        self._received += len(packets)

    def received_again(self, packet: RtpPacket) -> None:
        """Count a packet that was lost and has been retransmitted; it says nothing of jitter.

        A packet from before the beginning of the statistics is not counted.
        """
        behind = (self._highest - packet.sequence) & 0xFFFF
        if self._base is not None and self._highest - behind >= self._base:
            self._received += 1

    @property
    def reception(self) -> Reception:
        """What has arrived so far; unlike `report`, it can be read at any time."""
        if self._base is None:
            return Reception()
        expected = self._highest - self._base + 1
        return Reception(expected, self._received, self._jitter / self._clock_rate_hz)

    def report(self) -> ReceptionReport | None:
        """Return the next report block, or None before the first packet."""
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
