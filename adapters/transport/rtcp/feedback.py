"""Feedback messages (RFC 4585): generic NACKs, which ask for packets to be sent again."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_HEADER, _ITEM = struct.Struct("!BBHII"), struct.Struct("!HH")
_TRANSPORT_FEEDBACK, _GENERIC_NACK = 205, 1


def generic_nack(ssrc: int, media_ssrc: int, sequences: Sequence[int]) -> bytes:
    """A generic NACK (§ 6.2.1) of the receiver `ssrc` for packets of the source `media_ssrc`.

    `sequences` are their sequence numbers (16 bits) in order; at least one. An item states a
    number, and which of the 16 numbers behind it are missing, too.
    """
    items: list[tuple[int, int]] = []
    first, behind = sequences[0], 0
    for sequence in sequences[1:]:
        distance = (sequence - first) % 2**16
        if 1 <= distance <= 16:
            behind |= 1 << (distance - 1)
        else:
            items.append((first, behind))
            first, behind = sequence, 0
    items.append((first, behind))
    # the length is in words of 4 bytes, without the first one (RFC 3550 § 6.4.1)
    header = _HEADER.pack(
        0x80 | _GENERIC_NACK, _TRANSPORT_FEEDBACK, 2 + len(items), ssrc, media_ssrc
    )
    return header + b"".join(_ITEM.pack(*item) for item in items)
