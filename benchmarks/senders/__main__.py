"""Plays cases and prints how their recordings came out.

``python -m benchmarks.senders [--list] [--events] [--write] [--keep FOLDER] [CASE...]`` plays the
cases whose names contain one of the texts, or all. ``--events`` prints the events of each ledger.
``--write`` writes the table into docs/fidelity.md.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

from benchmarks.senders.cases import CASES, GROUPS
from benchmarks.senders.run import Outcome, run
from benchmarks.senders.table import section, write

MOST_EVENTS = 12


def events(outcome: Outcome) -> list[str]:
    found = outcome.recorded.events
    lines = [
        f"{event['at_s']:9.4f} s  {event['type']}: "
        + ", ".join(f"{k} {v}" for k, v in event.items() if k not in ("type", "at", "at_s"))
        for event in found[:MOST_EVENTS]
    ]
    return [*lines, f"and {len(found) - MOST_EVENTS} more"] if len(found) > MOST_EVENTS else lines


def line(outcome: Outcome, *, with_events: bool) -> str:
    recorded, truth = outcome.recorded, outcome.truth
    state = "ok  " if not outcome.problems else "FAIL"
    paced = "" if outcome.is_paced else f" (sent up to {outcome.behind_s * 1000:.0f} ms late)"
    text = (
        f"{state} {outcome.case.name:<58} {truth.length:6.2f} s → {recorded.length:9.5f} s"
        f"  {len(recorded.spans):3} spans  {outcome.events or 'no events'}{paced}"
    )
    more = events(outcome) if with_events else []
    return "\n       ".join([text, *outcome.problems, *more])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.senders")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="part of the name of a case")
    parser.add_argument("--list", action="store_true", help="only list the cases")
    parser.add_argument("--events", action="store_true", help="print the events of each ledger")
    parser.add_argument("--write", action="store_true", help="write docs/fidelity.md")
    parser.add_argument("--keep", type=pathlib.Path, metavar="FOLDER", help="keep the recordings")
    options = parser.parse_args()
    chosen = [
        case
        for name, case in CASES.items()
        if not options.cases or any(text.lower() in name.lower() for text in options.cases)
    ]
    if options.list:
        print("\n".join(case.name for case in chosen))
        return
    if options.keep:
        options.keep.mkdir(parents=True)
    began = time.monotonic()
    outcomes = run(chosen, options.keep, most_runs=3 if options.write else 1)
    for outcome in outcomes:
        print(line(outcome, with_events=options.events))
    failed = [outcome for outcome in outcomes if outcome.problems]
    print(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} as expected,"
        f" {time.monotonic() - began:.0f} s,"
        f" sent up to {max(outcome.behind_s for outcome in outcomes) * 1000:.0f} ms late"
    )
    if options.write:
        if len(chosen) < len(CASES):
            sys.exit("the table needs all cases")
        write(section(GROUPS, {outcome.case.name: outcome for outcome in outcomes}))
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
