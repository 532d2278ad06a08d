"""Titles: the names that clients give, as they gave them, beside the slugs in names of files."""

from __future__ import annotations

import unicodedata

from domain.recording.naming import slug
from domain.session.messages import in_one_line

MAX_TITLE_CHARACTERS = 200


def title_of(name: str) -> str:
    """Return a client's name as it is kept and shown: in one line, without control characters.

    It has at most `MAX_TITLE_CHARACTERS`; it may be empty.
    """
    return in_one_line(name)[:MAX_TITLE_CHARACTERS].rstrip()


def title_key(text: str) -> str:
    """Return what is compared when a title is searched for: case and accents do not count."""
    plain = unicodedata.normalize("NFKD", text)
    kept = (character for character in plain if unicodedata.category(character)[0] != "M")
    return "".join(kept).casefold()


def name_texts(text: str) -> frozenset[str]:
    """Return texts of which a recording's own name has one if it is looked for by this text.

    They are the text as it is, and its slug, unless that lacks letters of other alphabets: "2" is
    in nearly every name, so it is not what is looked for by "مريم 2". Empty for an empty text.
    """
    found = {text.lower(), slug(text) if title_key(text).isascii() else ""}
    return frozenset(found - {""})
