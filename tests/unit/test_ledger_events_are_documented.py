"""docs/ledger.md lists the types of events that ledgers have: all of them, and no others."""

from __future__ import annotations

import pathlib
import re

from domain.recording.alignment import ALIGNED
from domain.recording.ledger import LEFT_OUT, SampleKind
from domain.recording.restoring import PLACED

ROOT = pathlib.Path(__file__).parents[2]
MADE = re.compile(
    r"""LedgerEvent\(\s*"([a-z ]+)"|\.note\(\s*"([a-z ]+)"|\["((?:journal|header) \w+)"\]"""
)
ROW = re.compile(r"^\| `([a-z ]+)` \|", re.MULTILINE)


def documented(heading: str) -> set[str]:
    text = (ROOT / "docs/ledger.md").read_text(encoding="utf-8")
    return set(ROW.findall(text.partition(heading)[2].partition("\n## ")[0]))


def test_all_types_of_events_are_documented() -> None:
    made = {ALIGNED, LEFT_OUT, PLACED} | {
        next(filter(None, match.groups()))
        for package in ("domain", "adapters")
        for path in (ROOT / package).rglob("*.py")
        for match in MADE.finditer(path.read_text(encoding="utf-8"))
    }
    assert documented("## Events") == made


def test_all_kinds_of_samples_are_documented() -> None:
    assert documented("The kinds of samples:") == {kind.value for kind in SampleKind}
