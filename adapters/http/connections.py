"""HTTP connections of strangers: aiohttp's protocol, with limits on work, size and time."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from adapters.http.protection import protect
from domain.session.connection_places import Stage

MAX_READ_BYTES = 32 * 1024
"""asyncio reads 256 kB at a time. As chunks of one byte, that is 50 ms of work."""
MAX_HEAD_BYTES = 16 * 1024
"""Of one request; aiohttp has limits for each line and for their number, a megabyte in all."""
HEAD_S = 10.0
"""How long the head of a request may take, from its first byte or from the first connection on."""
SEND_S = 60.0
"""How long an answer may wait for a peer that reads nothing, or less than 64 kB of it."""
CLOSE_S = 5.0
"""How long a connection may take to close."""
_log = logging.getLogger("gapless")


class HttpConnection(web.RequestHandler):
    """A connection whose peer cannot occupy the event loop, fill the log, or stay for nothing.

    `check_deadlines` has to be called every second or so.
    """

    __slots__ = (
        "_answered", "_changed", "_closing_since", "_head_bytes", "_head_since", "_is_over",
        "_rest", "_stage", "_unsent_since", "_wire",
    )  # fmt: skip

    def __init__(self, *args: Any, changed: Callable[[Stage | None], None], **options: Any) -> None:
        """Begin; `changed` is called with each new stage, and with None when it is over."""
        super().__init__(*args, **options)
        self._changed = changed
        self._wire: asyncio.Transport | None = None
        """As `transport`, which aiohttp forgets before the connection is closed."""
        self._stage = Stage.NEW
        self._answered = 0
        self._rest: StreamReader | None = None
        """The body of the latest request, of which some may come after the answer."""
        self._is_over = False
        """Whether the last answer was sent: nothing that follows it is a request."""
        self._head_bytes = 0
        self._head_since: float | None = self._loop.time()
        self._unsent_since: float | None = None
        self._closing_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.limit_reads(transport)
        # the TLS layer would buffer 512 kB
        transport.set_write_buffer_limits(high=64 * 1024)
        self._wire = transport
        self._head_since = self._loop.time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._wire = self._rest = None
        super().connection_lost(exc)
        self._changed(None)

    @staticmethod
    def limit_reads(transport: asyncio.BaseTransport) -> None:
        """Read at most `MAX_READ_BYTES` at a time; `tls` limits the buffer of the TLS layer."""
        if hasattr(transport, "max_size"):
            transport.max_size = MAX_READ_BYTES

    def data_received(self, data: bytes) -> None:
        count = self._request_count
        # asked now: when the data has been parsed, a body that it completed has ended
        is_body = self._is_rest_missing()
        if self._is_over and not is_body:
            return
        try:
            super().data_received(data)
        except Exception as error:  # asyncio would log the traceback
            _log.debug("a connection was dropped: %r", error)
            self.abort()
            return
        if self._is_over:
            self._messages.clear()
        elif self._request_count > count:
            self._head_bytes, self._head_since = 0, None
            if not self.writing_paused:
                self._enter(Stage.BUSY)
        elif self._answered == self._request_count and not is_body:
            if self._head_since is None:
                self._head_since = self._loop.time()
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long")

    async def start(self) -> None:
        """Process the requests; close the connection if aiohttp cannot even represent one."""
        try:
            await super().start()
        except UnicodeError as error:  # the host in an absolute URL cannot be decoded
            _log.debug("a request was dropped: %r", error)
            self.force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer, or what is left of it."""
        is_last = True
        try:
            if _is_second(request, resp):
                self.abort()
                return resp, True
            resp, is_lost = await super().finish_response(request, resp, start_time)
            is_last = is_lost or not resp.keep_alive
            return resp, is_lost
        finally:
            self._is_over = self._is_over or is_last
            self._answered += 1
            self._rest = request.content
            if self._answered == self._request_count:  # else there is a pipelined one
                self._enter(Stage.IDLE)

    def check_deadlines(self, now: float) -> None:
        """Close the connection if its peer has been too slow; `now` is the event loop's time."""
        wire = self._wire
        if wire is None:
            return
        if wire.is_closing():
            self._closing_since = now if self._closing_since is None else self._closing_since
            if now - self._closing_since > CLOSE_S:
                self.abort()
            return
        if not (self.writing_paused or wire.get_write_buffer_size()):
            self._unsent_since = None
        elif self._unsent_since is None:
            self._unsent_since = now
        elif now - self._unsent_since > SEND_S:
            self.abort()
            return
        if self._head_since is not None and now - self._head_since > HEAD_S:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT, f"the head of a request took longer than {HEAD_S:g} s"
            )

    def pause_writing(self) -> None:
        """Wait for the peer, which reads too slowly; meanwhile, others may take the place."""
        super().pause_writing()
        self._enter(Stage.IDLE)

    def resume_writing(self) -> None:
        """Note that the peer has read most of what waited for it."""
        self._unsent_since = None
        super().resume_writing()
        if self._answered < self._request_count:
            self._enter(Stage.BUSY)

    def may_give_way(self) -> None:
        """Let others take the place, though an answer is under way: it goes on for long."""
        self._enter(Stage.IDLE)

    def abort(self) -> None:
        """Close the connection at once, whatever has not been sent."""
        wire = self._wire
        self.force_close()
        if wire is not None:
            wire.abort()

    def drop(self) -> None:
        """End the connection, whether it was made or not."""
        if self._wire is None:
            self.connection_lost(None)  # aiohttp's parser and this have each other
        else:  # aiohttp's task has begun, and needs to be told by the transport
            self.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that could not be handled; malformed HTTP is not logged."""
        if isinstance(exc, HttpProcessingError):
            # its frames would keep the connection until the garbage collector comes
            exc.__traceback__ = None
            text = (message or "Bad Request").strip().splitlines()[0]
            response = _ProtectedResponse(
                text=json.dumps({"error": f"malformed HTTP: {text}"}),
                status=status,
                content_type="application/json",
            )
            response.force_close()
            return response
        return super().handle_error(request, status, exc, message)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a fault of the server; a body that is malformed after its answer is none."""
        if isinstance(kw.get("exc_info"), web.RequestPayloadError | HttpProcessingError):
            _log.debug(*args, **kw)
        else:
            _log.error(*args, **kw)

    def _is_rest_missing(self) -> bool:
        """Return whether more of the body has to come of the latest request that was answered."""
        return self._rest is not None and not self._rest.is_eof()

    def _enter(self, stage: Stage) -> None:
        if stage is not self._stage:
            self._stage = stage
            self._changed(stage)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer without aiohttp, which has no request to answer yet, and close."""
        if self.transport is not None and self._head_bytes and not self._is_over:
            self.transport.write(bare_answer(status, text))
        self._head_since = None
        self.force_close()


def _is_second(request: web.BaseRequest, response: web.StreamResponse) -> bool:
    """Return whether another answer has begun, as when a handler fails amid its own.

    The client would take the second one for the rest of the first, or for that of its next request.
    """
    return not response.prepared and request.writer.output_size > 0


class _ProtectedResponse(web.Response):
    """An answer to what aiohttp cannot parse: it passes through no application."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        protect(self.headers)


def bare_answer(status: HTTPStatus, text: str, **headers: str) -> bytes:
    """Make an answer in JSON for a connection that is closed after it.

    Names of headers have underscores in place of hyphens.
    """
    body = json.dumps({"error": text}).encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    all_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    protect(all_headers)
    lines += [f"{name}: {value}" for name, value in all_headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
