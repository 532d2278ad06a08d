"""A `RangeSet` is a set of positions."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from domain.recording.ranges import Range, RangeSet

POSITIONS = st.integers(0, 60)
CHANGES = st.lists(st.tuples(st.booleans(), POSITIONS, POSITIONS), max_size=30)


def members(ranges: RangeSet) -> set[int]:
    return {position for item in ranges for position in range(item.start, item.end)}


@given(CHANGES, POSITIONS, POSITIONS)
def test_it_holds_what_was_added_and_not_removed(
    changes: list[tuple[bool, int, int]], start: int, end: int
) -> None:
    ranges, expected = RangeSet(), set[int]()
    for adds, first, behind in changes:
        if adds:
            ranges.add(first, behind)
            expected |= set(range(first, behind))
        else:
            ranges.remove(first, behind)
            expected -= set(range(first, behind))
    assert members(ranges) == expected
    assert ranges.total == len(expected)
    assert ranges.end == max(expected, default=-1) + 1
    kept = list(ranges)
    assert all(item.length > 0 for item in kept)
    assert all(left.end < right.start for left, right in itertools.pairwise(kept))
    assert members(RangeSet(ranges.within(start, end))) == expected & set(range(start, end))
    assert ranges.covers(start, end) == (set(range(start, end)) <= expected)
    assert RangeSet(kept) == ranges


@given(CHANGES, CHANGES)
def test_a_difference_is_one_of_sets(
    one: list[tuple[bool, int, int]], other: list[tuple[bool, int, int]]
) -> None:
    left, right = (RangeSet(Range(a, max(0, b - a)) for _, a, b in c) for c in (one, other))
    assert members(left.minus(right)) == members(left) - members(right)
