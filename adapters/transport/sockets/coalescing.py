"""How long datagrams wait for others of their socket: the less time there is, the longer."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadPace:
    """When sockets are read."""

    turn_s: float
    """Those that are due are read so often, all of them together."""
    look_s: float
    """It is looked which have datagrams so often."""
    wait_s: float
    """One that has some is left to gather others for so long."""
    goes_on: bool
    """So is one that was just read, without a look, as long as it brings any."""


QUICK = ReadPace(turn_s=0.005, look_s=0.0, wait_s=0.0175, goes_on=False)
"""For one packet more, while there is time."""
PATIENT = ReadPace(turn_s=0.02, look_s=0.1, wait_s=0.295, goes_on=True)
"""For fifteen, when there is none. What waits is lost with a killed process, as is what is not yet
written; to see to a socket is dearer than to write is, for each packet, so that this has a third of
the second that it may be."""
MAX_READ_DELAY_S = 0.42
"""The longest that a datagram waits to be read; some room is left beyond a whole patient turn."""
BUSY = (0.72, 0.8)
"""There is none once the thread is at work for more than the second of these shares of its time,
until without patience it would be for less than the first."""
_MEASURE_S = 0.05
_AVERAGE_S = 3.0
"""A handshake, or a few, are no load; nor is the pause with which patience begins the end of it."""
_MANY = 100  # packets in a measurement; fewer tell nothing
_LATE_S = 0.015  # on average, behind what was due; sockets are looked at every few ms
_FEWEST, _KEPT = 4, 20  # measurements that are believed, and that are kept
_VAIN = 20  # that may teach nothing, one after the other, before it is done without them
_BELIEVED_S = 30.0


class ReadCoalescing:
    """How long a socket with a datagram is left to gather others.

    What is done for a socket once is dear, what is done for one more packet of it is not: by
    more of them at a time a packet takes a fifth less on a busy server, and a third less where it
    is not decoded.

    What patience saves must not end it. So it is learned while there is none what it takes to
    read a packet then; that is believed for a while, and then learned anew: machines change their
    pace. Sockets that are read later than they should be have more packets by then, and teach
    nothing.
    """

    def __init__(self) -> None:
        self.packets = 0
        """Read since it was measured last; to be counted up by whoever reads them."""
        self.sockets = 0
        """The same, of those that had them."""
        self.late_s = 0.0
        """By how much they were read later than they were due, all together."""
        self.worked_s = 0.0
        """The thread's time that it took."""
        self._is_busy = False
        self._until = 0.0  # it is believed that it is
        self._load = self._reading = 0.0  # shares of the thread's time: all, and of that reading
        self._rate_hz = 0.0  # of packets
        self._each_s: deque[float] = deque(maxlen=_KEPT)  # what reading one has taken
        self._impatient = 0  # measurements in a row
        self._measured_at, self._thread_s = time.monotonic(), time.thread_time()

    def rhythm(self, *, now: float) -> ReadPace:
        """The one to go on in."""
        if now - self._measured_at >= _MEASURE_S:
            self._measure(now)
            self._decide(now)
        return PATIENT if self._is_busy else QUICK

    def _measure(self, now: float) -> None:
        passed, thread_s = now - self._measured_at, time.thread_time()
        weight = min(1.0, passed / _AVERAGE_S)
        self._load += ((thread_s - self._thread_s) / passed - self._load) * weight
        self._reading += (self.worked_s / passed - self._reading) * weight
        self._rate_hz += (self.packets / passed - self._rate_hz) * weight
        if not self._is_busy:
            self._impatient += 1
            if self.packets >= _MANY and self.late_s <= _LATE_S * self.sockets:
                self._each_s.append(self.worked_s / self.packets)
        self._measured_at, self._thread_s = now, thread_s
        self.packets, self.sockets, self.late_s, self.worked_s = 0, 0, 0.0, 0.0

    def _decide(self, now: float) -> None:
        load, is_known = self._load, len(self._each_s) >= _FEWEST
        if is_known:
            # what it would be without patience
            each_s = sum(self._each_s) / len(self._each_s)
            load += self._rate_hz * each_s - self._reading
        if self._is_busy:
            if now >= self._until or (is_known and load <= BUSY[0]):
                self._is_busy, self._impatient = False, 0
                self._each_s.clear()
        elif load > BUSY[1] and (is_known or self._impatient >= _VAIN):
            self._is_busy, self._until = True, now + _BELIEVED_S
