"""Retransmission streams (RTX, RFC 4588) of the tracks of a connection."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.transport.sdp.descriptions import AudioTrack
from domain.errors import PayloadInvalid
from domain.rtp.packets import RtpPacket
from domain.rtp.retransmission import unwrap_rtx


class Retransmissions:
    """Turns packets of retransmission streams into those that they repeat."""

    def __init__(self, tracks: Sequence[AudioTrack]) -> None:
        self._tracks = [track.retransmission for track in tracks]
        self._requested: dict[int, int] = {}  # the sources that were asked for packets, by track
        self.payload_types = frozenset(
            payload_type for track in self._tracks for payload_type in track.rtx
        )
        """The payload types of retransmission streams."""

    def request(self, track: int, ssrc: int) -> None:
        """Note that a track's source is asked for packets."""
        self._requested[track] = ssrc

    def restored(self, packet: RtpPacket, track: int) -> RtpPacket | None:
        """Return the packet that one of a track's retransmission stream repeats, if it does.

        A stream that the offer does not announce belongs to the source that was asked
        (RFC 4588 § 5.3).
        """
        negotiated = self._tracks[track]
        payload_type = negotiated.rtx.get(packet.payload_type)
        ssrc = negotiated.sources.get(packet.ssrc, self._requested.get(track))
        if payload_type is None or ssrc is None:
            return None
        try:
            return unwrap_rtx(packet, payload_type=payload_type, ssrc=ssrc)
        except PayloadInvalid:
            return None
