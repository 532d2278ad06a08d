"""How long datagrams wait for others of their socket: the less time there is, the longer."""

from __future__ import annotations

import time
from collections import deque

SHORT_S, LONG_S = 0.0175, 0.195
"""From the look that has found it a datagram waits so long for others of its socket: for one packet
more while there is time, and for ten when there is none."""
BUSY = (0.24, 0.26)
"""There is none once reading would take more than the second of these shares of the thread's time
without patience, until it is less than the first. It is a quarter of what packets take that are
decoded, and more than half where they are kept as they come."""
_MEASURE_S = 0.05
_MANY = 100  # packets in that time; fewer tell nothing
_LATE_S = 0.015  # on average, behind what was due; sockets are looked at every few ms
_FEWEST, _MEASUREMENTS = 4, 20  # that are believed, and that are kept
_BELIEVED_S = 30.0
_LATE = 10  # measurements in a row: no handshake takes so long
_DOUBTED_S = 3.0  # it may be many handshakes; twice as long each time that it was not
_RATE_S = 3.0  # patience begins with a pause, by which the rate must not seem to fall


class Patience:
    """How long a socket with a datagram is left to gather others.

    What is done for a socket once is dear, what is done for one more packet of it is not: by
    more of them at a time a packet takes a fifth less on a busy server, and a third less where it
    is not decoded.

    What a packet takes without patience is learned while there is none, believed for a while, and
    then learned anew: machines change their pace. Once sockets are read later than they should be
    there is nothing to learn (they have more packets by then), and no time.
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
        self._doubted_s = _DOUBTED_S
        self._rate_hz = 0.0
        self._each_s: deque[float] = deque(maxlen=_MEASUREMENTS)  # what a packet has taken
        self._late = 0  # measurements in a row of being late
        self._measured_at = time.monotonic()

    def seconds(self, *, now: float) -> float:
        """What a datagram that is found now waits."""
        if (passed := now - self._measured_at) >= _MEASURE_S:
            self._rate_hz += (self.packets / passed - self._rate_hz) * min(1.0, passed / _RATE_S)
            if self.packets >= _MANY and not self._is_busy:
                if self.late_s > _LATE_S * self.sockets:
                    self._late += 1
                else:
                    self._late = 0
                    self._each_s.append(self.worked_s / self.packets)
                    if len(self._each_s) == _FEWEST:
                        self._doubted_s = _DOUBTED_S
            self._decide(now)
            self.packets, self.sockets, self.late_s, self.worked_s = 0, 0, 0.0, 0.0
            self._measured_at = now
        return LONG_S if self._is_busy else SHORT_S

    def _decide(self, now: float) -> None:
        if self._is_busy:
            is_known = bool(self._each_s)
            if now >= self._until or (is_known and self._share() <= BUSY[0]):
                self._is_busy, self._late = False, 0
                self._each_s.clear()
        elif self._share() > BUSY[1]:
            self._is_busy, self._until = True, now + _BELIEVED_S
        elif self._late >= _LATE:
            self._each_s.clear()  # by what was learned it would be in time
            self._is_busy, self._until = True, now + self._doubted_s
            self._doubted_s = min(2 * self._doubted_s, _BELIEVED_S)

    def _share(self) -> float:
        """Of the thread's time, that reading would take without patience, as far as is known."""
        count = len(self._each_s)
        return 0.0 if count < _FEWEST else self._rate_hz * sum(self._each_s) / count
