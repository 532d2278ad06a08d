"""The table of docs/fidelity.md."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from benchmarks.senders.case import Case
from benchmarks.senders.run import Outcome

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "fidelity.md"
TITLE = "## Senders as they are"
HEADER = f"""{TITLE}

Scripted senders that do what devices, browsers and networks were seen to do, over real SRTP. Each
row is one recording; its sound is a tone that changes every second, so that the place of each
second is known. *Expected* follows from the script; *off* is by how much the recording is longer.
*As expected* means that the length, the kind of each sample, the place of each tone and the events
of the ledger are right, and that `gapless verify` accepts the recording: exact to the sample, or
within the tolerance.

"""
COLUMNS = (
    "sender", "expected", "tolerance", "off", "received", "silence", "DTX", "spans", "events",
    "as expected",
)  # fmt: skip


def row(outcome: Outcome) -> str:
    recorded, expected = outcome.recorded, outcome.case.expected
    off_ms = (recorded.length - outcome.truth.length) * 1000
    tolerance = expected.tolerance_s
    cells = (
        outcome.case.name,
        f"{outcome.truth.length:.2f} s",
        f"{tolerance * 1000:.0f} ms" if tolerance else "exact",
        f"{off_ms:+.1f} ms" if abs(off_ms) > 0.02 else "0",
        f"{recorded.total('received'):.2f} s",
        *(f"{recorded.total(kind):.2f} s" for kind in ("silence", "dtx")),
        str(len(recorded.spans)),
        outcome.events or "none",
        "yes" if not outcome.problems else "**NO**",
    )
    return "| " + " | ".join(cells) + " |"


def section(groups: Mapping[str, Sequence[Case]], outcomes: Mapping[str, Outcome]) -> str:
    text = HEADER
    head = "| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|\n"
    for name, cases in groups.items():
        rows = [row(outcomes[case.name]) for case in cases]
        text += f"### {name}\n\n{head}" + "\n".join(rows) + "\n\n"
    return text.rstrip() + "\n"


def write(text: str) -> None:
    """Replace the section at the end of the document, or add it."""
    before = DOCUMENT.read_text().partition(TITLE)[0]
    DOCUMENT.write_text(before.rstrip() + "\n\n" + text)
