"""The timeline places samples by RTP timestamps, and by the wall clock where those break off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.recording.effects import (
    Appended,
    EndReason,
    Finished,
    GapFilled,
    Noted,
    Opened,
    Placed,
)
from domain.recording.ledger import SampleKind
from domain.recording.reconstruction import Run
from domain.recording.recording import Recording
from domain.recording.timeline import Placement, Timeline
from domain.sound.formats import AudioFormat

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


def test_recorded_samples_are_not_written_twice() -> None:
    line = timeline()
    line.place(0, 960, now=0.0)
    assert line.place(480, 960, now=0.02) == Placement(gap=0, overlap=480)
    assert line.position == 1440


def test_a_run_that_lies_in_the_past_altogether_is_a_step_back_and_is_kept() -> None:
    line = timeline()
    for n in range(100):
        line.place(n * 960, 960, now=n * 0.02)
    stepped = line.place(60 * 960, 960, now=2.0)
    assert stepped == Placement(gap=0, overlap=0, discontinuity=True)
    assert line.position == 101 * 960


def test_a_jump_of_a_day_fills_only_the_time_that_really_went_by() -> None:
    line = timeline()
    line.place(0, 960, now=0.0)
    placement = line.place(RATE * 60 * 60 * 24 % 2**32, 960, now=2.0)
    assert placement == Placement(gap=2 * RATE - 960, overlap=0, discontinuity=True)


def test_the_fill_after_a_break_has_a_cap() -> None:
    line = timeline(max_gap_s=5)
    line.place(0, 960, now=0.0)
    line.restart()
    assert line.place(123, 960, now=3600.0).gap == 5 * RATE


def test_timestamps_that_run_backwards_are_placed_by_the_wall_clock() -> None:
    line = timeline()
    line.place(10 * RATE, 960, now=0.0)
    assert line.place(0, 960, now=0.04) == Placement(gap=960, overlap=0, discontinuity=True)
    assert line.place(960, 960, now=0.06) == Placement(gap=0, overlap=0)


def test_no_more_time_is_filled_in_than_has_gone_by() -> None:
    line = timeline()
    line.place(0, 960, now=0.0)
    placement = line.place(30 * RATE, 960, now=1.0)
    assert placement == Placement(gap=RATE - 960, overlap=0, discontinuity=True)


def test_timestamps_that_jump_and_step_back_again_and_again_gain_nothing() -> None:
    line, timestamp = timeline(), 0
    for n in range(1000):
        timestamp += 2 * RATE - 960 if n % 2 else -RATE
        line.place(timestamp % 2**32, 960, now=n * 0.001)
    # what was sent, plus the allowed lead
    assert line.position <= 1000 * 960 + (1 + 2) * RATE


def test_a_sender_that_was_late_and_caught_up_may_pause() -> None:
    line, breaks, backlog_s = timeline(), 0, 4.0
    for n in range(45_000):
        if n % 250 < 20:
            continue  # a pause of 0.4 s every 5 s
        arrived = max(backlog_s, (n + 1) * 0.02)
        breaks += line.place(n * 960, 960, now=arrived).discontinuity
    assert breaks <= 1


@given(st.floats(-1000, 1000), st.floats(0, 0.5))
def test_skew_and_jitter_over_an_hour_are_no_break(ppm: float, jitter: float) -> None:
    line = timeline()
    for second in range(3600):
        sent_at = second / (1 + ppm / 1e6)
        late = jitter * (second % 7) / 7
        assert not line.place(second * RATE % 2**32, RATE, now=sent_at + late).discontinuity
    assert line.position == 3600 * RATE


def test_packets_that_arrive_in_a_burst_after_an_outage_keep_their_place() -> None:
    line = timeline()
    line.place(0, 960, now=0.0)
    # the network held back ten seconds and lost half of them
    assert line.place(5 * RATE, 960, now=10.0).gap == 5 * RATE - 960
    assert line.place(9 * RATE, 960, now=10.0).gap == 4 * RATE - 960


def test_g722_has_twice_as_many_samples_as_ticks() -> None:
    line = Timeline(clock_rate_hz=8_000, sample_rate_hz=16_000, max_gap_s=60)
    line.place(0, 320, now=0.0)
    assert line.place(320, 320, now=0.04).gap == 320


def run(timestamp: int, now: float, gap_kind: SampleKind = SampleKind.SILENCE) -> Run:
    frame = np.zeros((960, 1), dtype="<i2")
    return Run(timestamp, [frame], len(frame), SampleKind.RECEIVED, gap_kind, now, now)


def test_a_recording_opens_once_fills_gaps_and_finishes() -> None:
    recording = Recording(max_gap_s=60)
    mono = AudioFormat(RATE, 1)
    assert recording.open(mono, clock_rate_hz=RATE) == [Opened(mono)]
    placed, anchor, first = recording.add(run(0, 0.0))
    assert placed == Placed(position=0, gap=0, rtp_timestamp=0, arrived=0.0)
    assert isinstance(anchor, Noted)
    assert (anchor.event.type, anchor.event.position) == ("anchor", 0)
    assert isinstance(first, Appended)
    gap, second = recording.add(run(2880, 0.06, SampleKind.DTX))
    assert gap == GapFilled(1920, SampleKind.DTX)
    assert isinstance(second, Appended)
    assert recording.length == 3840
    assert recording.end(EndReason.CLOSED, now=0.1) == [Finished(EndReason.CLOSED)]
    assert recording.end(EndReason.SHUTDOWN, now=0.1) == []


def test_a_break_is_one_event_and_the_fill_is_silence_whatever_the_sender_meant() -> None:
    recording = Recording(max_gap_s=60)
    recording.open(AudioFormat(RATE, 1), clock_rate_hz=RATE)
    recording.add(run(0, 0.0))
    recording.restart("source")
    noted, placed, gap, anchor, _ = recording.add(run(777, 1.0, SampleKind.DTX))
    assert placed == Placed(position=960, gap=RATE - 960, rtp_timestamp=777, arrived=1.0)
    assert isinstance(noted, Noted)
    assert isinstance(anchor, Noted)
    assert noted.event.details == {"reason": "source", "fill_samples": RATE - 960}
    assert gap == GapFilled(RATE - 960, SampleKind.SILENCE)
    assert len(recording.add(run(777 + 960, 1.02))) == 1


def test_a_recording_without_sound_has_no_effects() -> None:
    assert Recording(max_gap_s=60).end(EndReason.CLOSED, now=0.0) == []


# -- the clock is set between two processes --------------------------------------------------------


@pytest.mark.parametrize("set_s", [-3600.0, 0.0, 30.0])
def test_the_same_source_continues_by_its_timestamps_whatever_the_clock_says(set_s: float) -> None:
    line = timeline()
    line.resume(position=10 * RATE, timestamp=10 * RATE, ended_at=5000.0)
    now = 5005.0 + set_s
    assert line.place(15 * RATE, 960, now=now) == Placement(gap=5 * RATE, overlap=0)
    # a pause that follows is as long as its timestamps say, too
    assert line.place(18 * RATE, 960, now=now + 3.0) == Placement(gap=3 * RATE - 960, overlap=0)


def test_after_the_clock_was_set_back_breaks_are_measured_by_the_new_clock() -> None:
    line = timeline()
    line.resume(position=10 * RATE, timestamp=None, ended_at=5000.0)
    assert line.place(77, 960, now=1400.0).gap == 0  # nobody knows how long it was
    line.restart()
    assert line.place(10**6, 960, now=1404.02).gap == 4 * RATE
    assert line.place(10**6 + 3 * RATE, 960, now=1407.0) == Placement(3 * RATE - 960, 0)
