"""Whom a STUN request is for, read before anything else of it is parsed."""

from __future__ import annotations

HEADER_BYTES = 20
_USERNAME = 0x0006
_MAX_ATTRIBUTES = 16
"""Attributes among which the user name is looked for: agents send eight or so, and strangers might
send five hundred."""


def username_of(data: bytes) -> bytes:
    """Return the receiver's user name in a STUN request, or nothing (RFC 8445 § 7.2.2)."""
    start, end = HEADER_BYTES, len(data)
    for _ in range(_MAX_ATTRIBUTES):
        if start + 4 > end:
            break
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        if int.from_bytes(data[start : start + 2], "big") == _USERNAME:
            return data[start + 4 : start + 4 + length].partition(b":")[0]
        start += 4 + (length + 3) // 4 * 4
    return b""
