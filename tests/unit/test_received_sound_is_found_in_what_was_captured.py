"""Received sound tells where it is in what was captured; where it cannot, nothing is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.recording.alignment import (
    ALIGNED,
    MAX_EVENTS,
    MAX_RUNS,
    MAX_WINDOWS,
    Alignment,
    Mono,
    TimedRun,
    align,
    divided,
    looked_for,
    realigned,
    timed_runs,
)
from domain.recording.ledger import LedgerEvent
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import ABOUT, PLACED, TICK_RATE_HZ
from domain.sound.formats import AudioFormat
from tests.rigs.sound import speech

SECOND = TICK_RATE_HZ
SPEECH: Mono = speech(11.2)[:, 0] / 32_768


@dataclass
class Heard:
    """What was captured, and what was received of it from `begin` on."""

    sound: Mono
    begin: int
    live: Mono
    lost: list[Range] = field(default_factory=list)
    reads: int = 0

    def received(self, position: int, length: int) -> tuple[Mono, Mono]:
        self.reads += 1
        mask = np.ones(len(self.live))
        for item in self.lost:
            mask[item.start : item.end] = 0
        return self.live[position : position + length], mask[position : position + length]

    def captured(self, ticks: int, length: int) -> Mono:
        found = np.zeros(length)
        start, end = max(0, ticks), min(len(self.sound), ticks + length)
        if end > start:
            found[start - ticks : end - ticks] = self.sound[start:end]
        return found

    @property
    def known(self) -> RangeSet:
        return RangeSet([Range(0, len(self.sound))])

    def run(self, error: int) -> TimedRun:
        """Return the run, whose estimate is too late by `error`."""
        return TimedRun(0, 0, len(self.live), self.begin + error, ABOUT)


def heard(sound: Mono, begin: int, length: int, *, noise: float = 0.3, seed: int = 1) -> Heard:
    """Receive sound as a codec brings it: with noise that is as loud where the sound is loud."""
    live = sound[begin : begin + length].copy()
    loudness = np.sqrt(np.convolve(live**2, np.full(960, 1 / 960), "same"))
    live += np.random.default_rng(seed).normal(0, 1, len(live)) * loudness * noise
    return Heard(sound, begin, live)


def hiss(seconds: float, seed: int = 0) -> Mono:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * SECOND))


@pytest.mark.parametrize("sound", [SPEECH, hiss(11)], ids=["speech", "noise"])
@pytest.mark.parametrize("error", [0, 1, -7, 14_400, -14_400, 100_003])
def test_sound_is_found_to_the_sample(sound: Mono, error: int) -> None:
    case = heard(sound, 3 * SECOND, 5 * SECOND)
    found = align(case.run(error), case.known, case)
    assert found is not None
    assert abs(found.shift + error) <= 1
    assert found.residual <= 1
    assert found.correlation > 0.5
    assert 3 <= found.windows <= MAX_WINDOWS


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 4 * SECOND),
    st.integers(2 * SECOND, 6 * SECOND),
    st.integers(-ABOUT + SECOND // 10, ABOUT - SECOND // 10),
    st.integers(0, 2**16),
)
def test_what_is_found_is_true(begin: int, length: int, error: int, seed: int) -> None:
    sound = SPEECH + hiss(11.2, seed)[: len(SPEECH)] * 0.05
    case = heard(sound, begin, length, seed=seed)
    found = align(case.run(error), case.known, case)
    assert found is not None
    assert abs(found.shift + error) <= 1


def test_every_fifth_packet_may_be_lost() -> None:
    case = heard(SPEECH, 2 * SECOND, 6 * SECOND)
    chance = np.random.default_rng(3)
    case.lost = [Range(at, 960) for at in range(0, 6 * SECOND, 960) if chance.random() < 0.2]
    for item in case.lost:  # what the decoder has made up there is another sound
        case.live[item.start : item.end] = chance.normal(0, 0.2, 960)
    found = align(case.run(9600), case.known, case)
    assert found is not None
    assert abs(found.shift + 9600) <= 1


def test_only_a_part_of_what_was_captured_may_be_known() -> None:
    """So it is where only lost sound is asked for."""
    case = heard(SPEECH, 0, 11 * SECOND)
    known = RangeSet([Range(4 * SECOND, 5 * SECOND)])
    case.sound = SPEECH.copy()
    case.sound[: 4 * SECOND] = case.sound[9 * SECOND :] = 0
    found = align(case.run(-9600), known, case)
    assert found is not None
    assert abs(found.shift - 9600) <= 1


def tones(seconds: float) -> Mono:
    time = np.arange(round(seconds * SECOND)) / SECOND
    return np.asarray(0.3 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 1200 * time))


def loop(seconds: float) -> Mono:
    return np.tile(hiss(1), round(seconds))


@pytest.mark.parametrize(
    "sound",
    [
        lambda: np.zeros(11 * SECOND),
        lambda: tones(11),
        lambda: loop(11),
        lambda: hiss(11) * 1e-5,
    ],
    ids=["silence", "tones", "a loop", "next to nothing"],
)
def test_sound_that_is_the_same_at_several_places_says_nothing(sound: Callable[[], Mono]) -> None:
    case = heard(sound(), 3 * SECOND, 5 * SECOND)
    assert align(case.run(4000), case.known, case) is None


def test_another_sound_is_not_found() -> None:
    case = heard(SPEECH, 3 * SECOND, 5 * SECOND)
    case.sound = hiss(11)
    assert align(case.run(0), case.known, case) is None
    case.sound = SPEECH[::-1].copy()
    assert align(case.run(0), case.known, case) is None


def test_sound_beyond_the_range_is_not_found_elsewhere() -> None:
    case = heard(SPEECH, 1 * SECOND, 3 * SECOND)
    assert align(case.run(6 * SECOND), case.known, case) is None


@pytest.mark.parametrize(("length", "is_found"), [(SECOND // 2, True), (SECOND // 10, False)])
def test_a_short_run_needs_to_be_clear(length: int, is_found: bool) -> None:
    case = heard(SPEECH, 4 * SECOND, length, noise=0.1)
    found = align(case.run(5000), case.known, case)
    assert (found is not None) is is_found
    if found is not None:
        assert abs(found.shift + 5000) <= 1
        assert found.windows == 1


def test_windows_that_disagree_are_stated() -> None:
    """10 samples were lost in the middle without a trace."""
    case = heard(SPEECH, SECOND, 8 * SECOND, noise=0.05)
    case.live = np.concatenate([case.live[: 4 * SECOND], case.live[4 * SECOND + 10 :]])
    found = align(case.run(100), case.known, case)
    assert found is not None
    assert -found.shift in range(89, 102)
    assert 9 <= found.residual <= 11


def test_the_work_is_bounded() -> None:
    case = heard(np.zeros(60 * SECOND), 0, 60 * SECOND)
    assert align(case.run(0), case.known, case) is None
    assert case.reads <= 3 * MAX_WINDOWS


# -- what becomes of the events ------------------------------------------------------------------


def placed(position: int, ticks: int, *, gap: int = 0, about: int | None = ABOUT) -> LedgerEvent:
    details = {"gap": gap, "ticks": ticks}
    return LedgerEvent(PLACED, position, details if about is None else details | {"about": about})


@pytest.mark.parametrize(
    ("rate_hz", "channels", "runs"), [(48_000, 2, MAX_RUNS), (48_000, 8, 12), (384_000, 8, 4)]
)
def test_of_a_spool_that_takes_more_work_fewer_runs_are_looked_for(
    rate_hz: int, channels: int, runs: int
) -> None:
    found = [TimedRun(at, at, at, 0, ABOUT) for at in range(1, 200)]
    longest = looked_for(found, AudioFormat(rate_hz, channels))
    assert [run.length for run in longest] == list(range(199, 199 - runs, -1))


def test_runs_that_are_all_at_the_same_place_are_not_divided_without_end() -> None:
    holes = [Range(second * SECOND, SECOND // 2) for second in range(100)]
    events = [
        LedgerEvent(PLACED, number * 100 * SECOND, {"gap": 0, "ticks": 0, "about": ABOUT})
        for number in range(1000)
    ]
    assert len(divided(events, holes, 100_000 * SECOND)) <= len(events) + MAX_EVENTS


def test_runs_are_between_placements_that_are_estimates() -> None:
    events = [
        placed(0, 500),
        LedgerEvent("anchor", 10, {}),
        placed(1000, 1700, gap=200),
        placed(2000, 9000, about=None),
        placed(3000, 9999, gap=5000),
    ]
    assert timed_runs(events, 4000) == [
        TimedRun(0, 0, 1000, 500, ABOUT),
        TimedRun(1000, 1200, 800, 1700, ABOUT),
    ]


def test_sound_is_placed_where_it_was_found_and_the_rest_beside_it() -> None:
    events = [
        placed(0, 500),
        placed(1000, 1700, gap=200),
        LedgerEvent("anchor", 1500, {}),
        placed(2000, 9000, about=None),
    ]
    found = realigned(
        events, {1000: Alignment(shift=30, residual=1, correlation=0.9512, windows=7)}
    )
    assert found == [
        placed(0, 530),  # 1200 samples before the sound at 1730
        LedgerEvent(ALIGNED, 0, {"shift": 30, "residual_samples": ABOUT, "windows": 0}),
        placed(1000, 1730, gap=200, about=1),
        LedgerEvent(
            ALIGNED,
            1200,
            {"shift": 30, "residual_samples": 1, "windows": 7, "correlation": 0.951},
        ),
        LedgerEvent("anchor", 1500, {}),
        placed(2000, 9000, about=None),
    ]


@pytest.mark.parametrize(("estimate", "place"), [(600_000, 600_000), (400_000, 479_970)])
def test_sound_of_another_connection_is_not_before_its_estimate(estimate: int, place: int) -> None:
    """The recording may lack time between the two; an offer may have taken long to arrive."""
    events = [placed(0, 0), placed(240_000, 239_970), placed(480_000, estimate)]
    sure = Alignment(shift=-30, residual=1, correlation=0.99, windows=7)
    found = [event for event in realigned(events, {0: sure}) if event.type == PLACED]
    assert [event.details["ticks"] for event in found] == [-30, 239_970, place]


def test_sound_behind_a_hole_is_looked_for_by_itself() -> None:
    """What is before a hole, and what is no hole worth mentioning, stays one run."""
    events = [placed(0, 48_000), placed(480_000, 600_000), LedgerEvent("anchor", 480_000, {})]
    holes = [Range(0, 40_000), Range(100_000, 20_000), Range(200_000, 4000), Range(700_000, 90_000)]
    found = divided(events, holes, 960_000)
    assert found == [
        placed(0, 48_000),
        placed(110_000 - 48_000, 110_000),
        placed(480_000, 600_000),
        LedgerEvent("anchor", 480_000, {}),
        placed(480_000 + 145_000, 745_000),
    ]
    known = [placed(0, 48_000, about=None)]
    assert divided(known, holes, 960_000) == known


def test_estimates_stay_where_nothing_was_found() -> None:
    events = [placed(0, 500), placed(1000, 1700)]
    assert [event for event in realigned(events, {}) if event.type == PLACED] == events
