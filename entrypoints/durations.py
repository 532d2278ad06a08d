"""Durations on the command line, such as 90s, 30m, 12h, 2d or 1w."""

from __future__ import annotations

import re
from typing import Any

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])")


class Duration(click.ParamType[float]):
    """Reads a duration; its value is in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            self.fail(f"{value!r} is not a duration, such as 90s, 30m, 12h, 2d or 1w", param, ctx)
        return float(found[1]) * _SECONDS[found[2]]
