"""Reorders packets from order of arrival to order of sending, and declares losses."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, replace
from typing import TypeAlias

from domain.rtp.counters import signed
from domain.rtp.packets import RtpPacket
from domain.rtp.retransmission import Missing

MAX_DROPOUT = 3000
"""A jump ahead by more packets than this may mean a restarted sender (RFC 3550 § A.1)."""
MAX_MISORDER = 100
"""A packet further behind than this may come from a restarted sender (RFC 3550 § A.1)."""
START_S = 0.12
"""How long the first packets of a recording wait for one that was sent before them. Whoever listens
while it is made waits, too."""
RESTART_S = 0.2
"""How long the first packets after a break wait."""
MARKED_S = 0.035
"""How long a first packet with the marker waits.

It cannot pass at once: some senders mark every packet, so it need not be the first one.
"""
_REMEMBERED_LOSSES = 1000
_MAX_TICKS = 48_000 // 5
"""A timestamp step above 200 ms is a pause and says nothing about the length of a packet."""


@dataclass(frozen=True, slots=True)
class Lost:
    """`count` packets that did not arrive in time."""

    count: int


@dataclass(frozen=True, slots=True)
class Restarted:
    """The sender restarted with another sequence; the length of the gap is unknown."""


Slot: TypeAlias = RtpPacket | Lost | Restarted
"""What comes next in order: a packet (received, or a copy from a later one) or a loss."""


class ReorderBuffer:
    """Puts the packets of one source (one SSRC) in order.

    A packet that is next in order passes at once. Packets behind a hole wait for at most
    `hold_s`; then the hole is declared lost, or filled with redundant copies, and the waiting
    packets pass. The first packets wait for `start_s` at most, because any of them may not be the
    first one sent; for `MARKED_S` only if the first to arrive has the marker (RFC 3551 § 4.1).

    Duplicates, and packets that arrive after their hole was given up, are counted and dropped.

    A jump beyond `MAX_DROPOUT` or `MAX_MISORDER` whose timestamp has jumped equally far is the
    same stream, after a long outage or over a much slower path. Any other jump is a restart once
    a second packet confirms it (§ A.1), so that one stray packet cannot derail a stream. The
    first of the two packets is kept.
    """

    def __init__(self, *, hold_s: float, start_s: float = START_S) -> None:
        self._hold_s = hold_s
        self._start_s = start_s
        self._next: int | None = None
        self._starting = True
        self._start_hold_s = min(hold_s, start_s)
        self._waiting: dict[int, RtpPacket] = {}
        # of these, with some that have passed: numbers, and times of arrival with numbers
        self._numbers: list[int] = []
        self._arrivals: list[tuple[float, int]] = []
        self._copies: dict[int, RtpPacket] = {}
        self._given_up: deque[int] = deque(maxlen=_REMEMBERED_LOSSES)
        self._last: RtpPacket | None = None  # the latest packet that passed
        self._ticks = 0  # timestamp step from packet to packet
        self.suspect: RtpPacket | None = None
        """A packet with an implausible jump that no second packet has confirmed yet."""
        self.late = 0
        """Packets that arrived after they were given up."""
        self.duplicates = 0
        self.strays = 0
        """Packets with an implausible jump that no second packet confirmed."""

    def pass_in_order(self, packet: RtpPacket) -> bool:
        """Pass a packet that is next in order while nothing waits; return whether it passed.

        This is the fast path for nearly all packets. The others go to `push`.
        """
        if self._waiting or self.suspect is not None or self._next is None:
            return False
        if (packet.sequence - self._next) & 0xFFFF:
            return False
        self._next += 1
        last = self._last
        if last is not None and packet.timestamp - last.timestamp == self._ticks:
            self._last = packet
        else:
            self._note_passed(packet)
        return True

    def push(self, packet: RtpPacket) -> list[Slot]:
        """Add a packet and return the slots that are due when it arrives."""
        if self.pass_in_order(packet):
            return [packet]
        if self._next is None:
            # the first packet sent may be up to MAX_MISORDER before this one
            self._next = packet.sequence - MAX_MISORDER
            start_s = MARKED_S if packet.marker else self._start_s
            self._start_hold_s = min(self._hold_s, start_s)
        ahead = signed(packet.sequence - self._next, bits=16)
        far = ahead > MAX_DROPOUT or ahead < -MAX_MISORDER
        if far and not self._continues_stream(packet):
            return self._handle_jump(packet)
        if self.suspect is not None:
            self._drop_suspect()
        sequence = self._next + ahead
        for copy in packet.copies:
            at = self._next + signed(copy.sequence - self._next, bits=16)
            if self._next <= at < sequence:
                self._copies[at] = copy
        if ahead < 0:
            self._count_late_or_duplicate(sequence)
        elif sequence in self._waiting:
            self.duplicates += 1
        else:
            self._wait(sequence, packet)
            return [*self._in_order(), *self.poll(now=packet.arrived)]
        return self.poll(now=packet.arrived)

    def poll(self, *, now: float) -> list[Slot]:
        """Return the slots that are due because packets behind a hole have waited long enough."""
        slots: list[Slot] = []
        while self._waiting:
            hold_s = self._start_hold_s if self._starting else self._hold_s
            # the first packet behind the hole need not have arrived first
            if now - self._first_arrival() < hold_s:
                break
            slots += self._give_up_hole()
        return slots

    def _wait(self, sequence: int, packet: RtpPacket) -> None:
        self._waiting[sequence] = packet
        heapq.heappush(self._numbers, sequence)
        heapq.heappush(self._arrivals, (packet.arrived, sequence))

    def _first_arrival(self) -> float:
        """When the first of the packets that wait arrived. There are some."""
        while self._arrivals[0][1] not in self._waiting:
            heapq.heappop(self._arrivals)
        return self._arrivals[0][0]

    def _first_number(self) -> int:
        """The number of the first of the packets that wait. There are some."""
        while self._numbers[0] not in self._waiting:
            heapq.heappop(self._numbers)
        return self._numbers[0]

    @property
    def has_hole(self) -> bool:
        """Whether packets wait for one that is missing."""
        return bool(self._waiting)

    @property
    def has_begun(self) -> bool:
        """Whether a packet has passed."""
        return not self._starting

    @property
    def highest(self) -> int:
        """The highest sequence number that has arrived (16 bits); 0 before the first packet."""
        return (max(self._waiting, default=(self._next or 1) - 1)) & 0xFFFF

    def missing(self, *, within: int) -> list[Missing]:
        """Return the missing packets among the latest `within` sequence numbers, in order.

        Those of which a redundant copy has arrived are left out.
        """
        waiting, copies = self._waiting, self._copies
        if not waiting or self._next is None:
            return []
        highest = max(waiting)
        first = max(min(waiting) if self._starting else self._next, highest - within)
        missing: list[Missing] = []
        known_at = float("inf")
        for sequence in range(highest, first - 1, -1):
            if (packet := waiting.get(sequence)) is not None:
                known_at = min(known_at, packet.arrived)
            elif sequence not in copies:
                missing.append(Missing(sequence & 0xFFFF, known_at))
        missing.reverse()
        return missing

    def flush(self) -> list[Slot]:
        """Give up all holes and return everything that waits: the stream is over."""
        slots: list[Slot] = []
        while self._waiting:
            slots += self._give_up_hole()
        return slots

    def _give_up_hole(self) -> list[Slot]:
        assert self._next is not None
        first = self._first_number()
        arrived = self._waiting[first].arrived
        slots: list[Slot] = []
        # no copy is further back than this; of a long hole only the end is looked at
        begin = first if self._starting else max(self._next, first - _REMEMBERED_LOSSES)
        lost = 0 if self._starting else begin - self._next
        for sequence in range(begin, first):
            self._given_up.append(sequence)
            copy = self._copies.pop(sequence, None)
            if copy is None:
                lost += 1
                continue
            if lost:
                slots.append(Lost(lost))
                lost = 0
            if copy.arrived > arrived:  # time does not go back to the packet behind it
                copy = replace(copy, arrived=arrived)
            slots.append(copy)
        if lost:
            slots.append(Lost(lost))
        self._next = first
        if self._starting:
            self._copies = {at: copy for at, copy in self._copies.items() if at > first}
        return slots + self._in_order()

    def _in_order(self) -> list[Slot]:
        assert self._next is not None
        slots: list[Slot] = []
        while (item := self._waiting.pop(self._next, None)) is not None:
            slots.append(item)
            self._note_passed(item)
            self._copies.pop(self._next, None)
            self._next += 1
        if slots:
            self._starting = False  # a hole after a packet that passed is a loss
        if not self._waiting:
            self._numbers.clear()
            self._arrivals.clear()
        return slots

    def _count_late_or_duplicate(self, sequence: int) -> None:
        if sequence in self._given_up:
            self._given_up.remove(sequence)
            self.late += 1
        else:
            self.duplicates += 1

    def _note_passed(self, packet: RtpPacket) -> None:
        last, self._last = self._last, packet
        if last is None:
            return
        step = signed(packet.timestamp - last.timestamp, bits=32)
        if 0 < step <= _MAX_TICKS and signed(packet.sequence - last.sequence, bits=16) == 1:
            self._ticks = step

    def _continues_stream(self, packet: RtpPacket) -> bool:
        """Whether the timestamp of a far-off packet has jumped as far as its sequence number."""
        if self._last is None or not self._ticks:
            return False
        packets = signed(packet.sequence - self._last.sequence, bits=16)
        error = signed(packet.timestamp - self._last.timestamp - packets * self._ticks, bits=32)
        return abs(error) <= abs(packets) * self._ticks // 2

    def _handle_jump(self, packet: RtpPacket) -> list[Slot]:
        first = self.suspect
        if first is not None:
            follows = signed(packet.sequence - first.sequence, bits=16)
            if 0 < follows <= MAX_MISORDER:
                return self._restart(first, packet)
            self.strays += 1
        self.suspect = packet
        return []

    def _restart(self, first: RtpPacket, second: RtpPacket) -> list[Slot]:
        slots = [*self.flush(), Restarted()]
        self.suspect = None
        self._last, self._ticks = None, 0
        self._copies.clear()
        self._given_up.clear()
        self._next = first.sequence
        for packet in (first, second):
            at = self._next + signed(packet.sequence - self._next, bits=16)
            self._wait(at, packet)
            slots += self._in_order()
        return slots

    def _drop_suspect(self) -> None:
        self.strays += 1
        self.suspect = None
