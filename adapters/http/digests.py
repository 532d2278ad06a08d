"""Content-Digest (RFC 9530), in which both ends show that a body arrived as it was sent."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping

CONTENT_DIGEST = "Content-Digest"
MAX_CHARACTERS = 1000
"""The longest header that is read; the two digests that are known take 160 characters."""
_ALGORITHMS = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
# a member of a dictionary whose value is a byte sequence (RFC 9651 §§ 3.1.2, 3.2, 3.3.5); a
# parameter has no meaning here
_KEY = r"[a-z*][a-z0-9_.*-]*"
_MEMBER = re.compile(
    rf'({_KEY})=:([A-Za-z0-9+/=]*):(?:; *{_KEY}(?:=(?:"(?:[^"\\]|\\["\\])*"|[^"\s,;]+))?)*'
)
_SEPARATOR = re.compile(r"[ \t]*,[ \t]*")


def digest_of_content(body: bytes) -> str:
    """Return the header's value for a body."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def parse_digests(header: str) -> dict[str, bytes]:
    """Return the digests in a header by their algorithms, without those that are not known.

    Raises `ValueError` if the header cannot be read, or has no digest that is known.
    """
    known = {name: value for name, value in _members(header).items() if name in _ALGORITHMS}
    if not known:
        raise ValueError(f"{CONTENT_DIGEST} has neither sha-256 nor sha-512")
    return {name: _decoded(value) for name, value in known.items()}


def has_digests(body: bytes, digests: Mapping[str, bytes]) -> bool:
    """Return whether a body has all the digests that `parse_digests` has returned."""
    return all(
        hmac.compare_digest(_ALGORITHMS[name](body).digest(), digest)
        for name, digest in digests.items()
    )


def _members(header: str) -> dict[str, str]:
    if len(header) > MAX_CHARACTERS:
        raise ValueError(f"{CONTENT_DIGEST} is longer than {MAX_CHARACTERS} characters")
    text, members, position = header.strip(" \t"), {}, 0
    while (found := _MEMBER.match(text, position)) is not None:
        members[found[1]] = found[2]
        if found.end() == len(text):
            return members
        separator = _SEPARATOR.match(text, found.end())
        if separator is None:
            break
        position = separator.end()
    raise ValueError(f"{CONTENT_DIGEST} has to be as in sha-256=:base64: (RFC 9530)")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{CONTENT_DIGEST} has a digest that is not base64") from error
