"""Server-sent events (HTML Standard § 9.2): their form on the wire, both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from aiohttp import StreamReader, hdrs

MEDIA_TYPE = "text/event-stream"
HEADERS: Mapping[str, str] = {
    hdrs.CONTENT_TYPE: MEDIA_TYPE,
    hdrs.CACHE_CONTROL: "no-store",
    "X-Accel-Buffering": "no",  # a proxy (nginx) would keep events until its buffer is full
}
HEARTBEAT = b":\n\n"
"""A comment. It tells a client that the server is there, and a server that the client is gone."""
HEARTBEAT_S = 15.0
LAST_EVENT_ID = "Last-Event-ID"
MAX_EVENT_BYTES = 1 << 20
"""Of an event that is read."""


def encode(event: str, data: str, id: str | None = None) -> bytes:  # noqa: A002 (its name in SSE)
    """Encode an event. Lines of `data` become lines of data; the others must be one line."""
    head = f"event: {event}\n" if id is None else f"event: {event}\nid: {id}\n"
    if "\n" in data or "\r" in data:
        return (head + "".join(f"data: {line}\n" for line in data.splitlines()) + "\n").encode()
    return f"{head}data: {data}\n\n".encode()


@dataclass(frozen=True, slots=True)
class ServerSent:
    """An event that was read."""

    event: str
    data: str
    id: str
    """The latest id so far; empty if there was none."""


async def read(stream: StreamReader) -> AsyncIterator[ServerSent]:
    """Read the events of an answer. Raises `ValueError` if one is too long or no UTF-8."""
    event, latest = "message", ""
    data: list[str] = []
    size = 0
    async for raw in _lines(stream):
        line = raw.decode().rstrip("\r\n")
        size += len(raw)
        if size > MAX_EVENT_BYTES:
            raise ValueError("an event is too long")
        if not line:
            if data:
                yield ServerSent(event, "\n".join(data), latest)
            event, data, size = "message", [], 0
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            latest = value


async def _lines(stream: StreamReader) -> AsyncIterator[bytes]:
    """Return the lines of a stream; one may be longer than the limit of `readline`."""
    rest = b""
    async for chunk in stream.iter_any():
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if len(rest) > MAX_EVENT_BYTES:
            raise ValueError("a line is too long")
        for line in lines:
            yield line
