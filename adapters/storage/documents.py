"""Parses JSON from files that anybody may have changed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

MAX_LEDGER_BYTES = 64 << 20
"""A larger ledger is not one of Gapless: a day that lost every tenth packet needs half of it."""
_MAX_CONTAINERS = 2_000_000
"""Objects and lists of one document: each takes some hundred bytes of memory."""
MAX_LINE_BYTES = 16 << 20
"""The longest line is what is held of a spool, when it was written anew."""
_MAX_DAMAGED = 1000
_MAX_DIGITS = 18
"""Numbers with more digits do not fit into 64 bits, and Gapless writes none."""


def parse(data: bytes) -> Any:
    """Return what a document holds. Raises `ValueError` for everything that cannot be read.

    So does a number that is infinite, or an integer that does not fit into 64 bits.
    """
    if data.count(b"{") + data.count(b"[") > _MAX_CONTAINERS:
        raise ValueError("it has too many objects and lists")
    try:
        return _DECODER.decode(data.decode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_lines(data: bytes, read: Callable[[Any], None]) -> None:
    """Call `read` for what each line of a journal holds.

    Lines that are cut off or damaged are left out, and so are those for which `read` raises an
    error. A journal has few of them: where there are many, what follows is not read.
    """
    start = damaged = 0
    while start < len(data) and damaged < _MAX_DAMAGED:
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        try:
            if end - start > MAX_LINE_BYTES:
                raise ValueError("it is too long")
            read(parse(data[start:end]))
        except Exception:  # a damaged line can raise anything, and costs only itself
            damaged += 1
        start = end + 1


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError("it has a number that is too large")
    return int(digits)


def _real(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("it has a number that is too large")
    return number


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_real, parse_constant=_constant)
