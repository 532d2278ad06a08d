"""Headers that protect whoever uses a server with a browser are on every answer."""

from __future__ import annotations

import asyncio
import pathlib
import socket
import ssl

import pytest

from adapters.http.tls import TlsFiles
from tests.fakes.http import FakeSessions, http_server
from tests.rigs.requests import JSON, get, post
from tests.rigs.tls import self_signed, trusting_anybody

ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
REQUESTS = {
    "an answer": (200, get(b"/health", b"localhost")),
    "an answer to a page": (200, get(b"/health", b"localhost", b"Origin: http://localhost")),
    "a preflight": (200, get(b"/offer", b"localhost").replace(b"GET", b"OPTIONS")),
    "a secret": (
        200,
        post("/offer", b'{"sdp": "x", "type": "offer"}', JSON, "Authorization: Bearer token"),
    ),
    "an error": (401, post("/offer", b"{}")),
    "no such path": (401, get(b"/nothing", b"localhost")),
    "an expectation": (417, post("/offer", b"{}", JSON, "Expect: the unexpected")),
    "no HTTP": (400, b"\x00\xff\x00\xff\r\n\r\n"),
    "a bad header": (400, b"GET / HTTP/1.1\r\nbad header\r\n\r\n"),
    "a long head": (431, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 60 + b"c: " + b"d" * 8000),
}


def exchange(port: int, request: bytes, context: ssl.SSLContext | None) -> tuple[int, dict]:
    """Send a request, and return the status and the headers of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        end = plain if context is None else context.wrap_socket(plain)
        end.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            received = end.recv(4096)
            assert received, answer
            answer += received
        end.close()
    first, *lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines), "a header is there twice"
    return int(first.split()[1]), {name.lower(): value for name, value in headers.items()}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("hsts", [False, True])
async def test_every_answer_has_them(name: str, hsts: bool, tmp_path: pathlib.Path) -> None:
    tls, context = None, None
    if hsts:
        tls, context = TlsFiles(*self_signed(tmp_path)), trusting_anybody()
    server = http_server(FakeSessions(), token="token", tls=tls, hsts=hsts)
    port = int((await server.start()).rpartition(":")[2])
    status, request = REQUESTS[name]
    if name == "a long head":
        request += b"\r\ne: " + b"f" * 8000 + b"\r\ng: " + b"h" * 8000
    try:
        found, headers = await asyncio.to_thread(exchange, port, request, context)
    finally:
        await server.stop()
    assert found == status
    assert {key: headers.get(key) for key in ALWAYS} == ALWAYS
    assert "server" not in headers
    expected = "max-age=63072000" if hsts and status not in (400, 431) else None
    assert headers.get("strict-transport-security") == expected
