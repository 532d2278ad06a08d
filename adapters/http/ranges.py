"""Parts of a body (RFC 9110 § 14), and the name of the file that it becomes (RFC 6266)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import hdrs, web

_ONE = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII | re.IGNORECASE)
_SAFE_IN_QUOTES = re.compile(r"[^A-Za-z0-9 !#$&+,.;=@^_`{}~()\[\]-]")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes from `start` up to `stop` of a body with `size` bytes."""

    start: int
    stop: int
    size: int

    @property
    def length(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        """Return the value of ``Content-Range``."""
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


def range_of(request: web.Request, *, size: int, etag: str) -> ByteRange | None:
    """Return the range that a request wants; None if the whole body is the answer.

    Several ranges, other units, and what cannot be read are answered with the whole. So is a range
    of another version than `etag` (If-Range). Raises `HTTPRequestRangeNotSatisfiable`.
    """
    header = request.headers.get(hdrs.RANGE)
    if header is None or request.method != hdrs.METH_GET:
        return None
    if request.headers.get(hdrs.IF_RANGE, etag).strip() != etag:
        return None
    found = _ONE.fullmatch(header.strip())
    if found is None or not any(found.groups()):
        return None
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        raise web.HTTPRequestRangeNotSatisfiable(
            text=f"there are {size} bytes", headers={hdrs.CONTENT_RANGE: f"bytes */{size}"}
        )
    return ByteRange(start, stop, size)


def attachment(name: str) -> str:
    """Return the value of ``Content-Disposition`` for a file to be saved under a name.

    Old clients get the name in ASCII, without what would end the quotes, and others as it is
    (RFC 8187).
    """
    plain = _SAFE_IN_QUOTES.sub("_", name)
    value = f'attachment; filename="{plain}"'
    return value if plain == name else f"{value}; filename*=UTF-8''{quote(name, safe='')}"
