"""The client's side of restoring over HTTP."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

from adapters.http.calls import Response, ServerCalls, bearer, checked
from adapters.http.digests import CONTENT_DIGEST, digest_of_content
from adapters.http.restore_json import read_confirmed, read_wanted, write_captured
from domain.errors import Refusal, ServerRefused, ServerUnreachable, SessionOver, WrongServer
from domain.ports.restoring import PACED_BYTES, Confirmed, Pace, Wanted
from domain.recording.restoring import Captured

CHUNK_BYTES = 64 * 1024
PACED_BUFFER_BYTES = 16 * 1024
"""What the kernel may take of a paced body beyond what has arrived: it still sends that when the
path has become bad. Linux takes up to 25 kB then; with TLS, asyncio holds as much again."""
BUFFER_BYTES = 256 * 1024
"""The same at full speed. It allows 2.5 MB/s at a round trip of 0.1 s, and bounds what is still to
be sent when `ANSWER_S` begins."""
STALL_S = 60.0
"""How long the network may take nothing of a body; the server waits as long."""
ANSWER_S = 120.0
"""How long an answer may take. What is in buffers by then takes 100 s at 4 kB/s."""
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=ANSWER_S)
_NO_SUCH_PATH = "404: Not Found"
"""What aiohttp says, and so a Gapless server."""
_T = TypeVar("_T")


class HttpRestoring:
    """Calls a Gapless server; a `RestoringClient`."""

    def __init__(self, server: str, *, fingerprint: bytes | None = None) -> None:
        self._calls, self._paced_calls = (
            ServerCalls(server, fingerprint=fingerprint, send_buffer_bytes=size)
            for size in (BUFFER_BYTES, PACED_BUFFER_BYTES)
        )

    async def wanted(self, session_id: str, resume: str) -> Wanted:
        response = await self._calls.call(
            "GET", f"{_path(session_id)}/wanted", headers=bearer(resume), timeout=_TIMEOUT
        )
        return self._read(checked(_of_known_session(response)), read_wanted)

    async def put(
        self, session_id: str, resume: str, start: int, flac: bytes, pace: Pace | None = None
    ) -> None:
        headers = {
            hdrs.CONTENT_TYPE: "audio/flac",
            CONTENT_DIGEST: await asyncio.to_thread(digest_of_content, flac),
            **bearer(resume),
        }
        response = await self._send(
            "PUT", f"{_path(session_id)}/sound/{start}", flac, headers, pace
        )
        if checked(_of_known_session(response)).status != 204:
            raise self._wrong_server()  # such as a portal that answers everything with a page

    async def captured(self, session_id: str, resume: str, captured: Captured) -> Confirmed:
        body = json.dumps(write_captured(captured)).encode()
        headers = {hdrs.CONTENT_TYPE: "application/json", **bearer(resume)}
        response = await self._send("POST", f"{_path(session_id)}/captured", body, headers)
        if response.status == 409:  # the answer is the same, with what is wanted
            return self._read(response, read_confirmed)
        return self._read(checked(_of_known_session(response)), read_confirmed)

    async def close(self) -> None:
        await self._calls.close()
        await self._paced_calls.close()

    async def _send(
        self, method: str, path: str, body: bytes, headers: dict[str, str], pace: Pace | None = None
    ) -> Response:
        """Send a body; give up when the network takes nothing of it for `STALL_S`."""
        calls = self._calls if pace is None else self._paced_calls
        try:
            async with asyncio.timeout(None) as stalled:
                return await calls.call(
                    method, path, data=_Body(body, pace, stalled), headers=headers, timeout=_TIMEOUT
                )
        except TimeoutError as error:
            raise ServerUnreachable(
                f"{calls.server} takes nothing of what is sent to it"
            ) from error

    def _read(self, response: Response, reader: Callable[[Any], _T]) -> _T:
        try:
            return reader(response.json())
        except ValueError as error:
            raise self._wrong_server() from error

    def _wrong_server(self) -> WrongServer:
        return WrongServer(f"{self._calls.server} is not a Gapless server")


class _Body(aiohttp.Payload):
    """A body that is sent in chunks, each of them when `pace` allows it.

    `stalled` expires when the network takes nothing of it.
    """

    _value: bytes

    def __init__(self, body: bytes, pace: Pace | None, stalled: asyncio.Timeout) -> None:
        super().__init__(body)
        self._pace = pace
        self._stalled = stalled

    @property
    def size(self) -> int:
        return len(self._value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        pace, time = self._pace, asyncio.get_running_loop().time
        if pace is not None and isinstance(writer, StreamWriter):
            _hold_nothing(writer.transport)
        size = CHUNK_BYTES if pace is None else PACED_BYTES
        for start in range(0, self.size, size):
            chunk = self._value[start : start + size]
            if pace is not None:
                self._stalled.reschedule(None)
                await pace(len(chunk))
            self._stalled.reschedule(time() + STALL_S)
            await writer.write(chunk)
            await writer.drain()
        self._stalled.reschedule(None)


def _hold_nothing(transport: asyncio.Transport | None) -> None:
    """Let `drain` wait until the kernel has taken everything; asyncio would keep 64 kB."""
    if transport is not None:
        transport.set_write_buffer_limits(high=1, low=0)


def _path(session_id: str) -> str:
    return f"/sessions/{urllib.parse.quote(session_id, safe='')}"


def _of_known_session(response: Response) -> Response:
    """Return a response. Raises `SessionOver` if a Gapless server does not know the session.

    A 404 without a reason comes from another server, which has the address for now. An older
    Gapless server has no such path, whatever the session: then `ServerRefused` is raised.
    """
    if response.status == 404 and response.error == _NO_SUCH_PATH:
        raise ServerRefused(Refusal.FINAL, "the server is too old to fetch captured sound")
    if response.is_secret_unknown or (response.status == 404 and response.error is not None):
        raise SessionOver(response.error or "the server does not know the session")
    return response
