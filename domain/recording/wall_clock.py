"""Compares the length of a recording with the wall clock, by the anchors in its ledger."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from domain.recording.clock import WRONG_PPM

TOLERANCE_S = 0.5
"""A smaller difference can come from the delay of single packets."""
BEGINNING_S = 10.0
"""The first packets may be delayed. Of the anchors in the beginning, the one that was least delayed
counts."""
MAX_SKEW_PPM = 100.0
"""Skew of a good clock, where the ledger does not know it."""


@dataclass(frozen=True, slots=True)
class WallClock:
    """How a recording differs from the wall clock between its first anchor and its last one."""

    difference_s: float
    """By how much the recording is longer; negative if it is shorter."""
    unexplained_s: float
    """The part of it that the skew of the sender's clock does not explain."""
    skew_ppm: float | None

    @property
    def problem(self) -> str | None:
        """What is wrong with the length, if anything."""
        if abs(self.unexplained_s) <= TOLERANCE_S:
            return None
        by, word = abs(self.difference_s), "shorter" if self.difference_s < 0 else "longer"
        return f"the recording is {by:.3f} s {word} than the wall clock, and nothing explains it"

    @property
    def is_clock_wrong(self) -> bool:
        """Whether the sender's clock is further off than that of any sound card."""
        return self.skew_ppm is not None and abs(self.skew_ppm) > WRONG_PPM

    def as_json(self) -> dict[str, Any]:
        return {
            "difference_s": round(self.difference_s, 3),
            "unexplained_s": round(self.unexplained_s, 3),
            "skew_ppm": self.skew_ppm,
        }


def compare_with_wall_clock(ledger: Mapping[str, Any]) -> WallClock | None:
    """Return the difference; None if the ledger does not have two anchors."""
    events, rate = ledger.get("events"), ledger.get("sample_rate_hz")
    if not isinstance(events, list) or not isinstance(rate, int) or rate <= 0:
        return None
    processes: list[list[_Anchor]] = [[]]  # the anchors that each process has written
    skew_ppm = None
    for event in events:
        if not isinstance(event, dict):
            continue
        kind = event.get("type")
        if kind == "anchor" and (anchor := _anchor(event, rate)) is not None:
            processes[-1].append(anchor)
        elif kind == "process restarted":
            processes.append([])
        if kind in ("anchor", "clock", "clock skew"):
            ppm = event.get("skew_ppm")
            if isinstance(ppm, int | float) and math.isfinite(ppm):
                skew_ppm = float(ppm)
    if sum(map(len, processes)) < 2:
        return None
    difference_s, passed_s = _difference([anchors for anchors in processes if anchors])
    ppm = math.copysign(MAX_SKEW_PPM, difference_s) if skew_ppm is None else skew_ppm
    explained_s = ppm * 1e-6 * passed_s
    # what lies between no skew and the skew is explained
    low_s, high_s = min(0.0, explained_s), max(0.0, explained_s)
    unexplained_s = difference_s - min(max(difference_s, low_s), high_s)
    return WallClock(difference_s, unexplained_s, skew_ppm)


_Anchor: TypeAlias = tuple[float, datetime.datetime]
"""A position in the recording, in seconds, and when its packet came, or would have usually."""


def _difference(processes: Sequence[Sequence[_Anchor]]) -> tuple[float, float]:
    """Return by how much the recording is longer than the time that passed, and that time."""
    difference_s = passed_s = 0.0
    end: _Anchor | None = None
    for anchors in processes:
        begun_s, _ = anchors[0]
        early = [item for item in anchors if item[0] - begun_s <= BEGINNING_S]
        start = max(early, key=lambda item: item[0] - item[1].timestamp())
        if end is not None:
            recorded_s, waited_s = _between(end, anchors[0])
            # the clock may have been set back between two processes; time can only be missing
            difference_s += min(0.0, recorded_s - waited_s)
            passed_s += recorded_s
        end = anchors[-1]
        recorded_s, waited_s = _between(start, end)
        difference_s += recorded_s - waited_s
        passed_s += waited_s
    return difference_s, passed_s


def _between(first: _Anchor, second: _Anchor) -> tuple[float, float]:
    return second[0] - first[0], (second[1] - first[1]).total_seconds()


def _anchor(event: Mapping[str, Any], rate: int) -> _Anchor | None:
    try:
        at = datetime.datetime.fromisoformat(event["at"]).astimezone(datetime.UTC)
        on_time = at - datetime.timedelta(seconds=float(event.get("delay_s", 0.0)))
        return int(event["position"]) / rate, on_time
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
