"""Requests to a Gapless server, and what its answers mean; both clients of HTTP use it."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import hdrs

from adapters.http.errors import REALM, refusal_of
from domain.errors import Refusal, ServerRefused, ServerUnreachable, WrongServer
from domain.session.fingerprints import fingerprint_text

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=10.0)
MAX_ANSWER_BYTES = 256 * 1024
TOO_MANY_REQUESTS = 429
MAX_RETRY_AFTER_S = 60.0
"""The longest wait that a server can ask for: an answer may come from another one."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    reason: str | None
    headers: Mapping[str, str]
    text: str

    @property
    def is_secret_unknown(self) -> bool:
        """Whether a Gapless server does not know a session's secret: the session is over."""
        challenge = self.headers.get(hdrs.WWW_AUTHENTICATE, "")
        return self.status == 401 and REALM in challenge

    def json(self) -> Any:
        """Parse the text as JSON. Raises `ValueError`."""
        try:
            return json.loads(self.text)
        except RecursionError as error:
            raise ValueError("too many levels") from error

    @property
    def error(self) -> str | None:
        """The reason that a Gapless server gives; None if another one has answered."""
        try:
            body = self.json()
            return str(body["detail"] if "detail" in body else body["error"])
        except (ValueError, KeyError, TypeError):
            return None


class ServerCalls:
    """Sends requests to one server, over connections that are kept.

    `fingerprint` is the SHA-256 digest of the only certificate that is accepted; whoever vouches
    for it, and for which names, is not asked then. `send_buffer_bytes` limits what the kernel takes
    of a body beyond what has arrived.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        fingerprint: bytes | None = None,
        send_buffer_bytes: int | None = None,
    ) -> None:
        self.server = server.rstrip("/")
        self._headers = {hdrs.ACCEPT_ENCODING: "identity", **(bearer(token) if token else {})}
        self._trusted = True if fingerprint is None else aiohttp.Fingerprint(fingerprint)
        self._send_buffer_bytes = send_buffer_bytes
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def websocket(
        self, path: str, *, max_message_bytes: int
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket. Raises `ServerRefused`, and what `call` raises."""
        with self._named(REQUEST_TIMEOUT):
            try:
                opened = await self._opened_session().ws_connect(
                    self.server + path, max_msg_size=max_message_bytes
                )
            except aiohttp.WSServerHandshakeError:
                # aiohttp does not read the reason; the same request without a WebSocket has it
                checked(await self.call("GET", path))
                raise
            async with opened:
                yield opened

    async def call(
        self,
        method: str,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout = REQUEST_TIMEOUT,
        max_bytes: int = MAX_ANSWER_BYTES,
        **request: Any,
    ) -> Response:
        """Send a request, with the arguments of aiohttp; return the response, whatever its status.

        Redirects are not followed. Raises `ServerUnreachable` or `WrongServer`, also for an answer
        of more than `max_bytes`.
        """
        async with self._sent(method, path, timeout=timeout, **request) as response:
            return await _read(response, max_bytes)

    @asynccontextmanager
    async def opened(
        self, method: str, path: str, *, timeout: aiohttp.ClientTimeout, **request: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; give its answer to read, which is a success.

        Raises `ServerRefused`, and what `call` raises, also while the answer is read.
        """
        async with self._sent(method, path, timeout=timeout, **request) as response:
            if response.status >= 300:
                checked(await _read(response, MAX_ANSWER_BYTES))
            yield response

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, *, timeout: aiohttp.ClientTimeout, **request: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        with self._named(timeout):
            async with self._opened_session().request(
                method, self.server + path, allow_redirects=False, timeout=timeout, **request
            ) as response:
                yield response

    def _opened_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._trusted, socket_factory=self._open_socket),
                headers=self._headers,
                auto_decompress=False,
            )
        return self._session

    @contextmanager
    def _named(self, timeout: aiohttp.ClientTimeout) -> Iterator[None]:
        """Raise the domain's errors in place of aiohttp's."""
        try:
            yield
        except TimeoutError as error:
            seconds = timeout.total or timeout.sock_read or 0.0
            raise ServerUnreachable(f"no answer from {self.server} within {seconds:g} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise WrongServer(
                f"the certificate of {self.server} is not trusted: {error.certificate_error}"
            ) from error
        except aiohttp.ServerFingerprintMismatch as error:  # nothing was sent to it
            raise WrongServer(
                f"the certificate of {self.server} has another fingerprint than it should have: "
                f"{fingerprint_text(error.got)}"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise ServerUnreachable(
                f"no server at {self.server}: {error.os_error.strerror or error.os_error}"
            ) from error
        except aiohttp.ClientError as error:
            raise ServerUnreachable(f"cannot talk to {self.server}: {error}") from error

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol = address[:3]
        opened = socket.socket(family, kind, protocol)
        if self._send_buffer_bytes is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer_bytes)
        return opened


def bearer(token: str) -> dict[str, str]:
    """Return the header that shows a token or a session's secret."""
    return {hdrs.AUTHORIZATION: f"Bearer {token}"}


def checked(response: Response) -> Response:
    """Return a successful response. Raises `ServerRefused` for any other."""
    if response.status >= 300:
        raise refused(response, refusal_of(response.status))
    return response


def refused(response: Response, refusal: Refusal) -> ServerRefused:
    """Make the error for a response; its reason is the server's."""
    reason = response.error or response.reason or "no reason given"
    return ServerRefused(
        refusal,
        f"the server refused ({response.status}): {reason}",
        retry_after_s=_retry_after_s(response),
    )


def _retry_after_s(response: Response) -> float | None:
    """Return how long a client that asks too often has to wait.

    A server that is full or restarts says so to everybody; a client asks that one again sooner.
    """
    text = response.headers.get(hdrs.RETRY_AFTER, "")
    is_number = text.isascii() and text.isdigit()
    if response.status != TOO_MANY_REQUESTS or not is_number:
        return None
    return min(float(text), MAX_RETRY_AFTER_S)


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> Response:
    text = await _text_of(response, max_bytes)
    return Response(response.status, response.reason, response.headers, text)


async def _text_of(response: aiohttp.ClientResponse, max_bytes: int) -> str:
    """Read an answer as UTF-8, at most `max_bytes`: anyone may have sent it.

    Raises `WrongServer` if a success is longer. Of a refusal the status says enough.
    """
    body = bytearray()
    while len(body) <= max_bytes:
        chunk = await response.content.read(max_bytes + 1 - len(body))
        if not chunk:
            break
        body += chunk
    if len(body) > max_bytes and response.status < 300:
        raise WrongServer(f"{response.url.origin()} answers with more than {max_bytes} bytes")
    return body.decode(errors="replace")
