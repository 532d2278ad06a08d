"""Assigns RTP packets to tracks that share a transport (RFC 9143 § 9.2)."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.transport.sdp.descriptions import AudioTrack
from domain.rtp.packets import RtpPacket, header_extension

MAX_SOURCES = 1024
"""Sources that are remembered. If a peer has more, the oldest are forgotten."""


class TrackDemultiplexer:
    """Assigns packets to tracks: by mid, by SSRC, and by payload type, in this order."""

    def __init__(self, tracks: Sequence[AudioTrack], *, mid_extension: int | None) -> None:
        self._mid_extension = mid_extension
        self._by_mid = {track.mid.encode(): index for index, track in enumerate(tracks)}
        self._by_ssrc: dict[int, int] = {}
        self._payload_types = [
            frozenset((*track.codecs, *track.retransmission.rtx)) for track in tracks
        ]
        users: dict[int, list[int]] = {}
        for index, track in enumerate(tracks):
            for ssrc in track.ssrcs:
                self._by_ssrc.setdefault(ssrc, index)
            for payload_type in self._payload_types[index]:
                users.setdefault(payload_type, []).append(index)
        # without any other sign, what may be of several tracks is recorded as the first of them
        is_told = mid_extension is not None or bool(self._by_ssrc)
        self._by_payload_type = {
            payload_type: indexes[0]
            for payload_type, indexes in users.items()
            if len(indexes) == 1 or not is_told
        }

    def track_of(self, packet: RtpPacket, data: bytes) -> int | None:
        """Return the index of a packet's track, or None; `data` is the packet as bytes.

        Learns the track of a source from the mid and the payload type.
        """
        track: int | None
        if self._mid_extension is not None and (mid := header_extension(data, self._mid_extension)):
            if (track := self._by_mid.get(mid)) is None:
                return None
            self._learn(packet.ssrc, track)
        elif (track := self._by_ssrc.get(packet.ssrc)) is None:
            if (track := self._by_payload_type.get(packet.payload_type)) is None:
                return None
            self._learn(packet.ssrc, track)
        return track if packet.payload_type in self._payload_types[track] else None

    def track_of_source(self, ssrc: int) -> int | None:
        """Return the index of the track that a source is known to belong to, or None."""
        return self._by_ssrc.get(ssrc)

    def _learn(self, ssrc: int, track: int) -> None:
        if ssrc not in self._by_ssrc and len(self._by_ssrc) >= MAX_SOURCES:
            del self._by_ssrc[next(iter(self._by_ssrc))]
        self._by_ssrc[ssrc] = track
