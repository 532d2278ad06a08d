"""Server-sent events are read as they were written, however they are cut on the way."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from adapters.http import sse
from adapters.http.sse import HEARTBEAT, ServerSent, encode, read


async def _read(*chunks: bytes) -> list[ServerSent]:
    loop = asyncio.get_running_loop()
    stream = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    for chunk in chunks:
        stream.feed_data(chunk)
    stream.feed_eof()
    return [sent async for sent in read(stream)]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_events_are_read_as_they_were_written(size: int) -> None:
    wire = (
        encode("a", '{"x":1}', "e-1")
        + HEARTBEAT
        + encode("b", "one: line\n\nthird line")
        + b"id: e-3\n\n"
        + encode("c", "grüße")
        + b"data: of no type\n\n"
        + b"event: cut off\ndata: here"
    )
    assert await _read(*(wire[at : at + size] for at in range(0, len(wire), size))) == [
        ServerSent("a", '{"x":1}', "e-1"),
        ServerSent("b", "one: line\n\nthird line", "e-1"),
        ServerSent("c", "grüße", "e-3"),
        ServerSent("message", "of no type", "e-3"),
    ]


@pytest.mark.parametrize("wire", [b"data: " + b"x" * 2000, b"data: xxxxx\n" * 300])
async def test_an_event_without_end_is_refused(
    wire: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    with pytest.raises(ValueError, match="too long"):
        await _read(wire)
