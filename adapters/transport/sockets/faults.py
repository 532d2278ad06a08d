"""Tells of faults that datagrams cause, so that nobody can fill a log with them.

The log counts what repeats, too, but a flood must not even make a record for each datagram.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

TELL_S = 60.0
"""The shortest time between two reports of one kind of fault."""
MAX_KINDS = 64
_Kind: TypeAlias = tuple[type[BaseException], str, int]


class Faults:
    """Passes one exception of a kind a minute on to the event loop's handler, with a count.

    Exceptions are of one kind if the same line of code has raised them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._told: dict[_Kind, float] = {}  # when the latest one was told
        self._untold: dict[_Kind, int] = {}

    def tell(self, error: Exception) -> None:
        """Tell of an exception now, or of its number later."""
        kind, now = _kind_of(error), self._loop.time()
        if now < self._told.get(kind, float("-inf")) + TELL_S:
            self._untold[kind] = self._untold.get(kind, 0) + 1
            return
        if kind not in self._told and len(self._told) >= MAX_KINDS:
            return
        self._told[kind] = now
        more = self._untold.pop(kind, 0)
        message = "a datagram could not be processed"
        if more:
            message += f", nor could {more} before it"
        self._loop.call_exception_handler({"message": message, "exception": error})


def _kind_of(error: Exception) -> _Kind:
    traceback, where, line = error.__traceback__, "", 0
    while traceback is not None:
        where, line = traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next
    return type(error), where, line
