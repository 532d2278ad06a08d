"""Chooses which source (SSRC) of a session is recorded."""

from __future__ import annotations

from collections import Counter

from domain.rtp.packets import RtpPacket

RETURN_AFTER_S = 1.0
"""A replaced source may take over again once its successor has been silent for this long."""
_REMEMBERED = 16


class SourceGate:
    """Admits the packets of one source at a time.

    The first packet decides the source. Another source takes over with its second packet, so that
    one stray packet changes nothing; its first packet is then admitted, too. Packets of a
    replaced source are rejected as late, unless the current source has fallen silent. A new
    connection may bring a new source with its first packet.
    """

    def __init__(self) -> None:
        self.current: int | None = None
        """The SSRC that is being recorded."""
        self.rejected: Counter[str] = Counter()
        self.active_at = 0.0
        """When the latest packet of the current source arrived."""
        self._newcomer: RtpPacket | None = None
        self._left: tuple[int, ...] = ()

    def reopen(self) -> None:
        """Accept any source: the next packets come from another connection."""
        self.current = None
        self._newcomer = None

    def admit(self, packet: RtpPacket) -> list[RtpPacket]:
        """Return the packets to process now; `current` shows whether the source has changed."""
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
