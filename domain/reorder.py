"""Packets in the order of their arrival in, slots in the order of their sending out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from domain.rtp import RtpPacket

MAX_DROPOUT = 3000
"""A jump ahead of more packets than this is a restarted sender, not loss (RFC 3550 § A.1)."""
MAX_MISORDER = 100
"""A packet further behind than this is a restarted sender, not a late one (RFC 3550 § A.1)."""


@dataclass(frozen=True, slots=True)
class Received:
    """The next packet in order."""

    packet: RtpPacket


@dataclass(frozen=True, slots=True)
class Lost:
    """`count` packets that did not come in time."""

    count: int


@dataclass(frozen=True, slots=True)
class Restarted:
    """The sender began again with another sequence; nothing is known of what lies between."""


Slot: TypeAlias = Received | Lost | Restarted


class ReorderBuffer:
    """Puts the packets of one source (one SSRC) in order.

    A packet that is next in order passes at once. Behind a hole packets wait for at most
    `hold_s`; then the hole is lost and what waits goes on. Duplicates and packets that come
    after their hole was given up are counted and dropped. A jump beyond `MAX_DROPOUT` or
    `MAX_MISORDER` is believed when a second packet follows it (§ A.1), so that one stray packet
    cannot derail a stream; the first of the two is kept, not sacrificed.
    """

    def __init__(self, *, hold_s: float) -> None:
        self._hold_s = hold_s
        self._next: int | None = None
        self._waiting: dict[int, tuple[RtpPacket, float]] = {}
        self._suspect: RtpPacket | None = None
        self.late = 0
        self.duplicates = 0

    def push(self, packet: RtpPacket, *, now: float) -> list[Slot]:
        """Take a packet that arrived at `now` (seconds); return the slots that are due."""
        if self._next is None:
            self._next = packet.sequence
        ahead = _signed16(packet.sequence - self._next)
        if ahead > MAX_DROPOUT or ahead < -MAX_MISORDER:
            return self._jumped(packet)
        self._suspect = None
        if ahead < 0:
            self.late += 1
            return self.poll(now=now)
        sequence = self._next + ahead
        if sequence in self._waiting:
            self.duplicates += 1
            return self.poll(now=now)
        if ahead == 0 and not self._waiting:
            self._next += 1
            return [Received(packet)]
        self._waiting[sequence] = (packet, now)
        return [*self._in_order(), *self.poll(now=now)]

    def poll(self, *, now: float) -> list[Slot]:
        """The slots that are due because the packets behind a hole have waited long enough."""
        slots: list[Slot] = []
        while self._waiting:
            first = min(self._waiting)
            # later packets may have arrived before the first one behind the hole
            oldest = min(arrived for _, arrived in self._waiting.values())
            if now - oldest < self._hold_s:
                break
            slots += self._give_up_hole_before(first)
        return slots

    def flush(self) -> list[Slot]:
        """Everything that still waits, holes given up: the stream is over."""
        slots: list[Slot] = []
        while self._waiting:
            slots += self._give_up_hole_before(min(self._waiting))
        return slots

    def _give_up_hole_before(self, first: int) -> list[Slot]:
        assert self._next is not None
        missing = first - self._next
        self._next = first
        return [Lost(missing), *self._in_order()]

    def _in_order(self) -> list[Slot]:
        assert self._next is not None
        slots: list[Slot] = []
        while (entry := self._waiting.pop(self._next, None)) is not None:
            slots.append(Received(entry[0]))
            self._next += 1
        return slots

    def _jumped(self, packet: RtpPacket) -> list[Slot]:
        first, self._suspect = self._suspect, packet
        if first is None or _signed16(packet.sequence - first.sequence) != 1:
            return []
        slots = [*self.flush(), Restarted(), Received(first), Received(packet)]
        self._suspect = None
        self._next = packet.sequence + 1
        return slots


def _signed16(difference: int) -> int:
    return (difference + 0x8000) % 0x10000 - 0x8000
