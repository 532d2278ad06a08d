"""Compares the length of a recording with the wall clock, by the anchors in its ledger."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from domain.recording.alignment import ALIGNED
from domain.recording.clock import WRONG_PPM
from domain.recording.restoring import TICK_RATE_HZ

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
    """The part of it that nothing explains: neither the skew of the sender's clock, nor that the
    places of the anchors are estimates."""
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
    skew_ppm, about_s = None, 0.0
    for event in events:
        if not isinstance(event, dict):
            continue
        kind = event.get("type")
        if kind == ALIGNED:
            about_s = _about_s(event)
        elif kind == "anchor" and (anchor := _anchor(event, rate, about_s)) is not None:
            processes[-1].append(anchor)
        elif kind == "process restarted":
            processes.append([])
        if kind in ("anchor", "clock", "clock skew"):
            ppm = event.get("skew_ppm")
            if isinstance(ppm, int | float) and math.isfinite(ppm):
                skew_ppm = float(ppm)
    if sum(map(len, processes)) < 2:
        return None
    difference_s, passed_s, about_s = _difference(
        [_surest(anchors) for anchors in processes if anchors]
    )
    ppm = math.copysign(MAX_SKEW_PPM, difference_s) if skew_ppm is None else skew_ppm
    explained_s = ppm * 1e-6 * passed_s
    # what lies between no skew and the skew is explained
    low_s, high_s = min(0.0, explained_s), max(0.0, explained_s)
    unexplained_s = difference_s - min(max(difference_s, low_s), high_s)
    unexplained_s -= min(max(unexplained_s, -about_s), about_s)
    return WallClock(difference_s, unexplained_s, skew_ppm)


class _Anchor(NamedTuple):
    position_s: float
    """In the recording."""
    at: datetime.datetime
    """When its packet came, or would have usually."""
    about_s: float
    """By how much the position may be wrong."""


def _surest(anchors: Sequence[_Anchor]) -> Sequence[_Anchor]:
    """Return the anchors whose places are known, if there are enough of them; else all."""
    sure = [anchor for anchor in anchors if anchor.about_s < TOLERANCE_S]
    return sure if len(sure) > 1 else anchors


def _difference(processes: Sequence[Sequence[_Anchor]]) -> tuple[float, float, float]:
    """Return by how much the recording is longer than the time that passed, and that time.

    Also how wrong the difference may be, because places are estimates.
    """
    difference_s = passed_s = about_s = 0.0
    end: _Anchor | None = None
    for anchors in processes:
        begun_s = anchors[0].position_s
        early = [item for item in anchors if item.position_s - begun_s <= BEGINNING_S]
        start = max(early, key=lambda item: item.position_s - item.at.timestamp())
        if end is not None:
            recorded_s, waited_s = _between(end, anchors[0])
            # the clock may have been set back between two processes; time can only be missing
            difference_s += min(0.0, recorded_s - waited_s)
            passed_s += recorded_s
            about_s += end.about_s + anchors[0].about_s
        end = anchors[-1]
        recorded_s, waited_s = _between(start, end)
        difference_s += recorded_s - waited_s
        passed_s += waited_s
        about_s += start.about_s + end.about_s
    return difference_s, passed_s, about_s


def _between(first: _Anchor, second: _Anchor) -> tuple[float, float]:
    return second.position_s - first.position_s, (second.at - first.at).total_seconds()


def _about_s(aligned: Mapping[str, Any]) -> float:
    """Return how wrong the places are of the sound behind an event of that type."""
    residual = aligned.get("residual_samples")
    if not isinstance(residual, int | float) or not math.isfinite(residual):
        return 0.0
    return abs(residual) / TICK_RATE_HZ


def _anchor(event: Mapping[str, Any], rate: int, about_s: float) -> _Anchor | None:
    try:
        at = datetime.datetime.fromisoformat(event["at"]).astimezone(datetime.UTC)
        on_time = at - datetime.timedelta(seconds=float(event.get("delay_s", 0.0)))
        return _Anchor(int(event["position"]) / rate, on_time, about_s)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
