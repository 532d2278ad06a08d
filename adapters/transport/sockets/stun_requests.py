"""Whom a STUN request is for, and whether it is authentic, before anything else of it is parsed.

aioice takes tens of microseconds to parse a request, and answers one that is not authentic with an
error. Here it takes a few, and a stranger gets no answer.
"""

from __future__ import annotations

import hmac
import struct

HEADER_BYTES = 20
_USERNAME, _INTEGRITY = 0x0006, 0x0008
_MAX_ATTRIBUTES = 16
"""Attributes among which one is looked for: agents send eight or so, and strangers might send five
hundred."""
_INTEGRITY_BYTES = 20
_ATTRIBUTE = struct.Struct("!HH")


def username_of(data: bytes) -> bytes:
    """Return the receiver's user name in a STUN request, or nothing (RFC 8445 § 7.2.2)."""
    start, length = _find(data, _USERNAME)
    return data[start : start + length].partition(b":")[0]


def is_authentic(data: bytes, password: bytes) -> bool:
    """Whether a STUN request was made by one who knows the password (RFC 8489 § 14.5)."""
    start, length = _find(data, _INTEGRITY)
    if length != _INTEGRITY_BYTES:
        return False
    end = start + length
    # the length in the header counts up to this attribute, whatever follows
    before = data[:2] + (end - HEADER_BYTES).to_bytes(2, "big") + data[4 : start - _ATTRIBUTE.size]
    return hmac.compare_digest(hmac.digest(password, before, "sha1"), data[start:end])


def _find(data: bytes, wanted: int) -> tuple[int, int]:
    """Return where the value of an attribute starts, and its length; zeros if it is not there."""
    start, last = HEADER_BYTES, len(data) - _ATTRIBUTE.size
    for _ in range(_MAX_ATTRIBUTES):
        if start > last:
            break
        kind, length = _ATTRIBUTE.unpack_from(data, start)
        start += _ATTRIBUTE.size
        if kind == wanted:
            return start, length
        start += (length + 3) // 4 * 4
    return 0, 0
