"""A case: what a sender does, and what must be recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.senders.expected import Expected
from benchmarks.senders.player import Negotiated, Offered
from benchmarks.senders.script import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    script: Callable[[Negotiated], Sequence[Item]]
    """What is sent, which may depend on what was negotiated."""
    expected: Expected
    offered: Offered = field(default_factory=Offered)


def case(
    name: str, items: Sequence[Item], expected: Expected, *, offered: Offered | None = None
) -> Case:
    """A case that sends the same whatever the server answers."""
    return Case(
        name=name, script=lambda _answer: items, expected=expected, offered=offered or Offered()
    )
