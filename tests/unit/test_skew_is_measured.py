"""How fast a sender's clock runs: the earliest packets of each window lie on a line."""

from __future__ import annotations

import random

import pytest

from domain.recording.clock import SkewEstimator


def observe(
    estimator: SkewEstimator,
    seconds: float,
    *,
    ppm: float = 0.0,
    media_s: float = 0.0,
    at: float = 0.0,
    step_s: float = 0.25,
    delay_s: float = 0.0,
    punctual: int = 1,
) -> None:
    """A steady stream; all but every `punctual`th packet come late by `delay_s`."""
    for n in range(round(seconds / step_s)):
        late = delay_s * (1 + n / 100) if n % punctual else 0.0  # later and later
        arrived = n * step_s
        estimator.observe(
            media_s=media_s + arrived * (1 + ppm * 1e-6), arrived_s=at + arrived + late
        )


@pytest.mark.parametrize("ppm", [-300.0, -1.0, 0.0, 25.0, 300.0])
@pytest.mark.parametrize(("media_s", "at"), [(0.0, 0.0), (5000.0, 123.0)])
def test_a_steady_stream_has_the_skew_of_its_clock(ppm: float, media_s: float, at: float) -> None:
    estimator = SkewEstimator()
    observe(estimator, 120, ppm=ppm, media_s=media_s, at=at)
    assert estimator.ppm == pytest.approx(ppm, abs=1e-4)


@pytest.mark.parametrize(("media_s", "at"), [(0.0, 0.0), (5000.0, 123.0)])
def test_it_takes_ten_seconds(media_s: float, at: float) -> None:
    estimator = SkewEstimator()
    observe(estimator, 10, media_s=media_s, at=at)
    assert estimator.ppm is None
    estimator.observe(media_s=media_s + 10.0, arrived_s=at + 10.0)
    assert estimator.ppm == pytest.approx(0.0, abs=1e-6)


def test_the_first_estimate_is_replaced_by_one_of_longer_windows() -> None:
    estimator = SkewEstimator()
    for n in range(121):
        # every twentieth packet is punctual: one in each five seconds
        late = 0.0 if n % 20 == 0 else 0.3 + 0.002 * n
        if n == 120:
            assert abs(estimator.ppm or 0.0) > 500
        estimator.observe(media_s=n * 0.25 - late, arrived_s=n * 0.25)
    assert estimator.ppm == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("ppm", [-81_000.0, -2000.0, 2000.0, 10_000.0])
def test_a_clock_that_is_wrong_is_known_after_ten_seconds(ppm: float) -> None:
    estimator = SkewEstimator()
    observe(estimator, 10, ppm=ppm, delay_s=0.01, punctual=3)
    assert not estimator.is_wrong
    estimator.observe(media_s=10.0 * (1 + ppm * 1e-6), arrived_s=10.0)
    assert estimator.is_wrong
    assert estimator.ppm == pytest.approx(ppm, rel=0.01)


@pytest.mark.parametrize("ppm", [-900.0, 0.0, 900.0])
def test_a_clock_of_a_sound_card_is_not_wrong(ppm: float) -> None:
    estimator = SkewEstimator()
    observe(estimator, 100, ppm=ppm, delay_s=0.01, punctual=3)
    assert not estimator.is_wrong


def test_jitter_is_no_wrong_clock() -> None:
    rng = random.Random(1)
    for _ in range(200):
        estimator = SkewEstimator()
        for n in range(50 * 40):
            late = rng.random() * 0.3
            estimator.observe(media_s=n * 0.02, arrived_s=n * 0.02 + late)
            assert not estimator.is_wrong


def test_packets_that_are_late_make_no_difference_beside_one_that_is_not() -> None:
    estimator = SkewEstimator()
    observe(estimator, 300, ppm=50, delay_s=0.4, punctual=20)  # one in five seconds
    assert estimator.ppm == pytest.approx(50, abs=0.01)


def test_the_earliest_packet_counts_wherever_it_is_in_its_window() -> None:
    estimator = SkewEstimator()
    for n in range(400):
        # in each window another packet is the punctual one
        late = 0.0 if n % 20 == (n // 20 * 7) % 20 else 0.3
        arrived = n * 0.25
        estimator.observe(media_s=arrived * (1 + 80e-6) - late, arrived_s=arrived)
    assert estimator.ppm == pytest.approx(80, abs=0.01)


def test_a_packet_of_an_earlier_window_begins_no_new_window() -> None:
    estimator = SkewEstimator()
    for n in range(5):
        estimator.observe(media_s=n * 5.0, arrived_s=n * 5.0)
        if n:
            estimator.observe(media_s=n * 5.0 - 0.1, arrived_s=n * 5.0 - 0.1)
    assert estimator.ppm is None


def test_after_a_break_nothing_of_before_counts() -> None:
    estimator = SkewEstimator()
    observe(estimator, 100, ppm=-150, media_s=7, at=3)
    estimator.reset()
    assert estimator.ppm is None
    observe(estimator, 10, ppm=200, media_s=9000, at=250)
    assert estimator.ppm is None
    estimator.reset()
    observe(estimator, 100, ppm=200, media_s=11, at=300)
    assert estimator.ppm == pytest.approx(200, abs=0.01)
