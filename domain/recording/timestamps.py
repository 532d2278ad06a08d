"""Corrects RTP timestamps that do not count the sound that the sender sent."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from domain.rtp.counters import signed

TOLERANCE_S = 0.02
"""Uneven timestamps are corrected when they are off by this much in total."""
MEMORY_S = 5.0
"""After a step that was not believed, a step back to the old numbering is expected for so long."""
CONFIRMATIONS = 5
"""Packets in a row with the same wrong step that show at which rate the sender really counts."""
MAX_MISCOUNT = 4
"""A step of more packets than this is a pause or a jump, and says nothing about the rate."""
MAX_JUMP_S = 2.0
"""A longer step needs a pause in the arrival of packets, or it is not believed."""
MIN_BREAK_S = 0.1
"""A pause in the arrival after which a long step may be a break: the sender numbers anew."""
MAX_AHEAD_S = 0.03
"""A step that puts sound further ahead of the wall clock than ever before is not believed."""
PERIOD_S = 10.0
"""How early sound can arrive is learnt anew in each period of this length."""
YOUNG_S = 1.0
"""For so long after the first packet it is not known how early sound can arrive. Meanwhile steps of
a few packets are miscounts, and longer ones pauses."""


class Miscount(enum.Enum):
    """How timestamps fail to count the sound; the value is the reason in the ledger."""

    UNEVEN = "uneven steps"
    """They tremble around the right value."""
    RATE = "clock rate"
    """They count at another rate than the codec's (RFC 7587 § 4.1 for Opus: always 48 kHz)."""
    JUMP = "numbering"
    """They stand still, step back, or jump while the sound continues."""


@dataclass(frozen=True, slots=True)
class Step:
    """The time between two packets, as far as it is believed."""

    gap: int
    """Ticks without sound before the packet."""
    miscount: Miscount | None = None
    """Why this is not what the timestamps say; None if it is."""


class TimestampReader:
    """Decides how much time passed between one packet and the next of a source.

    Timestamps are believed as long as they can be true. Packets with consecutive sequence numbers
    never overlap: the sound of all of them was sent. If their timestamps step ahead, the sender
    paused; the times of arrival must support that where the timestamps have been wrong before.
    """

    def __init__(self, *, clock_rate_hz: int) -> None:
        self._nominal_hz = clock_rate_hz
        self.restart()

    def restart(self) -> None:
        """Expect packets of another source, or of a sender that has restarted."""
        self.clock_rate_hz = self._nominal_hz
        """The rate at which the sender counts, in ticks per second of its sound."""
        # where the timestamps as sent and as corrected belong together
        self._sent = self._corrected = 0
        self._uneven = 0  # ticks that small deviations add up to
        self._slip = 0  # ticks of steps that were not believed
        self._slipped_at = float("-inf")
        self._first_at: float | None = None  # when the first packet arrived
        self._seen = 0  # the corrected timestamp that was observed last
        self._seen_s = 0.0  # the time from the first one to it
        # the greatest lead over the wall clock, up to a constant, in this period and the last one
        self._best_s = self._former_best_s = float("-inf")
        self._period_began_at = float("-inf")
        self._repeated: tuple[int, int] | None = None  # the latest step, and packet length
        self._repetitions = 0  # of this step in a row
        self._repeated_since = 0.0  # when the first of them arrived
        self._expected_next: int | None = None  # the timestamp that would repeat it

    def corrected(self, timestamp: int) -> int:
        """Return the timestamp (32 bits) that a sender which counts correctly would have sent."""
        ticks = signed(timestamp - self._sent, bits=32)
        return (self._corrected + self._nominal(ticks)) % 2**32

    def observe(self, corrected: int, *, arrived: float) -> None:
        """Note when the packet with a corrected timestamp arrived."""
        if self._first_at is None:
            self._first_at, self._seen = arrived, corrected
        self._seen_s += self._seconds_to(corrected)
        self._seen = corrected
        if arrived - self._period_began_at >= PERIOD_S:
            self._former_best_s, self._best_s = self._best_s, float("-inf")
            self._period_began_at = arrived
        self._best_s = max(self._best_s, self._seen_s - arrived)

    def follow(
        self, timestamp: int, *, expected: int, length: int, now: float, spacing_s: float
    ) -> Step:
        """Return the step to a packet whose predecessor was received.

        `expected` is the timestamp right after the predecessor, which is `length` ticks long. The
        packet arrived at `now`, `spacing_s` after its predecessor.
        """
        ticks = signed(timestamp - expected, bits=32)
        if not ticks:
            return Step(0)
        step_s, pause_s = ticks / self.clock_rate_hz, spacing_s - length / self.clock_rate_hz
        # a short step may be a miscount, and packets may be late by chance
        is_supported = 0 < step_s <= (2 if ticks > MAX_MISCOUNT * length else 1) * pause_s
        step = self._judge(
            ticks,
            length,
            now,
            pause_s=pause_s,
            is_supported=is_supported,
            lead_s=self._seen_s + self._seconds_to(self.corrected(expected)) - now,
        )
        if step.gap != ticks:
            self._map(timestamp, expected, step.gap)
        if self._repeats(timestamp, ticks, length, now):
            return self._change_rate(timestamp, ticks, length)
        return step

    def follow_loss(self, timestamp: int, *, expected: int, length: int, lost: int) -> Step:
        """Return the step to a packet whose `lost` predecessors are missing."""
        ticks = signed(timestamp - expected, bits=32)
        self._repetitions = 0
        if self._slip and 0 <= ticks + self._slip < abs(ticks):
            gap, self._slip = ticks + self._slip, 0
        elif ticks >= 0 or ticks <= -length:
            return Step(ticks)
        else:
            gap = lost * length
        self._map(timestamp, expected, gap)
        return Step(gap, Miscount.JUMP)

    def _judge(
        self,
        ticks: int,
        length: int,
        now: float,
        *,
        pause_s: float,
        is_supported: bool,
        lead_s: float,
    ) -> Step:
        """Decide what to believe of a step of `ticks` that no sound accounts for.

        The packet arrived `pause_s` later than one without a step would have, which may support the
        step, and has the lead `lead_s` over the wall clock without it.
        """
        step_s = ticks / self.clock_rate_hz
        is_repeated = self._repeated == (ticks, length) and not self._is_paced(ticks, length, now)
        slip = self._slip if now - self._slipped_at < MEMORY_S else 0
        if abs(step_s) < TOLERANCE_S and abs(ticks) < length:
            return self._slipped(slip + ticks, now) if is_repeated else self._tremble(ticks)
        if is_supported:
            return Step(ticks)
        if slip * ticks < 0 and abs(slip + ticks) <= abs(slip):
            return self._slipped(slip + ticks, now)  # it is a return
        is_young = self._first_at is None or now - self._first_at < YOUNG_S
        is_early = lead_s + step_s > max(self._best_s, self._former_best_s) + MAX_AHEAD_S
        if ticks > MAX_MISCOUNT * length and not is_young and not is_early:
            return Step(ticks)  # a pause: the network has delayed the packets before it
        if is_repeated:
            return self._slipped(slip + ticks, now)
        if abs(step_s) > MAX_JUMP_S:
            return Step(ticks) if pause_s > MIN_BREAK_S else self._slipped(slip + ticks, now)
        is_doubtful = ticks < MAX_MISCOUNT * length if is_young else is_early
        if step_s > 0 and not is_doubtful:
            return Step(ticks)
        return self._slipped(slip + ticks, now)

    def _slipped(self, slip: int, now: float) -> Step:
        self._slip, self._slipped_at = slip, now
        return Step(0, Miscount.JUMP)

    def _tremble(self, ticks: int) -> Step:
        self._uneven += ticks
        gap = 0
        if abs(self._uneven) >= TOLERANCE_S * self.clock_rate_hz:
            gap, self._uneven = max(0, self._uneven), 0
        return Step(gap, Miscount.UNEVEN)

    def _repeats(self, timestamp: int, ticks: int, length: int, now: float) -> bool:
        """Note a step; return whether it came often enough in a row to be the rate."""
        is_paced = self._is_paced(ticks, length, now)
        if self._repeated != (ticks, length) or timestamp != self._expected_next:
            self._repeated, self._repetitions, self._repeated_since = (ticks, length), 0, now
        self._repetitions += 1
        self._expected_next = (timestamp + length + ticks) % 2**32
        is_possible = 0 < length + ticks <= MAX_MISCOUNT * length
        return is_possible and not is_paced and self._repetitions >= CONFIRMATIONS

    def _is_paced(self, ticks: int, length: int, now: float) -> bool:
        """Whether packets with this step come as slowly as it says: it is a pause each time."""
        if ticks <= 0 or self._repeated != (ticks, length):
            return False
        passed_s = self._repetitions * (length + ticks / 2) / self.clock_rate_hz
        return now - self._repeated_since >= passed_s

    def _change_rate(self, timestamp: int, ticks: int, length: int) -> Step:
        self._corrected = self.corrected(timestamp)
        self._sent = timestamp
        self.clock_rate_hz = self.clock_rate_hz * (length + ticks) // length
        self._slip = self._uneven = self._repetitions = 0
        return Step(0, Miscount.RATE)

    def _map(self, timestamp: int, expected: int, gap: int) -> None:
        """Let `timestamp` be `gap` ticks after `expected`, whatever the numbers say."""
        self._corrected = self.corrected(expected) + self._nominal(gap)
        self._sent = timestamp

    def _seconds_to(self, corrected: int) -> float:
        return signed(corrected - self._seen, bits=32) / self._nominal_hz

    def _nominal(self, ticks: int) -> int:
        return ticks * self._nominal_hz // self.clock_rate_hz
