"""Tells the first things of a kind and counts the others: a flood of them is a few lines."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

INTERVAL_S = 60.0

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Interval:
    ends: float
    told: int = 0
    untold: int = 0


class Tally(Generic[K]):
    """Counts things by kind, in intervals of `INTERVAL_S` that begin with the first of a kind.

    Its memory is limited by the number of kinds: things of further kinds count as the kind that
    their caller names instead.
    """

    def __init__(self, *, told: int, kinds: int) -> None:
        """Tell the first `told` things of a kind in each interval, of so many `kinds` at a time."""
        self._told = told
        self._kinds = kinds
        self._intervals: dict[K, _Interval] = {}  # the one that ends first is the first

    def note(self, kind: K, *, instead: K, now: float) -> bool:
        """Note a thing; return whether to tell it, or else count it."""
        if kind not in self._intervals and len(self._intervals) >= self._kinds:
            kind = instead
        interval = self._intervals.setdefault(kind, _Interval(now + INTERVAL_S))
        if interval.told < self._told:
            interval.told += 1
            return True
        interval.untold += 1
        return False

    @property
    def next_end(self) -> float | None:
        """When the next interval ends; None if there is none."""
        return next((interval.ends for interval in self._intervals.values()), None)

    def end(self, *, now: float) -> Sequence[tuple[K, int]]:
        """End the intervals that are over; return how many of each kind were not told.

        Call it before `note`, and when `next_end` has come.
        """
        over = []
        for kind, interval in list(self._intervals.items()):
            if now < interval.ends:
                break
            del self._intervals[kind]
            if interval.untold:
                over.append((kind, interval.untold))
        return over
