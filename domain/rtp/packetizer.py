"""Numbers the packets of one source across all its connections."""

from __future__ import annotations

from domain.rtp.packets import RtpPacket

OPUS_PAYLOAD_TYPE = 111
"""The dynamic payload type (RFC 3551 § 6) of Opus in our client's offers; browsers use it, too."""


RTP_RATE_HZ = 48_000
"""Opus' RTP clock rate (RFC 7587 § 4.1), and the rate at which our client encodes."""


class Packetizer:
    """Numbers the packets of one source, whichever connection carries them.

    SSRC, sequence and timestamps continue from one connection to the next, so that a receiver
    can place each packet to the sample. The caller picks the initial values at random
    (RFC 3550 § 5.1).
    """

    def __init__(self, *, ssrc: int, first_sequence: int, first_timestamp: int) -> None:
        self._ssrc = ssrc
        self._sequence = first_sequence
        self._first_timestamp = first_timestamp
        self._marker = True

    def timestamp_of(self, position: int) -> int:
        """Return the RTP timestamp of a position of the source; 32 bits."""
        return (self._first_timestamp + position) % 2**32

    def packet(self, payload: bytes, position: int) -> RtpPacket:
        """Return the next packet, whose first sample is at `position` of the source.

        A packet without a payload is a keepalive: there was no sound up to `position`
        (RFC 6263 § 4.6).
        """
        packet = RtpPacket(
            payload_type=OPUS_PAYLOAD_TYPE,
            sequence=self._sequence,
            timestamp=self.timestamp_of(position),
            ssrc=self._ssrc,
            payload=payload,
            marker=self._marker and bool(payload),
        )
        self._marker = self._marker and not payload
        self._sequence = (self._sequence + 1) % 2**16
        return packet

    def skip(self) -> None:
        """Skip one sequence number, because sound was lost before it could be sent.

        Otherwise the receiver would take the gap for intended silence (DTX).
        """
        self._sequence = (self._sequence + 1) % 2**16
        self._marker = True
