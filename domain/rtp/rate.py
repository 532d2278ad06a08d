"""Limits the rate of a track's packets, before anything is done with them."""

from __future__ import annotations

from collections.abc import Sequence

from domain.rtp.packets import RtpPacket


class PacketRate:
    """Admits packets up to a rate, and as many at once as the rate allows in `burst_s`."""

    __slots__ = ("_at", "_per_s", "_room", "burst", "excess")

    def __init__(self, *, per_s: float, burst_s: float) -> None:
        self._per_s = per_s
        self.burst = self._room = per_s * burst_s
        """Packets that may come at once."""
        self._at = 0.0
        self.excess = 0
        """Packets that were not admitted."""

    def admit(self, packets: Sequence[RtpPacket]) -> Sequence[RtpPacket]:
        """Return those of some packets, in the order of arrival, that are within the rate."""
        now = packets[-1].arrived
        room = self._room
        if now > self._at:
            room = min(self.burst, room + (now - self._at) * self._per_s)
            self._at = now
        count = len(packets)
        if count <= room:  # the usual case
            self._room = room - count
            return packets
        admitted = packets[: int(room)]
        self._room = room - len(admitted)
        self.excess += count - len(admitted)
        return admitted
