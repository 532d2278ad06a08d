"""Which of the sources (SSRCs) that send in one session is the one that is recorded."""

from __future__ import annotations

from collections import Counter

from domain.rtp.packets import RtpPacket

RETURN_AFTER_S = 1.0
"""A source that was left can take over again when the one after it has been silent so long."""
_REMEMBERED = 16


class SourceGate:
    """Lets the packets of one source at a time through.

    The first source is the first packet's. Another takes over with its second packet, and its
    first is not lost by that, so that one stray packet derails nothing. What still comes of a
    source that was left is late, unless the one that is recorded has fallen silent. Another
    connection may bring another source with its first packet.
    """

    def __init__(self) -> None:
        self.current: int | None = None
        """The SSRC that is recorded."""
        self.rejected: Counter[str] = Counter()
        self.active_at = 0.0
        """When its latest packet came."""
        self._newcomer: RtpPacket | None = None
        self._left: tuple[int, ...] = ()

    def reopen(self) -> None:
        """The packets that follow come by another connection: whatever it brings is the source."""
        self.current = None
        self._newcomer = None

    def admit(self, packet: RtpPacket) -> list[RtpPacket]:
        """What goes on now; look at `current` to see whether another source has taken over."""
        ssrc = packet.ssrc
        admitted = [packet]
        if self.current not in (None, ssrc):
            if ssrc in self._left and packet.arrived - self.active_at < RETURN_AFTER_S:
                self.rejected["left source"] += 1
                return []
            first, self._newcomer = self._newcomer, packet
            if first is None or first.ssrc != ssrc:
                self.rejected["stray source"] += first is not None
                return []
            self._newcomer = None
            assert self.current is not None
            self._left = (*self._left, self.current)[-_REMEMBERED:]
            admitted.insert(0, first)
        self.current = ssrc
        self.active_at = packet.arrived
        return admitted
