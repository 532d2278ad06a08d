"""Tables in Markdown."""

from __future__ import annotations


def row(*cells: object) -> str:
    """Return one line of a table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |\n"


def heading(*names: str) -> str:
    """Return the first two lines of a table."""
    return row(*names) + row(*["---"] * len(names))
