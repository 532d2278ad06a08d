"""Ogg pages (RFC 3533): makes them from whole packets, and reads them defensively.

No packet continues on the next page, so the intact pages of a truncated file are a valid file.
"""

from __future__ import annotations

import itertools
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MAX_PACKET_SIZE = 255 * 255 - 1
"""Bytes of the longest packet that fits into a page (RFC 3533 § 6)."""

_HEADER = struct.Struct("<4sBBqIIIB")
_CRC_AT, _CRC_END = 22, 26
_MAX_SEGMENTS = 255
_MAX_PAGE = _HEADER.size + _MAX_SEGMENTS + 255 * _MAX_SEGMENTS
_FIRST, _LAST = 0x02, 0x04
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_BLOCK = 1 << 20  # a system call for each page would take longer than parsing the page


class Page(NamedTuple):
    """A page with a correct checksum, and its place in the file."""

    offset: int
    size: int
    granule: int
    number: int
    serial: int
    first: bool
    last: bool
    packets: list[bytes]


def crc(data: bytes) -> int:
    """Return the checksum of an Ogg page (RFC 3533 § 6, field 8).

    zlib computes the reflected one: it is the same if the bits of each byte and of the result are
    reversed. It also inverts before and after, which Ogg does not.
    """
    reflected = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")


def page(
    packets: Sequence[bytes], *, serial: int, number: int, granule: int,
    first: bool = False, last: bool = False,
) -> bytes:  # fmt: skip
    """One page of whole packets (RFC 3533 § 6). Raises `ValueError` when they do not fit."""
    sizes = list(map(len, packets))
    if max(sizes, default=0) < 255:
        lacing = bytes(sizes)
    else:
        lacing = b"".join([b"\xff" * (size // 255) + bytes((size % 255,)) for size in sizes])
    if len(lacing) > _MAX_SEGMENTS:
        raise ValueError(f"{len(lacing)} segments are too many for an Ogg page")
    flags = _FIRST * first | _LAST * last
    header = _HEADER.pack(b"OggS", 0, flags, granule, serial, number, 0, len(lacing))
    data = b"".join((header, lacing, *packets))
    return b"".join((data[:_CRC_AT], crc(data).to_bytes(4, "little"), data[_CRC_END:]))


def paginate(packets: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """For each page, the range of packets (start, stop) that it holds."""
    start = segments = 0
    for index, packet in enumerate(packets):
        count = len(packet) // 255 + 1
        if segments + count > _MAX_SEGMENTS and index > start:
            yield start, index
            start, segments = index, 0
        segments += count
    if packets:
        yield start, len(packets)


def read_pages(descriptor: int) -> Iterator[Page]:
    """The pages of one stream, from the beginning of the file to the first page that is invalid.

    A page is invalid if it is truncated, has a wrong checksum, is out of sequence, belongs to
    another stream, or has a packet that continues on the next page (Ogg allows that, but we never
    write it). Nothing follows a page that is marked as the last. Raises `OSError`.
    """
    block, base, at = b"", 0, 0
    serial: int | None = None
    for number in itertools.count():
        if len(block) - at < _MAX_PAGE:
            base, block, at = base + at, block[at:], 0
            while len(block) < _MAX_PAGE:
                more = os.pread(descriptor, _BLOCK, base + len(block))
                if not more:
                    break
                block += more
        found = _parse_page(block, at, base)
        if found is None or found.number != number or found.first != (number == 0):
            return
        if serial not in (None, found.serial):
            return
        yield found
        if found.last:
            return
        serial = found.serial
        at += found.size


def find_last_page(descriptor: int) -> Page | None:
    """Find the last intact page from the end of the file; None if there is none near it.

    Raises `OSError`.
    """
    size = os.fstat(descriptor).st_size
    base = max(0, size - 2 * _MAX_PAGE)
    block = os.pread(descriptor, size - base, base)
    at = len(block)
    while (at := block.rfind(b"OggS", 0, at)) >= 0:
        if (found := _parse_page(block, at, base)) is not None:
            return found
    return None


def _parse_page(block: bytes, at: int, base: int) -> Page | None:
    lacing_at = at + _HEADER.size
    if len(block) < lacing_at:
        return None
    magic, version, flags, granule, serial, number, checksum, segments = _HEADER.unpack_from(
        block, at
    )
    if magic != b"OggS" or version != 0 or flags & ~(_FIRST | _LAST) or granule < 0:
        return None
    lacing = block[lacing_at : lacing_at + segments]
    start = lacing_at + segments
    end = start + sum(lacing)
    if len(block) < end or lacing[-1:] == b"\xff":
        return None
    if crc(block[at : at + _CRC_AT] + bytes(4) + block[at + _CRC_END : end]) != checksum:
        return None
    packets, size = [], 0
    for segment in lacing:
        size += segment
        if segment < 255:
            packets.append(block[start : start + size])
            start, size = start + size, 0
    return Page(base + at, end - at, granule, number, serial,
                bool(flags & _FIRST), bool(flags & _LAST), packets)  # fmt: skip
