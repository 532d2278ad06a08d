"""The timeline: RTP timestamps decide where samples go, the wall clock where those break off."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from domain.audio import AudioFormat
from domain.recording import Appended, EndReason, Finished, GapFilled, Opened, Recording
from domain.timeline import Placement, Timeline

RATE = 48_000


def timeline(**changes: float) -> Timeline:
    return Timeline(clock_rate_hz=RATE, sample_rate_hz=RATE, max_gap_s=changes.get("max_gap_s", 60))


@given(
    start=st.integers(0, 2**32 - 1),
    steps=st.lists(st.tuples(st.integers(0, 96_000), st.integers(1, 5760)), max_size=40),
)
def test_every_run_lands_where_its_timestamp_says(start: int, steps: list[tuple[int, int]]) -> None:
    line, offset = timeline(), 0
    for index, (hole, length) in enumerate(steps):
        offset += hole if index else 0
        placement = line.place((start + offset) % 2**32, length, now=offset / RATE)
        assert placement == Placement(gap=hole if index else 0, overlap=0)
        offset += length
        assert line.position == offset


def test_what_is_there_already_is_not_written_twice() -> None:
    line = timeline()
    line.place(0, 960, now=0.0)
    assert line.place(480, 960, now=0.02) == Placement(gap=0, overlap=480)
    assert line.place(0, 960, now=0.04) == Placement(gap=0, overlap=960)
    assert line.position == 1440


def test_a_jump_of_a_day_fills_only_the_time_that_really_went_by() -> None:
    line = timeline()
    line.place(0, 960, now=0.0)
    placement = line.place(RATE * 60 * 60 * 24 % 2**32, 960, now=2.0)
    assert placement == Placement(gap=2 * RATE, overlap=0, discontinuity=True)


def test_the_fill_after_a_break_has_a_cap() -> None:
    line = timeline(max_gap_s=5)
    line.place(0, 960, now=0.0)
    line.restart()
    assert line.place(123, 960, now=3600.0).gap == 5 * RATE


def test_timestamps_that_run_backwards_begin_anew_at_the_wall_clock() -> None:
    line = timeline()
    line.place(10 * RATE, 960, now=0.0)
    assert line.place(0, 960, now=0.02) == Placement(gap=960, overlap=0, discontinuity=True)
    assert line.place(960, 960, now=0.04) == Placement(gap=0, overlap=0)


def test_g722_has_twice_as_many_samples_as_ticks() -> None:
    line = Timeline(clock_rate_hz=8_000, sample_rate_hz=16_000, max_gap_s=60)
    line.place(0, 320, now=0.0)
    assert line.place(320, 320, now=0.04).gap == 320


def test_a_recording_opens_once_fills_gaps_and_finishes_at_its_length() -> None:
    recording = Recording(max_gap_s=60)
    mono = AudioFormat(RATE, 1)
    assert recording.open(mono, clock_rate_hz=RATE) == [Opened(mono)]
    frame = np.zeros((960, 1), dtype="<i2")
    (first,) = recording.add(frame, timestamp=0, now=0.0)
    assert isinstance(first, Appended)
    gap, second = recording.add(frame, timestamp=2880, now=0.06)
    assert gap == GapFilled(1920)
    assert isinstance(second, Appended)
    assert recording.end(EndReason.CLOSED) == [Finished(3840, EndReason.CLOSED)]
    assert recording.end(EndReason.SHUTDOWN) == []


def test_a_recording_without_sound_never_was() -> None:
    assert Recording(max_gap_s=60).end(EndReason.CLOSED) == []
