"""Reads numbers, times and texts that were written to files, where anybody may have changed them.

What is out of bounds is not believed: then arithmetic with what is left cannot overflow.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from domain.sound.formats import AudioFormat, SampleFormat

MAX_SAMPLES = 1 << 43
"""Positions and lengths are less: 5.8 years at 48 kHz."""
MAX_TEXT = 10_000
"""Characters of a text; the longest that Gapless writes is a reason that a disk gives."""
_RATES_HZ = range(1000, 768_001)
_CHANNELS = range(1, 1025)
_YEARS = range(1970, 3000)
_SHOWN = 40


def whole(value: Any, *, least: int = 0, most: int = MAX_SAMPLES) -> int:
    """Return an integer; raise `ValueError` for any other value, and out of bounds."""
    if type(value) is not int or not least <= value <= most:  # a boolean is an integer, too
        raise ValueError(f"{shown(value)} is not a number from {least} to {most}")
    return value


def text(value: Any, *, most: int = MAX_TEXT) -> str:
    """Return a text; raise `ValueError` for any other value, and if it is too long."""
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"{shown(value)} is not a text of at most {most} characters")
    return value


def moment(value: Any) -> datetime.datetime:
    """Read a time with its offset from UTC. Raises `ValueError`."""
    found = datetime.datetime.fromisoformat(text(value, most=100))
    if found.tzinfo is None or found.year not in _YEARS:
        raise ValueError(f"{shown(value)} is not a time with an offset from UTC")
    return found


def audio_format(entry: Mapping[str, Any]) -> AudioFormat:
    """Read what `AudioFormat.as_json` has written. Raises `KeyError` or `ValueError`."""
    rate_hz, channels = entry["sample_rate_hz"], entry["channels"]
    return AudioFormat(
        whole(rate_hz, least=_RATES_HZ[0], most=_RATES_HZ[-1]),
        whole(channels, least=_CHANNELS[0], most=_CHANNELS[-1]),
        SampleFormat(entry["sample_format"]),
    )


def shown(value: Any) -> str:
    """Return a value for a message: in short, and without what controls a terminal."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…")
    return repr(value)
