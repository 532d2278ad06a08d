"""Keeps the log readable and small, whatever strangers do: repeated lines are counted."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from domain.session.tally import Tally

MAX_LINES = 10
MAX_TRACEBACKS = 1
"""Of one kind within a minute; further ones are counted."""
_KINDS = 100
_MAX_CHARACTERS = 200

_Kind: TypeAlias = tuple[str, int, str, str, int]
"""Where a line was logged, and the type and the origin of its exception."""
_OTHERS: _Kind = ("", 0, "", "", 0)


class LogLimit:
    """Decides which records of a log are written. It is not thread-safe.

    What matters is where a record was logged and not what it says, so that nobody makes new kinds
    by what he sends. This also applies to records of libraries.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lines: Tally[_Kind] = Tally(told=MAX_LINES, kinds=_KINDS)
        self._tracebacks: Tally[_Kind] = Tally(told=MAX_TRACEBACKS, kinds=_KINDS)
        self._examples: dict[_Kind, str] = {}

    def admit(self, record: logging.LogRecord) -> bool:
        """Return whether to write a record; if not, it is counted."""
        kind = _kind_of(record)
        tally = self._tracebacks if record.exc_info else self._lines
        is_told = tally.note(kind, instead=_OTHERS, now=self._monotonic())
        if is_told and len(self._examples) < 2 * _KINDS:
            first, *_ = record.getMessage().splitlines() or [""]
            self._examples[kind] = first[:_MAX_CHARACTERS]
        return is_told

    def end(self, *, at_once: bool = False) -> Sequence[str]:
        """Return a line for each kind of records that were counted for a minute.

        Call it before `admit`, and after `wait_s`.
        """
        now = math.inf if at_once else self._monotonic()
        over = [*self._lines.end(now=now), *self._tracebacks.end(now=now)]
        found = [f"{count} more of: {self._examples.get(kind, 'others')}" for kind, count in over]
        if self._next_end is None:
            self._examples.clear()
        return found

    @property
    def wait_s(self) -> float | None:
        """When to call `end` next; None if there is nothing to tell."""
        return None if self._next_end is None else max(0.0, self._next_end - self._monotonic())

    @property
    def _next_end(self) -> float | None:
        ends = (self._lines.next_end, self._tracebacks.next_end)
        return min((end for end in ends if end is not None), default=None)


def _kind_of(record: logging.LogRecord) -> _Kind:
    where = (record.pathname, record.lineno)
    if not record.exc_info or record.exc_info[0] is None:
        return (*where, "", "", 0)
    raised, _, traceback = record.exc_info
    if traceback is None:
        return (*where, raised.__qualname__, "", 0)
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    origin = traceback.tb_frame.f_code.co_filename
    return (*where, raised.__qualname__, origin, traceback.tb_lineno)
