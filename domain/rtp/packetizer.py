"""Numbers for the packets of one source, over all its connections."""

from __future__ import annotations

from domain.rtp.packets import RtpPacket

OPUS_PAYLOAD_TYPE = 111
"""What our own client offers Opus as: dynamic (RFC 3551 § 6), and what browsers take, too."""


RTP_RATE_HZ = 48_000
"""Opus' RTP clock (RFC 7587 § 4.1), and the rate at which our own client encodes."""


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
