"""Sets of positions, as ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """`length` positions from `start` on."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """The position after the last one."""
        return self.start + self.length


class RangeSet:
    """A set of positions, kept as disjoint ranges that do not touch."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for item in ranges:
            self.add(item.start, item.end)

    def __iter__(self) -> Iterator[Range]:
        for start, end in zip(self._starts, self._ends, strict=True):
            yield Range(start, end - start)

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"

    @property
    def total(self) -> int:
        """The number of positions."""
        return sum(self._ends) - sum(self._starts)

    @property
    def end(self) -> int:
        """The position after the last one; 0 if the set is empty."""
        return self._ends[-1] if self._ends else 0

    def add(self, start: int, end: int) -> None:
        """Add the positions from `start` up to `end`, which is not included."""
        if end <= start:
            return
        first = bisect_left(self._ends, start)  # the first range that touches or lies behind
        last = bisect_right(self._starts, end)  # behind the last range that touches
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Remove the positions from `start` up to `end`, which is not included."""
        if end <= start:
            return
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        if first >= last:
            return
        starts, ends = [], []
        if self._starts[first] < start:
            starts.append(self._starts[first])
            ends.append(start)
        if self._ends[last - 1] > end:
            starts.append(end)
            ends.append(self._ends[last - 1])
        self._starts[first:last] = starts
        self._ends[first:last] = ends

    def within(self, start: int, end: int) -> Sequence[Range]:
        """Return the ranges of the set from `start` up to `end`, cut at both."""
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end)
        found = []
        for index in range(first, last):
            left, right = max(start, self._starts[index]), min(end, self._ends[index])
            found.append(Range(left, right - left))
        return found

    def covers(self, start: int, end: int) -> bool:
        """Return whether all positions from `start` up to `end` are in the set."""
        if end <= start:
            return True
        index = bisect_right(self._starts, start) - 1
        return index >= 0 and self._ends[index] >= end

    def minus(self, other: RangeSet) -> RangeSet:
        """Return the positions that are not in another set."""
        rest = RangeSet()
        rest._starts, rest._ends = list(self._starts), list(self._ends)
        for item in other:
            rest.remove(item.start, item.end)
        return rest
