"""Rooms: names that sessions share, because they belong together."""

from __future__ import annotations

import unicodedata
from typing import Any

MAX_ROOM_CHARACTERS = 100
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of Unicode: control characters, halves of surrogate pairs, and ends of lines."""


def read_room(value: Any) -> str:
    """Return the name of a room that comes from outside; empty if there is none.

    Raises `ValueError` unless it is text of at most `MAX_ROOM_CHARACTERS` without control
    characters.
    """
    if value is None:
        return ""
    is_text = isinstance(value, str) and len(value) <= MAX_ROOM_CHARACTERS
    if not is_text or any(unicodedata.category(character) in _REFUSED for character in value):
        raise ValueError(
            f"room has to be text of at most {MAX_ROOM_CHARACTERS} characters, "
            "without control characters"
        )
    return str(value)


def room_key(room: str) -> str:
    """Return what is equal for all spellings of one room: case does not count."""
    return unicodedata.normalize("NFC", room.casefold())
