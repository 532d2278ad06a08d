"""Whatever a stranger sends, the event loop works on it for milliseconds at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import socket
import time
import zlib
from collections.abc import AsyncIterator

import pytest

from adapters.transport.sdp.limits import MAX_FORMATS, MAX_MEDIA_LINES
from adapters.transport.sdp.parsing import parse_offer
from domain.errors import OfferRejected
from domain.recording.stalls import MIN_STALL_S
from domain.session.ice import MAX_CANDIDATES
from tests.rigs.clients import Local, Publishing, local_server
from tests.rigs.requests import hostile_requests, post

MAX_WORK_S = 0.1
"""CPU time of one iteration of the event loop; the worst requests took from 0.5 s to 50 s."""


class LoopWatch:
    """Measures the CPU time of the event loop's longest iteration.

    CPU time, because other processes of a busy machine cannot prolong it.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def run(self) -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.001)
            self.longest_s = max(self.longest_s, time.thread_time() - began)


def send(url: str, data: bytes) -> bytes:
    """Send a request as raw bytes, and return the beginning of the answer."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as stranger:
        with contextlib.suppress(ConnectionError):  # the server need not read all of it
            stranger.sendall(data)
        with contextlib.suppress(ConnectionError):
            return stranger.recv(64)
    return b""


@pytest.fixture
async def server(tmp_path: pathlib.Path) -> AsyncIterator[Local]:
    async with local_server(
        storage="wav",
        recordings=str(tmp_path),
        connect_timeout_s=3,  # sessions of the requests that are accepted end soon
        inactivity_timeout_s=60,
    ) as running:
        yield running


@pytest.mark.timeout(180)
async def test_no_request_delays_the_session_beside_it(
    server: Local, tmp_path: pathlib.Path
) -> None:
    client, stranger = Publishing(server), Publishing(server)
    await client.start()
    await stranger.start()
    watch, sender = LoopWatch(), Sender(client)
    sending = asyncio.create_task(sender.run())
    watching = asyncio.create_task(watch.run())
    slow = {}
    sdp = server.open_connection().offer_sdp
    requests = await asyncio.to_thread(list, hostile_requests(sdp, secret=stranger.resume))
    for name, request in requests:
        watch.longest_s = 0.0
        answer = await asyncio.to_thread(send, server.url, request)
        await asyncio.sleep(0.02)  # for work that the request started
        assert b" 500 " not in answer, name
        if watch.longest_s > MAX_WORK_S:
            slow[name] = watch.longest_s
    for task in (watching, sending):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert slow == {}
    await stranger.close()
    async with server.http.delete(f"{server.url}/sessions/{client.id}") as response:
        assert response.status == 204
    await client.close()
    assert server.seen.failures == []
    (path,) = tmp_path.glob(f"*{client.id}.json")
    ledger = json.loads(path.read_text())
    received = sum(span["length"] for span in ledger["spans"] if span["kind"] == "received")
    assert received == client.sent * 960
    # a sender that a busy machine has kept from sending in time has stalls in its recording
    if sender.latest_s < MIN_STALL_S:
        assert ledger["length_samples"] == received


class Sender:
    """Sends packets in real time, as far as the machine lets it."""

    def __init__(self, client: Publishing) -> None:
        self._client = client
        self.latest_s = 0.0
        """How late it was at most."""

    async def run(self) -> None:
        """Send until cancelled."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            self._client.send(1)
            left_s = began + self._client.sent * 0.02 - loop.time()
            self.latest_s = max(self.latest_s, -left_s)
            await asyncio.sleep(max(0.0, left_s))


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ('Application/JSON;charset="UTF-8"', 200),
        ("application/json; charset=us-ascii", 200),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=punycode", 415),
        ("application/json; charset=utf-8; charset=punycode", 415),
        ("application/json" + ";" * 300, 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
    ],
)
async def test_bodies_are_utf_8(server: Local, kind: str, status: int) -> None:
    body = json.dumps({"sdp": server.open_connection().offer_sdp, "type": "offer"}).encode()
    answer = await asyncio.to_thread(send, server.url, post("/offer", body, kind))
    assert answer.split()[1] == b"%d" % status


async def test_a_compressed_body_is_read_within_the_limit_of_any_body(server: Local) -> None:
    body = json.dumps({"sdp": server.open_connection().offer_sdp, "type": "offer"}).encode()
    bomb = zlib.compress(bytes(50_000_000))
    for data, coding, status in (
        (zlib.compress(body), "deflate", 200),
        (zlib.compress(body)[:-8], "deflate", 400),
        (b"no deflate", "deflate", 400),
        (body, "identity", 200),
        (bomb, "deflate", 413),
        (body, "br", 415),
        (body, "gzip, gzip", 415),
    ):
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        async with server.http.post(f"{server.url}/offer", data=data, headers=headers) as response:
            assert response.status == status, coding
            if status == 415:
                assert response.headers["Accept-Encoding"] == "gzip, deflate"


async def test_malformed_http_is_answered_and_not_logged(
    server: Local, caplog: pytest.LogCaptureFixture
) -> None:
    requests = (
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"\x00\xff\x00\xff\r\n\r\n",
        b"GET http://" + b"xn--a." * 1300 + b"/health HTTP/1.1\r\nHost: a\r\n\r\n",
        post("/offer", b"x", "application/json", "Content-Encoding: br"),
    )
    for request in requests:
        await asyncio.to_thread(send, server.url, request)
    assert caplog.records == []


def test_descriptions_have_limits() -> None:
    sdp = offer_with("")
    assert len(parse_offer(sdp).tracks) == 1
    for more in (
        "m=audio 0 X 0\r\n" * MAX_MEDIA_LINES,
        f"m=video 0 X{' 1' * (MAX_FORMATS + 1)}\r\n",
        "a=rtpmap:111 opus/48000/2\r\n" * 200,
        "a=fmtp:111 a=1\r\n" * 300,
        "a=group:BUNDLE 0\r\n" * 20,
    ):
        with pytest.raises(OfferRejected):
            parse_offer(sdp + more)


def test_candidates_beyond_the_limit_are_not_read() -> None:
    lines = (f"a=candidate:1 1 udp 1 127.0.0.1 {1000 + n} typ host\r\n" for n in range(200))
    found = parse_offer(offer_with("".join(lines))).candidates
    assert [candidate.port for candidate in found] == [1000 + n for n in range(MAX_CANDIDATES)]


def offer_with(more: str) -> str:
    fingerprint = ":".join(["AA"] * 32)
    return (
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n"
        f"a=ice-ufrag:abcd\r\na=ice-pwd:{'x' * 22}\r\na=setup:actpass\r\n"
        f"a=fingerprint:sha-256 {fingerprint}\r\n{more}"
    )
