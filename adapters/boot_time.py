"""What the system knows of its last boot: the time since then, and its name."""

from __future__ import annotations

import pathlib
import time

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")


def boot_time() -> float:
    """Return the seconds since the machine booted, sleep included, where the system tells them.

    `time.monotonic` stops on Linux while the machine sleeps (clock_gettime(2)).
    """
    return time.clock_gettime(_CLOCK)


def boot_id() -> str:
    """Return what tells this boot from all others (random(4)); empty if the system has no name."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
