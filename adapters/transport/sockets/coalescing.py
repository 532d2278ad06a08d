"""When sockets are read: the busier the thread, the longer datagrams are coalesced."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadTiming:
    """When the sockets that carry media are polled and read."""

    interval_s: float
    """Time between two rounds of reads. A round reads all sockets that are due."""
    poll_interval_s: float
    """Shortest time between two polls for sockets that have become readable."""
    delay_s: float
    """How long a readable socket waits for more datagrams before it is read."""
    reschedules: bool
    """Whether a socket is scheduled again without a poll as long as its reads return data."""


LOW_LATENCY = ReadTiming(interval_s=0.005, poll_interval_s=0.0, delay_s=0.0175, reschedules=False)
"""While the thread has time to spare: a read returns about two packets of a stream."""
COALESCED = ReadTiming(interval_s=0.02, poll_interval_s=0.1, delay_s=0.295, reschedules=True)
"""While the thread is busy: a read returns about fifteen packets of a stream.

A killed process loses the packets in its sockets, and the samples that are not written yet.
Together they may be one second. Servicing a socket costs more per packet than writing to disk, so
sockets get a third of that second.
"""
MAX_READ_DELAY_S = 0.42
"""The longest time that a datagram waits to be read; a little more than `COALESCED` needs."""
LOW_LOAD, HIGH_LOAD = 0.72, 0.8
"""Shares of the thread's time. Above the high one reads are coalesced, until the thread would need
less than the low one without coalescing."""
_MEASURE_S = 0.05
_AVERAGE_S = 3.0
"""Long enough that a few handshakes are no load, and that the pause at the beginning of coalescing
does not end it."""
_MIN_PACKETS = 100  # a measurement with fewer packets says nothing
_MAX_LATE_S = 0.015  # mean delay behind the schedule; sockets are serviced every few milliseconds
_MIN_SAMPLES, _MAX_SAMPLES = 4, 20  # measurements that are needed, and that are kept
_MAX_USELESS = 20  # measurements without a usable sample, before the load alone decides
_COALESCE_S = 30.0


class ReadCoalescing:
    """Chooses the read timing by the thread's load.

    Most of what a read costs is spent once per read, not once per datagram. With coalesced reads a
    packet costs a fifth less on a busy server, and a third less where it is not decoded.

    What coalescing saves must not end it: the load would swing. So the cost of a packet is measured
    while reads are not coalesced, and predicts the load without coalescing. The prediction is used
    for a while and measured again then, since machines change their pace. Sockets that are read
    late have more packets by then than usual: such measurements are not used.
    """

    def __init__(self) -> None:
        self.packets = 0
        """Packets read since the latest measurement. The reader of the sockets adds to it."""
        self.sockets = 0
        """Sockets read since then."""
        self.late_s = 0.0
        """Sum of the sockets' delays behind their schedule since then."""
        self.worked_s = 0.0
        """CPU time of the thread spent in reads since then."""
        self._is_coalescing = False
        self._until = 0.0  # coalescing ends then, to measure again
        self._load = self._reading = 0.0  # shares of the thread's time: all work, and reads
        self._rate_hz = 0.0  # of packets
        self._packet_s: deque[float] = deque(maxlen=_MAX_SAMPLES)  # cost of one, not coalesced
        self._measurements = 0  # since coalescing ended
        self._measured_at, self._thread_s = time.monotonic(), time.thread_time()

    def timing(self, *, now: float) -> ReadTiming:
        """The timing to use from now on."""
        if now - self._measured_at >= _MEASURE_S:
            self._measure(now)
            self._decide(now)
        return COALESCED if self._is_coalescing else LOW_LATENCY

    def _measure(self, now: float) -> None:
        passed, thread_s = now - self._measured_at, time.thread_time()
        weight = min(1.0, passed / _AVERAGE_S)
        self._load += ((thread_s - self._thread_s) / passed - self._load) * weight
        self._reading += (self.worked_s / passed - self._reading) * weight
        self._rate_hz += (self.packets / passed - self._rate_hz) * weight
        if not self._is_coalescing:
            self._measurements += 1
            if self.packets >= _MIN_PACKETS and self.late_s <= _MAX_LATE_S * self.sockets:
                self._packet_s.append(self.worked_s / self.packets)
        self._measured_at, self._thread_s = now, thread_s
        self.packets, self.sockets, self.late_s, self.worked_s = 0, 0, 0.0, 0.0

    def _decide(self, now: float) -> None:
        load, is_known = self._load, len(self._packet_s) >= _MIN_SAMPLES
        if is_known:
            # predict the load without coalescing
            packet_s = sum(self._packet_s) / len(self._packet_s)
            load += self._rate_hz * packet_s - self._reading
        if self._is_coalescing:
            if now >= self._until or (is_known and load <= LOW_LOAD):
                self._is_coalescing, self._measurements = False, 0
                self._packet_s.clear()
        elif load > HIGH_LOAD and (is_known or self._measurements >= _MAX_USELESS):
            self._is_coalescing, self._until = True, now + _COALESCE_S
