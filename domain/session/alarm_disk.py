"""The alarm of the disk: when it will be full."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from domain.session.alarm_kinds import AlarmKind, AlarmLevel, AlarmThresholds, Latch

CRITICAL_DISK = 1 / 8
"""A disk that is full within this share of the threshold is critical."""
CLEAR_DISK = 1.25
"""How far beyond the threshold the time has to return before the alarm ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpace:
    """The disk of the recordings."""

    free_bytes: int
    """Without what is kept free."""
    bytes_per_s: float | None
    """How fast it fills; negative if it gets emptier, None if that is not known yet."""

    @property
    def left_s(self) -> float | None:
        """Seconds until it is full at the present rate; None if it does not fill, or none knows."""
        if self.free_bytes <= 0:
            return 0.0
        if self.bytes_per_s is None or self.bytes_per_s <= 0:
            return None
        return self.free_bytes / self.bytes_per_s


class DiskRule:
    """The alarm of the disk."""

    CLEAR_S = 10.0

    def __init__(self, limits: AlarmThresholds) -> None:
        self.latch = Latch(AlarmKind.DISK)
        self._limits = limits

    def observe(self, disk: DiskSpace, *, now: float, step: float) -> bool:
        """Return whether the alarm changes."""
        limit_h = self._limits.disk_h
        if not limit_h:
            return False
        if disk.free_bytes <= 0:
            text = "the disk is full"
            return self.latch.wrong(text, now=now, step=step, level=AlarmLevel.CRITICAL)
        if disk.bytes_per_s is None:
            return False
        hours = math.inf if disk.left_s is None else disk.left_s / 3600
        if hours < limit_h:
            is_critical = hours < limit_h * CRITICAL_DISK
            return self.latch.wrong(
                f"the disk is full in {_duration(hours)} at the present rate",
                now=now,
                step=step,
                level=AlarmLevel.CRITICAL if is_critical else AlarmLevel.WARNING,
            )
        if hours < limit_h * CLEAR_DISK or self.latch.is_idle:
            return False
        return self.latch.right(step=step, after_s=self.CLEAR_S)


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"


class DiskRate:
    """How fast a disk fills, by its free space over the last minutes."""

    WINDOW_S, STEP_S, LEAST_S = 300.0, 5.0, 60.0

    def __init__(self, *, kept_free_bytes: int) -> None:
        """Begin; `kept_free_bytes` of the disk are not for recordings."""
        self._kept_free = kept_free_bytes
        self._measured: deque[tuple[float, int]] = deque(
            maxlen=int(self.WINDOW_S / self.STEP_S) + 1
        )

    def add(self, free_bytes: int, *, now: float) -> DiskSpace:
        """Note the free space; return what is known of the disk."""
        measured = self._measured
        if not measured or now - measured[-1][0] >= self.STEP_S:
            measured.append((now, free_bytes))
        began, first = measured[0]
        elapsed = now - began
        return DiskSpace(
            free_bytes=free_bytes - self._kept_free,
            bytes_per_s=(first - free_bytes) / elapsed if elapsed >= self.LEAST_S else None,
        )
