"""Test the tests: mutate the code, run the tests, print the score and the surviving mutants."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence

from tests.mutants.equivalents import describe, read_equivalents
from tests.mutants.judging import Judge, prepare
from tests.mutants.modules import JUDGES
from tests.mutants.mutation import Mutant, sample

_POLL_S = 0.02


def main() -> int:
    arguments = _arguments()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads do not survive a fork
    prepare()
    equivalents = read_equivalents()
    killed_of_all = judged_of_all = 0
    for module, tests in JUDGES.items():
        if arguments.only and arguments.only not in module:
            continue
        mutants = sample(module, count=arguments.sample or None, seed=arguments.seed)
        judged = [mutant for mutant in mutants if mutant.key not in equivalents]
        started_at = time.monotonic()
        survivors = _survivors(module, tests, judged, processes=arguments.processes)
        killed = len(judged) - len(survivors)
        killed_of_all, judged_of_all = killed_of_all + killed, judged_of_all + len(judged)
        print(
            f"{module}: {_score(killed, len(judged))}, {killed} of {len(judged)} killed, "
            f"{len(mutants) - len(judged)} equivalent, {time.monotonic() - started_at:.0f} s",
            flush=True,
        )
        for survivor in sorted(survivors, key=lambda mutant: mutant.line):
            print(f"\n# line {survivor.line}\n{describe(survivor)}", flush=True)
        if survivors:
            print(flush=True)
    print(f"mutation score: {_score(killed_of_all, judged_of_all)}, at least {arguments.least} %")
    return 0 if 100 * killed_of_all >= arguments.least * judged_of_all else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=120, help="mutants per module; 0 takes all")
    parser.add_argument("--seed", type=int, default=1, help="selects the sample")
    parser.add_argument(
        "--least", type=float, default=85, help="the score that is required, in percent"
    )
    parser.add_argument("--only", help="only modules with this text in their path")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="test runs in parallel"
    )
    return parser.parse_args()


def _survivors(
    module: str, tests: Sequence[str], mutants: Sequence[Mutant], *, processes: int
) -> list[Mutant]:
    original = Judge(module, None, tests, timeout_s=300)
    while (failed := original.is_killed()) is None:
        time.sleep(_POLL_S)
    if failed:
        sys.exit(f"the tests of {module} fail without a mutation:\n{original.output()}")
    timeout_s = 10 + 5 * original.took_s
    survivors: list[Mutant] = []
    waiting: Iterator[Mutant] = iter(mutants)
    judges: list[tuple[Mutant, Judge]] = []
    while True:
        while len(judges) < processes and (mutant := next(waiting, None)) is not None:
            judges.append((mutant, Judge(module, mutant.source, tests, timeout_s=timeout_s)))
        if not judges:
            return survivors
        time.sleep(_POLL_S)
        for mutant, judge in list(judges):
            if (killed := judge.is_killed()) is not None:
                judges.remove((mutant, judge))
                if not killed:
                    survivors.append(mutant)


def _score(killed: int, judged: int) -> str:
    return f"{100 * killed / judged:.1f} %" if judged else "no mutants"


if __name__ == "__main__":
    sys.exit(main())
