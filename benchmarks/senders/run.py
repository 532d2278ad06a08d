"""Runs cases at the same time against one server, and compares what was recorded."""

from __future__ import annotations

import asyncio
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.senders.case import Case
from benchmarks.senders.expected import Truth, differences, named_events, truth_of
from benchmarks.senders.player import Sender, play
from benchmarks.senders.recorded import Recorded, read_session
from tests.rigs.priority import ahead_of_others
from tests.rigs.processes import environment, serving

_COMPLETE_S = 20.0
TOO_LATE_S = 0.03
"""A sender that is held up this long by its machine is not the sender of the script any more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    case: Case
    truth: Truth
    recorded: Recorded
    behind_s: float
    """The longest time by which something was sent too late."""
    problems: tuple[str, ...]
    """Everything that is not as it must be."""

    @property
    def is_paced(self) -> bool:
        """Whether this machine sent in time, so that the outcome says something."""
        return self.behind_s <= TOO_LATE_S

    @property
    def events(self) -> str:
        counts = named_events(self.recorded)
        return ", ".join(f"{name} {count}" for name, count in counts.items())


def run(
    cases: Sequence[Case], folder: pathlib.Path | None = None, *, most_runs: int = 3
) -> list[Outcome]:
    """Play the cases, and return their outcomes in the same order.

    Cases that failed while this machine sent too late are played again, up to `most_runs` times
    altogether. `folder` is where the recordings are kept.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as name:
            return run(cases, pathlib.Path(name), most_runs=most_runs)
    outcomes = {case.name: outcome for case, outcome in _play(cases, folder / "1")}
    for number in range(2, most_runs + 1):
        again = [
            outcome.case
            for outcome in outcomes.values()
            if outcome.problems and not outcome.is_paced
        ]
        if again:
            outcomes |= {case.name: found for case, found in _play(again, folder / str(number))}
    return [outcomes[case.name] for case in cases]


def _play(cases: Sequence[Case], folder: pathlib.Path) -> Iterator[tuple[Case, Outcome]]:
    folder.mkdir()
    senders = [Sender(case.name, case.offered, case.script) for case in cases]
    with ahead_of_others(), serving(folder, "--max-sessions", str(len(cases) + 10)) as server:
        asyncio.run(play(server.url, senders))
        _wait_for(folder, senders)
    verdicts = _verify(folder)
    for case, sender in zip(cases, senders, strict=True):
        recorded, truth = read_session(folder, sender.session), truth_of(sender.items)
        problems = [*sender.problems, *differences(recorded, truth, case.expected)]
        for file in recorded.files:
            problems += [f"verify: {problem}" for problem in verdicts[str(file)]]
        yield case, Outcome(case, truth, recorded, sender.behind_s, tuple(problems))


def _wait_for(folder: pathlib.Path, senders: Sequence[Sender]) -> None:
    """Wait until the recordings of all senders are complete."""
    deadline = time.monotonic() + _COMPLETE_S
    waiting = {sender.session for sender in senders}
    while waiting and time.monotonic() < deadline:
        names = [path.name for path in folder.iterdir()]
        begun = {s for s in waiting if any(s in name and name.endswith(".part") for name in names)}
        done = {s for s in waiting if any(s in name and name.endswith(".json") for name in names)}
        waiting -= done - begun
        time.sleep(0.1)


def _verify(folder: pathlib.Path) -> dict[str, list[str]]:
    """What `gapless verify` says is wrong with each file."""
    files = sorted(map(str, folder.glob("*.wav")))
    if not files:
        return {}
    done = subprocess.run(
        [sys.executable, "-m", "entrypoints", "verify", "--json", *files],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    verdicts = map(json.loads, done.stdout.splitlines())
    return {verdict["file"]: verdict["problems"] for verdict in verdicts}
