"""Cursors: positions in a list of recordings that is sorted by time and name."""

from __future__ import annotations

import base64
import binascii
import datetime

from domain.errors import QueryInvalid

_MOST_MS = 2**53
"""More than any date has; an index takes 64 bits."""


def milliseconds(moment: datetime.datetime) -> int:
    """Return the milliseconds since 1970, rounded down as in the names of recordings."""
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return since // datetime.timedelta(milliseconds=1)


def write_cursor(started_ms: int, name: str) -> str:
    """Make the cursor of the page that follows a recording."""
    return base64.urlsafe_b64encode(f"{started_ms} {name}".encode()).decode()


def read_cursor(cursor: str) -> tuple[int, str]:
    """Return time and name of a cursor's recording. Raises `QueryInvalid`."""
    try:
        text, name = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ", 1)
        started_ms = int(text)
    except (ValueError, binascii.Error) as error:
        raise QueryInvalid("the cursor is invalid") from error
    if abs(started_ms) > _MOST_MS:
        raise QueryInvalid("the cursor is invalid")
    return started_ms, name
