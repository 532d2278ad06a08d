"""Long bodies: read as they arrive, within limits of time and memory.

A client may send slowly on purpose, so that its live sound goes first. So what is limited is how
long nothing arrives, and a rate at which a body would never be complete in time. Memory is reserved
for all of a body, and a few bytes now and then must not hold it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import hdrs, web

from adapters.http.callers import caller_of
from domain.session.addresses import network_of

MAX_UPLOADS_BYTES = 64 * 1024 * 1024
"""Memory for the bodies of all requests together: more than a hundred pieces of usual length."""
MAX_UPLOADS_EACH = 4
"""Bodies of one session at a time: a client whose network has changed sends again beside its old
connections."""
ADDRESS_SHARE = 2
"""The sessions of one address get one of so many parts of the memory that the others leave: whoever
opens some sessions cannot take it from everybody else."""
IDLE_S = 60.0
"""How long nothing of a body may arrive. After an outage, TCP may wait for as long as that had
lasted before it sends again."""
UPLOAD_S = 600.0
"""How long a body may take in all."""
LEAST_PART = 0.25
"""A body has to be so much of what it would be at the rate that completes it within `UPLOAD_S`. A
client that begins slowly becomes faster."""
RETRY_AFTER_S = 5


async def chunks_of(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the body of a request as it arrives.

    Raises `HTTPRequestTimeout`, or `HTTPBadRequest` if the client has gone.
    """
    loop = asyncio.get_running_loop()
    began, received = loop.time(), 0
    end = began + UPLOAD_S
    least_rate = LEAST_PART * (request.content_length or 0) / UPLOAD_S
    while True:
        try:
            async with asyncio.timeout_at(min(end, loop.time() + IDLE_S)):
                chunk = await request.content.readany()
        except TimeoutError:
            raise web.HTTPRequestTimeout(
                text=f"nothing of the body came for {IDLE_S:g} s, or it took {UPLOAD_S:g} s"
            ) from None
        except (ValueError, web.RequestPayloadError, ConnectionError) as error:
            raise web.HTTPBadRequest(text="the body cannot be read") from error
        if not chunk:
            return
        received += len(chunk)
        if received < least_rate * (loop.time() - began - IDLE_S):
            raise web.HTTPRequestTimeout(text=f"a body of this length takes {UPLOAD_S:g} s at most")
        yield chunk


class Uploads:
    """The long bodies that this process is receiving, or has received and still uses."""

    def __init__(self) -> None:
        self._bytes: Counter[str] = Counter()  # by network
        self._counts: Counter[str] = Counter()

    @asynccontextmanager
    async def receive(
        self, request: web.Request, session_id: str, *, max_bytes: int
    ) -> AsyncIterator[bytes]:
        """Read a body of a session; its memory counts as used until the block ends.

        All of it is reserved beforehand, so that no two bodies wait for each other. Raises
        `HTTPUnsupportedMediaType` for a compressed body, `HTTPLengthRequired`,
        `HTTPRequestEntityTooLarge`, `HTTPTooManyRequests`, `HTTPServiceUnavailable`, and what
        `chunks_of` raises.
        """
        length = _length_of(request, max_bytes)
        network = network_of(caller_of(request).address)
        retry = {hdrs.RETRY_AFTER: str(RETRY_AFTER_S)}
        if self._counts[session_id] >= MAX_UPLOADS_EACH:
            raise web.HTTPTooManyRequests(
                text=f"more than {MAX_UPLOADS_EACH} bodies of this session at once", headers=retry
            )
        theirs = self._bytes[network]
        free = MAX_UPLOADS_BYTES - (self._bytes.total() - theirs)
        if theirs + length > free // ADDRESS_SHARE:
            raise web.HTTPServiceUnavailable(
                text="the server receives as much as it can at the moment", headers=retry
            )
        self._bytes[network] += length
        self._counts[session_id] += 1
        try:
            yield b"".join([chunk async for chunk in chunks_of(request)])
        finally:
            for counter, key, count in (
                (self._bytes, network, length),
                (self._counts, session_id, 1),
            ):
                counter[key] -= count
                if not counter[key]:
                    del counter[key]


def _length_of(request: web.Request, max_bytes: int) -> int:
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity":
        raise web.HTTPUnsupportedMediaType(
            text="this body may not be compressed", headers={hdrs.ACCEPT_ENCODING: "identity"}
        )
    length = request.content_length
    if length is None:
        raise web.HTTPLengthRequired(text="Content-Length is needed")
    if length > max_bytes:
        raise web.HTTPRequestEntityTooLarge(
            max_bytes, length, text=f"the body is longer than {max_bytes} bytes"
        )
    return length
