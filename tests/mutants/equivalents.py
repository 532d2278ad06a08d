"""Equivalent mutants: they behave like the original code, so no test can fail.

`equivalents.txt` holds one block for each, as `make mutants` prints survivors, with the reason:

    domain/rtp/order.py  ReorderBuffer.poll
    - the original line
    + the mutated line
    Why they behave alike.
"""

from __future__ import annotations

from pathlib import Path

from tests.mutants.mutation import Mutant

FILE = Path(__file__).with_suffix(".txt")


def read_equivalents() -> dict[tuple[str, ...], str]:
    """The reasons by `Mutant.key`."""
    reasons: dict[tuple[str, ...], str] = {}
    for block in FILE.read_text().strip().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        if not lines:
            continue
        head, before, after, *reason = lines
        module, _, where = head.partition("  ")
        assert before[0] == "-" and after[0] == "+" and reason, f"not a mutant: {block}"
        before, after = (" ".join(line[1:].split()) for line in (before, after))
        reasons[module, where, before, after] = " ".join(reason)
    return reasons


def describe(mutant: Mutant) -> str:
    """A mutant as the file describes it, without a reason."""
    lines = f"{mutant.module}  {mutant.where}", f"- {mutant.before}", f"+ {mutant.after}"
    return "\n".join(map(str.rstrip, lines))
