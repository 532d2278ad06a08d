"""How fast captured sound may be sent beside a live stream, over the same path.

The live stream comes first, also on an up-link that carries little more than it. What is sent
beside it must not fill the queue before the bottleneck. So the rate follows the delay of that
queue, as in LEDBAT (RFC 6817): losses come only when the queue is full.
"""

from __future__ import annotations

import math
from collections import deque

from domain.ports.media import PathReport

FIRST_RATE = 500.0
"""Bytes per second at the beginning, and after the path was gone: 4 kbit/s."""
LOWEST_RATE = 250.0
"""The rate, in bytes per second, is not reduced below this; there are pauses beside it."""
HIGHEST_RATE = 250_000.0
"""Five times the sound of a microphone as FLAC; what is left is sent after the end."""
GROWTH = 0.08
"""By how much the rate grows with each report. Reports come half a second apart, and show a queue
up to a second and a half after it began: on a slow up-link it is still short then."""
SLOW_GROWTH = 0.02
"""By how much it grows close to the rate at which there was a queue or a loss."""
CLOSE = 0.8
REDUCTION = 0.7
"""What a queue or a loss makes of the rate. After half of it, less than half of the capacity that
is left would be used."""
QUEUE_S = 0.03
"""If each of the last `AGREEING` reports shows more delay than this, there is a queue. One alone
may have met a packet that was in the way, or a radio that was busy; the rate does not grow then."""
AGREEING = 3
LONG_QUEUE_S = 0.1
"""If a single report shows more delay than this, there is a queue."""
STEP_BYTES = 600
"""More than what is sent in one step, with a live packet beside it: a single report may meet it."""
PAUSE_S = 1.0
"""How long nothing is sent after a queue or a loss, so that the queue can drain."""
LISTENING_S = 2.0
"""Nothing is sent for so long at the beginning, and again after each `SENDING_S`: reports show then
what round trip and loss are without it."""
SENDING_S = 30.0
FRESH_S = 1.6
"""Without a report for this long (three are missing) there is no path."""
REPORT_PACKETS = 25
"""Packets of 20 ms between two reports: from so many a report counts the loss."""
USUAL_REPORTS = 8
"""The usual loss is the average of about so many reports."""
MOST_LOSS = 0.3
"""A path that loses more than this anyway is bad, and nothing is sent beside the live stream."""
BASE_S = 10.0
KEPT_BASES = 18
"""The least round trip of the last three minutes (18 times ten seconds) has met no queue."""


class PathPacer:
    """Tells when bytes may be sent, by reports on the path.

    Give it each report, and ask before anything is sent. Losses count against what is sent only if
    there are more of them than without it: a radio link loses packets in any case.
    """

    def __init__(self) -> None:
        self.rate = FIRST_RATE
        """Bytes per second."""
        self._limit = math.inf  # the rate at which there was a queue or a loss
        self._bases: deque[tuple[float, float]] = deque(maxlen=KEPT_BASES)  # (since, least)
        self._delays: deque[float] = deque(maxlen=AGREEING)
        self._usual_loss = 0.0  # while nothing was sent
        self._usual_reports = 0
        self._reported_at = -math.inf
        self._measured_at = -math.inf  # when a report last told the round trip
        self._free_at = -math.inf  # when what was granted has been sent at this rate
        self._granted_at = -math.inf
        self._granted = 0  # bytes since the previous report
        self._closed_until = -math.inf
        self._listens_at = -math.inf

    def reported(self, report: PathReport) -> None:
        """Take a report into account; one that is known already changes nothing."""
        now, before = report.at, self._reported_at
        if now <= before:
            return
        if now - before > FRESH_S:
            self._begin(now)
        # packets that were in flight at the report before are in this one
        was_silent = self._granted_at < before - PAUSE_S / 2
        was_used = self._granted > self.rate * (now - before) / 2
        self._reported_at, self._granted = now, 0
        is_lossy = self._is_lossy(report.fraction_lost, was_silent=was_silent)
        if report.round_trip_s is not None:
            self._measured_at = now
            self._delays.append(report.round_trip_s - self._base(report.round_trip_s, now))
        if is_lossy or self._is_queued:
            if now >= self._closed_until:  # else it is about what was sent before the pause
                self._limit = self.rate
                self.rate = max(LOWEST_RATE, self.rate * REDUCTION)
            self._close(now + PAUSE_S)
        elif was_used and report.round_trip_s is not None and self._delays[-1] <= QUEUE_S:
            growth = SLOW_GROWTH if self.rate > CLOSE * self._limit else GROWTH
            self.rate = min(HIGHEST_RATE, self.rate * (1 + growth))
        if now >= self._listens_at:
            self._listen(now)

    def wait_s(self, now: float) -> float:
        """Return for how long nothing may be sent; infinite without a path, or with a bad one."""
        if now - self._measured_at > FRESH_S or self._usual_loss > MOST_LOSS:
            return math.inf
        return max(0.0, self._closed_until - now, self._free_at - now)

    def granted(self, size: int, now: float) -> None:
        """Note that `size` bytes are sent now."""
        self._free_at = max(self._free_at, now) + size / self.rate
        self._granted += size
        self._granted_at = now

    def _begin(self, now: float) -> None:
        """Begin on a path of which nothing is known."""
        self.rate, self._limit = min(self.rate, FIRST_RATE), math.inf
        self._delays.clear()
        self._listen(now)

    def _listen(self, now: float) -> None:
        self._close(now + LISTENING_S)
        self._listens_at = now + LISTENING_S + SENDING_S

    def _close(self, until: float) -> None:
        self._closed_until = max(self._closed_until, until)

    def _is_lossy(self, lost: float, *, was_silent: bool) -> bool:
        """Return whether more is lost than without what is sent, and than chance explains."""
        usual = self._usual_loss
        if was_silent:
            self._usual_reports = min(self._usual_reports + 1, USUAL_REPORTS)
            self._usual_loss += (lost - usual) / self._usual_reports
            return False
        return lost > usual + 3 * math.sqrt(usual * (1 - usual) / REPORT_PACKETS)

    @property
    def _is_queued(self) -> bool:
        if not self._delays:
            return False
        agree = len(self._delays) == AGREEING and min(self._delays) > QUEUE_S
        # the faster the path has proved to be, the less delay is explained by one step
        own_s = STEP_BYTES / self.rate
        return agree or self._delays[-1] > min(LONG_QUEUE_S, 2 * QUEUE_S + own_s)

    def _base(self, round_trip_s: float, now: float) -> float:
        """Return the least round trip of the last minutes."""
        if not self._bases or now - self._bases[-1][0] > BASE_S:
            self._bases.append((now, round_trip_s))
        since, least = self._bases[-1]
        self._bases[-1] = since, min(least, round_trip_s)
        while now - self._bases[0][0] > BASE_S * KEPT_BASES:
            self._bases.popleft()
        return min(least for _, least in self._bases)
