"""How far timestamps may be ahead of the wall clock, and how a recording continues after a break.

Times are multiples of half a second, so that limits can be met exactly.
"""

from __future__ import annotations

import pytest

from domain.recording.timeline import Placement, Timeline

RATE = 48_000
HALF = RATE // 2
LEAD = 2 * RATE
"""Two seconds: the allowed lead of timestamps since their anchor."""
AT = 100.0


def timeline(max_gap_s: float = 60) -> Timeline:
    return Timeline(clock_rate_hz=RATE, sample_rate_hz=RATE, max_gap_s=max_gap_s)


def begun(*, at: float = AT, max_gap_s: float = 60) -> Timeline:
    """A timeline with half a second of sound from timestamp 0, which arrived at `at`."""
    line = timeline(max_gap_s)
    assert line.place(0, HALF, now=at) == Placement(0, 0)
    return line


def goes_on(line: Timeline, timestamp: int, *, now: float) -> bool:
    """Whether half a second of sound at this timestamp is placed there."""
    return not line.place(timestamp % 2**32, HALF, now=now).discontinuity


# -- how far ahead ---------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.0, 100.0, 2.0**20])
def test_two_seconds_ahead_are_jitter_and_a_sample_more_is_not(at: float) -> None:
    assert goes_on(begun(at=at), HALF + LEAD, now=at)
    assert not goes_on(begun(at=at), HALF + LEAD + 1, now=at)


@pytest.mark.parametrize("at", [0.0, 100.0])
def test_a_clock_may_be_fast_by_a_thousandth_of_the_time(at: float) -> None:
    fits = HALF + 1000 * RATE + LEAD + RATE
    assert goes_on(begun(at=at, max_gap_s=2000), fits, now=at + 1000)
    assert not goes_on(begun(at=at, max_gap_s=2000), fits + 2, now=at + 1000)


def test_a_gap_is_as_long_as_allowed_and_no_longer() -> None:
    assert goes_on(begun(max_gap_s=10), HALF + 10 * RATE, now=AT + 20)
    assert not goes_on(begun(max_gap_s=10), HALF + 10 * RATE + 1, now=AT + 20)


def test_sound_without_a_gap_is_never_too_early() -> None:
    """A network that was stuck delivers a minute at once."""
    line = begun()
    for n in range(1, 120):
        assert goes_on(line, n * HALF, now=AT)
    assert goes_on(line, 120 * HALF - 1, now=AT)  # an overlap is accepted
    assert not goes_on(line, 121 * HALF, now=AT)  # a gap of one sample is not


def test_the_same_run_again_is_a_step_back() -> None:
    line = begun()
    assert line.place(0, HALF, now=AT + 0.5) == Placement(0, 0, discontinuity=True)
    line = begun()
    assert line.place(1, HALF, now=AT + 0.5) == Placement(0, HALF - 1)


def test_timestamps_half_a_wrap_apart_are_not_contiguous() -> None:
    line = begun()
    assert not goes_on(line, 2**31 + HALF + 960, now=AT + 1)
    line = begun()
    line.restart()
    assert not goes_on(line, 77, now=AT + 1)
    assert not goes_on(line, 77 + 2**31 + HALF + 960, now=AT + 2)


def test_timestamps_continue_across_their_wraps() -> None:
    line, step, now = timeline(max_gap_s=10**6), 2**30, 0.0
    for n in range(10):
        assert goes_on(line, n * step, now=now)
        now += step / RATE
        assert line.position == n * step + HALF


# -- after a break ---------------------------------------------------------------------------------


def test_a_break_at_once_leaves_no_gap_and_cuts_nothing() -> None:
    line = begun()
    line.restart()
    assert line.place(12_345, HALF, now=AT) == Placement(0, 0, discontinuity=True)
    assert line.position == 2 * HALF


def test_after_a_break_only_received_sound_adds_to_the_lead() -> None:
    """A lead that a gap has used up is not available to the next gap."""
    for beyond, believed in ((0, True), (1, False)):
        line = begun()
        assert line.place(HALF // 2, HALF, now=AT) == Placement(0, HALF // 2)  # 0.75 s
        assert goes_on(line, HALF // 2 + HALF + 84_000, now=AT)  # uses the full lead: 3 s
        line.restart()
        assert not goes_on(line, 0, now=AT)
        # 1.25 s of sound since the anchor, and two seconds of lead: up to 3.75 s
        assert goes_on(line, HALF + 12_000 + beyond, now=AT) is believed


def test_after_a_break_that_follows_on_a_full_lead_not_a_sample_may_be_missing() -> None:
    line = begun()
    assert goes_on(line, HALF + LEAD, now=AT)
    line.restart()
    assert not goes_on(line, 0, now=AT)
    assert not goes_on(line, HALF + 1, now=AT)


def test_a_sender_that_paused_before_a_break_keeps_its_lead() -> None:
    line = begun()
    assert goes_on(line, 10 * RATE, now=AT + 10)
    line.restart()
    assert not goes_on(line, 0, now=AT + 20)
    assert goes_on(line, HALF + LEAD, now=AT + 20)


# -- resumed recordings --------------------------------------------------------------------------

LONG_AGO = 2.0**20
TEN_S = 10 * RATE


def taken_up(timestamp: int | None) -> Timeline:
    """Resume ten seconds of another process, which ended at `LONG_AGO`."""
    line = timeline()
    line.resume(position=TEN_S, timestamp=timestamp, ended_at=LONG_AGO)
    assert line.position == TEN_S
    return line


@pytest.mark.parametrize("timestamp", [0, 77, 2**31, 2**32 - 960, 2**32 - RATE])
def test_the_same_stream_continues_at_its_timestamps(timestamp: int) -> None:
    line = taken_up(timestamp)
    placement = line.place((timestamp + 3 * RATE) % 2**32, 960, now=LONG_AGO + 3.02)
    assert placement == Placement(3 * RATE, 0)
    assert line.position == TEN_S + 3 * RATE + 960


def test_another_stream_continues_at_the_time_of_the_clock() -> None:
    line = taken_up(None)
    placement = line.place(123, 960, now=LONG_AGO + 4)
    assert placement == Placement(4 * RATE - 960, 0, discontinuity=True)
    assert line.position == TEN_S + 4 * RATE
    assert line.place(123 + 960, 960, now=LONG_AGO + 4.02) == Placement(0, 0)


@pytest.mark.parametrize(("more", "believed"), [(0, True), (200, False)])
def test_the_stream_may_not_be_further_ahead_than_in_one_process(more: int, believed: bool) -> None:
    line = taken_up(5)
    # half a second later: two seconds of lead, and a thousandth of the time
    timestamp = 5 + HALF + LEAD + more
    placement = line.place(timestamp, HALF, now=LONG_AGO + 0.5)
    assert placement.discontinuity is not believed
    if not believed:
        assert placement.gap == 0


@pytest.mark.parametrize(("more", "believed"), [(0, True), (1, False)])
def test_after_a_break_only_sound_of_this_process_counts(more: int, believed: bool) -> None:
    line = taken_up(5)
    assert goes_on(line, 5 + LEAD - HALF, now=LONG_AGO)  # 12 s
    line.restart()
    assert not goes_on(line, 0, now=LONG_AGO)
    # a second of sound since the anchor at 10 s, and two seconds of lead: up to 13 s
    assert goes_on(line, HALF + HALF + more, now=LONG_AGO) is believed


def test_a_stream_with_half_of_its_numbers_missing_is_another_one() -> None:
    line = taken_up(2**31)
    assert not goes_on(line, 960, now=LONG_AGO + 1)
