"""Sessions come and go over a lossy network while an attacker plays all that it knows."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest

from tests.soak.__main__ import TRACEBACK, Figures, Plan, soak
from tests.soak.attacker import ATTACKS
from tests.soak.visitors import Outcomes, Visitor
from tests.soak.watching import Sample, Watch, kinds_of_lines

MINUTES = float(os.environ.get("MINUTES", "120"))
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "security.md"


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(minutes=0.5, sessions=6, longest_s=10, lasts_s=1.0), id="short"),
        pytest.param(
            Plan(minutes=MINUTES),
            marks=[pytest.mark.soak, pytest.mark.timeout(60 * MINUTES + 600)],
            id="long",
        ),
    ],
)
async def test_every_recording_is_whole_and_nothing_grows(
    tmp_path: pathlib.Path, plan: Plan
) -> None:
    figures = await soak(plan, tmp_path)
    print(figures)
    assert figures.broken_bounds() == [], str(figures)
    assert len(figures.attacks) > 5  # twenty, where nothing else runs


def test_the_page_names_every_attack() -> None:
    named = PAGE.read_text().partition("## The soak")[2]
    for name in ATTACKS:
        assert f"| {name} |" in named


# -- the judge itself ------------------------------------------------------------------------------


def figures(folder: pathlib.Path, *, log: str = "", **slopes: float) -> Figures:
    """Figures of a run of 1,000 seconds, in which some values grow by so much a second."""
    watch = Watch(1, folder / "log", folder)
    for second in range(1000):
        held = {"memory_mb": 100.0, "descriptors": 50.0, "log_bytes": 0.0}
        grown = {name: start + slopes.get(name, 0.0) * second for name, start in held.items()}
        watch.samples.append(
            Sample(
                float(second), grown["memory_mb"], int(grown["descriptors"]), 5,
                int(grown["log_bytes"]), 0.0, 0.0,
            )
        )  # fmt: skip
    return Figures(Outcomes(whole=1), watch, [], None, log)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("loss", "problem"),
    [
        (0.3, "missing that the network has delivered"),  # as its log pretends
        (0.0, "likeness"),
    ],
)
async def test_recordings_that_are_not_whole_are_found(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, loss: float, problem: str
) -> None:
    monkeypatch.setattr("tests.soak.visitors.MAX_LATE_S", float("inf"))
    if loss:
        monkeypatch.setattr(Visitor, "_requested", lambda *_: None)
        monkeypatch.setattr(Visitor, "_lost_by_network", lambda _: 0)
    else:
        source = Visitor.source
        monkeypatch.setattr(Visitor, "source", lambda self: np.roll(source(self), 24_000))
    plan = Plan(minutes=0.05, sessions=2, longest_s=4, loss=loss, attacked=False)
    judged = await soak(plan, tmp_path)
    assert judged.outcomes.broken
    assert all(problem in broken for broken in judged.outcomes.broken)


def test_what_is_flat_breaks_no_bound(tmp_path: pathlib.Path) -> None:
    assert figures(tmp_path).broken_bounds() == []


@pytest.mark.parametrize(
    ("name", "slope"), [("memory_mb", 1.0), ("descriptors", 2.0), ("log_bytes", 2000.0)]
)
def test_what_grows_breaks_a_bound(tmp_path: pathlib.Path, name: str, slope: float) -> None:
    (broken,) = figures(tmp_path, **{name: slope}).broken_bounds()
    assert "grew by" in broken


def test_a_traceback_breaks_a_bound(tmp_path: pathlib.Path) -> None:
    (broken,) = figures(tmp_path, log=TRACEBACK + " call last):\n").broken_bounds()
    assert "traceback" in broken


def test_a_broken_recording_and_a_server_that_ended_break_bounds(tmp_path: pathlib.Path) -> None:
    judged = figures(tmp_path)
    judged.outcomes.broken.append("0.06 s missing that the network has delivered")
    judged.exit_code = -9
    assert len(judged.broken_bounds()) == 2
    assert "0.06 s missing" not in judged.broken_bounds()  # listed once, with how often
    assert "1 x N.N s missing that the network has delivered" in str(judged)


def test_lines_that_differ_in_numbers_are_one_kind() -> None:
    kinds = kinds_of_lines("session 8f3a ended: 3 s\nsession 001b ended: 44 s\nanother")
    assert sorted(kinds.values()) == [1, 2]
