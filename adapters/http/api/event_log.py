"""The latest events of one process, and positions in the events of several.

Each process counts its own events, from 1, and has a name of its own, its epoch, which is new each
time that it starts. A position has a number for each epoch that a client has heard of, as
``EPOCH-NUMBER.EPOCH-NUMBER``. So any process can tell which events of which process a client has,
and that a process is gone whose events nobody has any more.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KEPT = 1000
KEPT_S = 300.0
"""Events that are kept for whoever resumes: so many, and for so long."""
MAX_EPOCHS = 1000
_STEP = re.compile(r"([0-9a-f]{8})-(\d{1,15})")


@dataclass(frozen=True, slots=True)
class Logged:
    """An event that is kept."""

    epoch: str
    number: int
    type: str
    session: str | None
    data: str
    """JSON."""
    at: float
    """UTC, seconds since 1970: orders the events of several processes."""


class EventLog:
    """The latest events of this process."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.number = 0
        """Of the latest event."""
        self._kept: deque[Logged] = deque(maxlen=KEPT)

    def add(self, type_: str, session: str | None, data: str, *, at: float) -> Logged:
        """Number an event and keep it; its JSON gets the number as `id`."""
        self.number += 1
        numbered = f'{{"id":"{self.epoch}-{self.number}",{data[1:]}'
        logged = Logged(self.epoch, self.number, type_, session, numbered, at)
        self._kept.append(logged)
        return logged

    def after(self, number: int | None, *, now: float) -> tuple[bool, Sequence[Logged]]:
        """Return whether events behind `number` are kept no more, and those that are.

        Without a number, all of them are new. `now` is UTC as in `Logged`.
        """
        while self._kept and now - self._kept[0].at > KEPT_S:
            self._kept.popleft()
        first = self.number - len(self._kept) + 1
        known = 0 if number is None else number
        if known > self.number:  # it comes from nowhere
            return True, tuple(self._kept)
        return known < first - 1, [item for item in self._kept if item.number > known]


def parse_position(text: str) -> dict[str, int] | None:
    """Read a position from the id of an event; return None if it is none."""
    steps = text.split(".", MAX_EPOCHS)
    found = [_STEP.fullmatch(step) for step in steps[:MAX_EPOCHS]]
    if len(steps) > MAX_EPOCHS or not all(found):
        return None
    return {match[1]: int(match[2]) for match in found if match}


def format_position(position: Mapping[str, int]) -> str:
    return ".".join(f"{epoch}-{number}" for epoch, number in position.items())
