"""Kinds, levels and thresholds of alarms, and what keeps one of them from flapping."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class AlarmKind(enum.Enum):
    """What is wrong."""

    SILENCE = "silence"
    """A track has no sound."""
    CLIPPING = "clipping"
    """A track is too loud for its scale."""
    WRONG_CHANNEL = "wrong_channel"
    """One of two channels has no sound, the other one has."""
    LOSS = "loss"
    """Packets are lost, and were not sent again."""
    NOTHING = "nothing_arriving"
    """A session receives no packets."""
    STALL = "capture_stall"
    """The sender captured nothing for a time."""
    CLOCK = "wrong_clock"
    """The sender's clock is further off than that of a sound card."""
    RESTORING = "restoring_stuck"
    """The client is there, and does not send what is still wanted."""
    STORAGE = "storage_fault"
    """A recording cannot be written."""
    DISK = "disk_running_out"
    """The disk will soon be full."""


class AlarmLevel(enum.Enum):
    """How urgent it is."""

    WARNING = "warning"
    """Look at it: sound may be worse than it has to be."""
    CRITICAL = "critical"
    """Act: sound is being lost now, or will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmThresholds:
    """When alarms begin. A time, number, share or rate of 0 switches its alarm off."""

    silence_s: float = 30.0
    silence_dbfs: float = -60.0
    """Of the root of the mean square. A quiet room with an open microphone is louder."""
    clipped_samples: int = 100
    """Within `clipped_s`. A codec overshoots by single samples; a clipped voice has hundreds."""
    clipped_s: float = 10.0
    channel_s: float = 30.0
    """Of sound in one channel, with none in the other one."""
    loss_percent: float = 2.0
    """Of the packets of the last minute. Beyond it, a trained ear notices."""
    nothing_s: float = 5.0
    stall_s: float = 60.0
    """How long a stall is told after it has happened."""
    clock_ppm: float = 500.0
    """Sound cards are within 100."""
    restoring_s: float = 60.0
    disk_h: float = 8.0
    """At the present rate; an eighth of it is critical."""


_RANK = {AlarmLevel.WARNING: 1, AlarmLevel.CRITICAL: 2}


class Latch:
    """Whether one alarm is on: wrong for long enough begins it, right for long enough ends it."""

    __slots__ = ("_right_s", "_wrong_s", "kind", "level", "since", "text")

    def __init__(self, kind: AlarmKind) -> None:
        self.kind = kind
        self.level: AlarmLevel | None = None
        """None while the alarm is off."""
        self.since = 0.0
        """When it began to be wrong (monotonic, in seconds)."""
        self.text = ""
        self._wrong_s = -1.0
        """For how long it has been wrong; negative if it is right."""
        self._right_s = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether to be right once more changes nothing."""
        return self.level is None and self._wrong_s < 0.0

    def wrong(
        self,
        text: str,
        *,
        now: float,
        step: float,
        after_s: float = 0.0,
        began: float | None = None,
        level: AlarmLevel = AlarmLevel.WARNING,
    ) -> bool:
        """Note that it was wrong in the last `step` seconds; return whether the alarm changes.

        `began` is when it began to be wrong, if that is known better than by the first call.
        """
        if self._wrong_s < 0.0:
            self._wrong_s, self.since = 0.0, now if began is None else began
        else:
            self._wrong_s += step
        self._right_s = 0.0
        if self.level is None:
            if self._wrong_s < after_s:
                return False
        elif _RANK[level] <= _RANK[self.level]:
            return False
        self.level, self.text = level, text
        return True

    def right(self, *, step: float, after_s: float = 0.0) -> bool:
        """Note that it was right in the last `step` seconds; return whether the alarm ends."""
        if self.level is None:
            self._wrong_s = -1.0
            return False
        self._right_s += step
        if self._right_s < after_s:
            return False
        self.level, self._wrong_s, self._right_s = None, -1.0, 0.0
        return True
