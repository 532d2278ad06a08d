"""`verify` compares a recording with the wall clock: no false alarm, and no missing time missed."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from domain.recording.effects import Effect, EndReason, Noted
from domain.recording.ledger import LedgerEvent, SampleKind, timestamp
from domain.recording.reconstruction import Run
from domain.recording.recording import Recording
from domain.recording.wall_clock import WallClock, compare_with_wall_clock
from domain.sound.formats import AudioFormat

RATE = 48_000
BEGIN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def at(seconds: float) -> str:
    return timestamp(BEGIN + datetime.timedelta(seconds=seconds))


def anchor(position_s: float, arrived_s: float) -> dict[str, Any]:
    return {"type": "anchor", "position": round(position_s * RATE), "at": at(arrived_s)}


def compare(*events: dict[str, Any]) -> WallClock | None:
    return compare_with_wall_clock({"sample_rate_hz": RATE, "events": list(events)})


def problem(*events: dict[str, Any]) -> str | None:
    found = compare(*events)
    assert found is not None
    return found.problem


RESTARTED = {"type": "process restarted", "position": 0, "at": at(0)}


def test_one_anchor_tells_nothing() -> None:
    assert compare(anchor(0, 0)) is None
    assert compare(anchor(0, 0), RESTARTED) is None


@pytest.mark.parametrize(("recorded_s", "word"), [(57.0, "shorter"), (63.0, "longer")])
def test_time_that_nothing_explains_is_told(recorded_s: float, word: str) -> None:
    found = problem(anchor(0, 0), anchor(recorded_s, 60))
    assert found is not None
    assert f"3.000 s {word}" in found
    assert problem(anchor(0, 0), anchor(60, 60)) is None


def test_of_the_first_packets_the_least_delayed_counts() -> None:
    assert problem(anchor(0, 2.0), anchor(3.0, 3.0), anchor(60, 60)) is None
    assert problem(anchor(0, 2.0), anchor(3.0, 3.0), anchor(57, 60)) is not None
    # what is too long later is no delay of the first packets
    assert problem(anchor(0, 0), anchor(20, 17), anchor(60, 57)) is not None


def test_a_clock_that_was_set_back_between_two_processes_is_no_fault() -> None:
    before, after = (anchor(0, 0), anchor(60, 60)), (anchor(65, -3535), anchor(125, -3475))
    assert problem(*before, RESTARTED, *after) is None
    assert problem(*before, RESTARTED, *after, anchor(180, -3415)) is not None


def test_time_that_is_missing_between_two_processes_is_told() -> None:
    found = problem(anchor(0, 0), anchor(60, 60), RESTARTED, anchor(60, 68), anchor(120, 128))
    assert found is not None
    assert "8.000 s shorter" in found


def test_the_skew_of_a_clock_explains_the_time_between_two_processes() -> None:
    skewed = {"type": "clock", "position": 0, "at": at(0), "skew_ppm": -50_000.0}
    assert problem(
        anchor(0, 0), anchor(57, 60), RESTARTED, anchor(76, 80), anchor(133, 140), skewed
    ) is None  # fmt: skip


def aligned(position_s: float, about_s: float) -> dict[str, Any]:
    windows = 0 if about_s > 1 else 3
    details = {"shift": 0, "residual_samples": round(about_s * RATE), "windows": windows}
    return {"type": "aligned", "position": round(position_s * RATE), "at": at(0), **details}


def test_what_was_placed_by_an_estimate_proves_nothing_within_it() -> None:
    """Of a page's recording, whose sound could not be found in what it captured."""
    guessed, known = aligned(0, 3.0), aligned(20, 0.0)
    assert problem(guessed, anchor(0.8, 0), anchor(60, 60)) is None
    assert problem(guessed, anchor(0.8, 0), known, anchor(60, 60)) is None
    found = problem(guessed, anchor(0.8, 0), known, anchor(50, 60))
    assert found is not None
    assert "10.800 s shorter" in found
    assert problem(aligned(0, 0.001), anchor(0.8, 0), anchor(60, 60)) is not None


def test_places_that_are_known_count_if_there_are_enough() -> None:
    known, guessed = aligned(0, 0.0), aligned(130, 3.0)
    right = (known, anchor(0, 0), anchor(60, 60), anchor(120, 120), guessed, anchor(130, 130.8))
    assert problem(*right) is None
    short = (known, anchor(0, 0), anchor(60, 60), anchor(119, 120), guessed, anchor(129, 130))
    found = problem(*short)
    assert found is not None
    assert "1.000 s shorter" in found


def noted(effects: list[Effect]) -> list[dict[str, Any]]:
    return [
        LedgerEvent(
            item.event.type, item.event.position, {**item.event.details, "at": at(item.arrived)}
        ).as_json()
        for item in effects
        if isinstance(item, Noted)
    ]


def recorded(arrived: Callable[[float], float]) -> list[dict[str, Any]]:
    """The events of 20 seconds; `arrived` says when a packet captured at a time arrives."""
    recording = Recording(max_gap_s=60)
    recording.open(AudioFormat(RATE, 1), clock_rate_hz=RATE)
    recording.change_source(7)
    silence = np.zeros((960, 1), "<i2")
    effects: list[Effect] = []
    for n in range(1000):
        at_s = arrived(n * 0.02)
        received = SampleKind.RECEIVED
        run = Run(n * 960, [silence], 960, received, received, at_s, at_s)
        effects += recording.add(run)
    effects += recording.anchor() + recording.end(EndReason.CLOSED, now=20.0)
    return noted(effects)


@pytest.mark.parametrize("delay_s", [0.0, 0.3, 1.9])
@pytest.mark.parametrize("pace", [1.2, 3.0, 100.0])
def test_a_recording_whose_first_packets_came_late_is_sound(delay_s: float, pace: float) -> None:
    events = recorded(lambda at: max(at, delay_s + at / pace))
    assert problem(*events) is None
    assert sum(event["type"] == "anchor" for event in events) <= 12


@pytest.mark.parametrize("delay_s", [0.3, 0.9, 4.0])
@pytest.mark.parametrize("pace", [1.3, 3.0])
def test_a_recording_whose_last_packets_came_late_is_sound(delay_s: float, pace: float) -> None:
    # they are held, and still late when the session ends
    events = recorded(lambda at: max(at, 19.0 + delay_s + (at - 19.0) / pace if at > 19 else at))
    assert problem(*events) is None
    assert not [event for event in events if event["type"] == "stall"]


@pytest.mark.parametrize("delay_s", ["late", None, float("nan"), 1e300])
def test_a_delay_that_cannot_be_read_is_no_anchor(delay_s: Any) -> None:
    assert compare(anchor(0, 0), {**anchor(60, 60), "delay_s": delay_s}) is None
