"""Attacks on the TCP port. None of them needs a token."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import secrets
import ssl

from entrypoints.client_settings import ClientSettings
from entrypoints.container import ClientContainer
from tests.fakes.events import SeenByClient
from tests.rigs.requests import BIG, JSON, SDP, get, hostile_requests, post
from tests.rigs.tls import trusting_anybody
from tests.soak.target import Outcome, Target, sent, status_of

_AT_ONCE = 200
"""Connections that an attack holds open."""


async def idle_connections(target: Target, *, tls: bool) -> Outcome:
    outcome, deadline = Outcome(), target.deadline()
    writers = []
    while len(writers) < _AT_ONCE and target.goes_on(deadline):
        try:
            writers.append((await target.connect(tls=tls))[1])
            outcome["open"] += 1
        except (OSError, TimeoutError):
            outcome["refused"] += 1
            await asyncio.sleep(0.05)
    while target.goes_on(deadline):
        await asyncio.sleep(0.1)
    for writer in writers:
        writer.transport.abort()
    return outcome


async def idle_tcp_connections(target: Target) -> Outcome:
    """Without a byte, so that no handshake of TLS begins either."""
    return await idle_connections(target, tls=False)


async def idle_tls_connections(target: Target) -> Outcome:
    """With a complete handshake, and no request."""
    return await idle_connections(target, tls=target.is_tls)


async def half_a_tls_handshake(target: Target) -> Outcome:
    """Send a ClientHello byte by byte, but for the last one."""
    reading, writing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trusting_anybody().wrap_bio(reading, writing).do_handshake()
    return await _drip(target, writing.read()[:-1], tls=False)


async def _drip(target: Target, data: bytes, *, tls: bool) -> Outcome:
    """Send one byte at a time through many connections, until the attack is over."""
    outcome, deadline, opened = Outcome(), target.deadline(), []
    for _ in range(50):
        try:
            opened.append(await target.connect(tls=tls))
        except (OSError, TimeoutError):
            outcome["refused"] += 1
    for position in itertools.count():
        if not target.goes_on(deadline) or not opened:
            break
        await asyncio.sleep(0.1)
        for reader, writer in opened[:]:
            writer.write(data[position % len(data)].to_bytes())
            if reader.at_eof() or writer.is_closing():
                outcome["closed by the server"] += 1
                opened.remove((reader, writer))
    outcome["still open"] += len(opened)
    for _, writer in opened:
        writer.transport.abort()
    return outcome


async def slow_headers(target: Target) -> Outcome:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X-a: b\r\n" * 1000
    return await _drip(target, head, tls=target.is_tls)


async def slow_bodies(target: Target) -> Outcome:
    """Whole headers of an allowed request, whose body then takes for ever."""
    outcome, deadline, opened = Outcome(), target.deadline(), []
    head = post("/offer", b"", JSON, f"Authorization: Bearer {target.token}")
    head = head.replace(b"Content-Length: 0", b"Content-Length: 200000")
    for _ in range(50):
        try:
            reader, writer = await target.connect()
            writer.write(head)
            opened.append((reader, writer))
        except (OSError, TimeoutError):
            outcome["refused"] += 1
    while target.goes_on(deadline) and opened:
        await asyncio.sleep(0.2)
        for _, writer in opened:
            writer.write(b" ")
    for reader, writer in opened:
        try:
            async with asyncio.timeout(0.01):
                outcome[status_of(await reader.read(64))] += 1
        except TimeoutError:
            outcome["still open"] += 1
        except OSError:
            outcome["closed"] += 1
        writer.transport.abort()
    return outcome


async def malformed_http(target: Target) -> Outcome:
    outcome, deadline, chance = Outcome(), target.deadline(), target.chance
    requests = [
        b"\x00\xff" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 50,
        b"POST /offer HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /offer HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /offer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\x1b[2J HTTP/1.1\r\nHost: \x1b]0;x\x07\r\n\r\n",
    ]  # fmt: skip
    while target.goes_on(deadline):
        request = bytearray(chance.choice(requests))
        for _ in range(chance.randrange(3)):
            request[chance.randrange(len(request))] = chance.randrange(256)
        outcome[await target.tell(bytes(request))] += 1
    return outcome


async def hostile_bodies(target: Target) -> Outcome:
    """Bombs, deep JSON, giant descriptions and WHIP bodies beyond every limit."""
    outcome = Outcome()
    allowed = f"Authorization: Bearer {target.token}\r\n".encode()
    sdp = _offer(target.url)
    requests = await asyncio.to_thread(_bodies, sdp)
    deadline = target.deadline()
    while target.goes_on(deadline):
        request = target.chance.choice(requests)
        if target.chance.random() < 0.5:
            request = request.replace(b"Host:", allowed + b"Host:", 1)
        outcome[await target.tell(request)] += 1
    return outcome


@functools.cache
def _bodies(sdp: str) -> list[bytes]:
    """Those of the rig, without the largest, and bodies that are longer than they may be."""
    made = [data for _, data in hostile_requests(sdp, secret="0" * 32) if len(data) < 2 * BIG]
    return [*made, *(post("/whip", b"v=0\r\n" * size, SDP) for size in (60_000, 500_000))]


@functools.cache
def _offer(url: str) -> str:
    settings = ClientSettings(server=url, capture="tone")
    transport = ClientContainer(settings=settings, events=SeenByClient()).transport()
    offer: str = transport.open().offer_sdp
    return offer


async def token_guesses(target: Target) -> Outcome:
    outcome, deadline = Outcome(), target.deadline()

    async def guess() -> None:
        while target.goes_on(deadline):
            word = target.chance.choice([secrets.token_hex(16), "secret", "admin", "\x7f", ""])
            header = f"Authorization: Bearer {word}"
            outcome[await target.tell(post("/offer", b"{}", JSON, header))] += 1

    await asyncio.gather(*(guess() for _ in range(20)))
    return outcome


async def foreign_ids(target: Target) -> Outcome:
    """Every route with ids and secrets that are guessed, odd, or names of files."""
    outcome, deadline = Outcome(), target.deadline()
    async with target.http(token=target.token) as remote:
        while target.goes_on(deadline):
            name = target.chance.choice(
                [secrets.token_hex(16), "00", "ff" * 8, "..%2f..%2fetc%2fpasswd", "%00", "x" * 3000]
            )
            method, path = target.chance.choice(
                [
                    ("DELETE", f"/sessions/{name}"), ("GET", f"/sessions/{name}/wanted"),
                    ("PUT", f"/sessions/{name}/sound/0"), ("POST", f"/sessions/{name}/captured"),
                    ("PATCH", f"/whip/{name}"), ("DELETE", f"/whip/{name}"),
                    ("OPTIONS", f"/whip/{name}"), ("GET", f"/{name}"),
                    ("GET", f"/api/recordings/{name}"),
                ]
            )  # fmt: skip
            headers = {"Authorization": f"Bearer {secrets.token_hex(16)}"}
            request = remote.http.request(
                method, remote.url + path, headers=headers, data=b"{}", skip_auto_headers=[]
            )
            outcome[await sent(request)] += 1
            body = {"id": name, "candidate": "", "sdpMid": "0"}
            outcome[await target.tell(post("/ice-candidate", json.dumps(body).encode()))] += 1
    return outcome


async def many_health_checks(target: Target) -> Outcome:
    outcome, deadline = Outcome(), target.deadline()

    async def ask() -> None:
        while target.goes_on(deadline):
            outcome[await target.tell(get(b"/health", b"localhost"))] += 1

    await asyncio.gather(*(ask() for _ in range(10)))
    return outcome
