"""HTTP connections of strangers: aiohttp's protocol, with limits on the work of one event."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

MAX_READ_BYTES = 32 * 1024
"""asyncio reads 256 kB at a time. As chunks of one byte, that is 50 ms of work."""
_log = logging.getLogger("gapless")


class HttpConnection(web.RequestHandler):
    """A connection whose peer cannot occupy the event loop, and cannot fill the log."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.limit_reads(transport)
        super().connection_made(transport)

    @staticmethod
    def limit_reads(transport: asyncio.BaseTransport) -> None:
        """Read at most `MAX_READ_BYTES` at a time; the TLS layer has a buffer of its own."""
        if hasattr(transport, "max_size"):
            transport.max_size = MAX_READ_BYTES

    async def start(self) -> None:
        """Process the requests; close the connection if aiohttp cannot even represent one."""
        try:
            await super().start()
        except UnicodeError as error:  # the host in an absolute URL cannot be decoded
            _log.debug("a request was dropped: %r", error)
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that could not be handled; malformed HTTP is not logged."""
        if isinstance(exc, HttpProcessingError):
            text = (message or "Bad Request").strip().splitlines()[0]
            response = web.json_response({"error": f"malformed HTTP: {text}"}, status=status)
            response.force_close()
            return response
        return super().handle_error(request, status, exc, message)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        _log.error(*args, **kw)
