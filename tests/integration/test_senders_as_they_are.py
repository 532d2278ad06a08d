"""Senders that stall, count wrong or come over bad networks are recorded as they were.

The cases are those of `benchmarks.senders`. All that were selected play at the same time, once.
"""

from __future__ import annotations

import pytest

from benchmarks.senders.cases import CASES
from benchmarks.senders.run import Outcome, run

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    selected = [
        CASES[item.callspec.params["name"]]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    ]
    found = run(selected, tmp_path_factory.mktemp("senders"))
    return {outcome.case.name: outcome for outcome in found}


@pytest.mark.parametrize("name", CASES)
def test_recording_is_what_was_sent(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    assert not outcome.problems, "; ".join(outcome.problems)
