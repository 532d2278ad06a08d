"""A server takes captured sound from its client alone, within limits of size, time and memory."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.http.pieces import MAX_PIECE_BYTES
from adapters.http.uploads import ADDRESS_SHARE, MAX_UPLOADS_BYTES, MAX_UPLOADS_EACH
from domain.errors import PieceInvalid, StorageFailed, StorageFull
from tests.rigs.piece_requests import FLAC, Requests, digest, in_chunks, served


@pytest.fixture(params=["one process", "another node"])
async def requests(request: pytest.FixtureRequest) -> AsyncIterator[Requests]:
    async with served(other_node=request.param == "another node") as found:
        yield found


# -- pieces --------------------------------------------------------------------------------------


async def test_a_piece_arrives_as_it_was_sent(requests: Requests) -> None:
    assert await requests.put(start=0) == (204, None)
    assert (await requests.put(start=0))[0] == 204
    assert (await requests.put(b"", start=2**53 - 1, session="other"))[0] == 204
    both = f"{digest(FLAC)}, sha-512=:{base64.b64encode(hashlib.sha512(FLAC).digest()).decode()}:"
    assert (await requests.put(start=7, Content_Digest=both))[0] == 204
    assert requests.restoring.pieces == [
        ("session", 0, FLAC), ("session", 0, FLAC), ("other", 2**53 - 1, b""), ("session", 7, FLAC),
    ]  # fmt: skip


async def test_the_longest_piece_arrives(requests: Requests) -> None:
    body = bytes(MAX_PIECE_BYTES)
    length = str(len(body))
    sent = requests.put(in_chunks(body), Content_Digest=digest(body), Content_Length=length)
    assert (await sent)[0] == 204
    assert requests.restoring.pieces == [("session", 0, body)]


@pytest.mark.parametrize(
    "start", ["-1", "x", "1.0", "2e3", str(2**53), "9" * 400, "%2B1", "٣", "1 "]
)
async def test_a_position_is_a_number(requests: Requests, start: str) -> None:
    status, answer = await requests.put(start=start)
    assert status == 400
    assert "a position is a whole number" in answer["error"]


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"Content_Digest": None}, 400, "neither|has to be as in"),
        ({"Content_Digest": "md5=:AAAA:"}, 400, "neither sha-256 nor sha-512"),
        ({"Content_Digest": "rubbish"}, 400, "has to be as in"),
        ({"Content_Digest": digest(b"else")}, 400, "does not have its Content-Digest"),
        ({"Content_Type": "audio/wav"}, 415, "audio/flac"),
        ({"Content_Type": "application/octet-stream"}, 415, "audio/flac"),
        ({"Content_Encoding": "gzip"}, 415, "not be compressed"),
        ({"Content_Encoding": "br"}, 415, "not be compressed"),
    ],
)
async def test_a_piece_that_is_not_what_it_says_is_refused(
    requests: Requests, headers: dict[str, Any], status: int, reason: str
) -> None:
    found, answer = await requests.put(**headers)
    assert found == status
    assert any(part in answer["error"] for part in reason.split("|"))
    assert requests.restoring.pieces == []


async def test_a_piece_that_was_changed_on_its_way_is_refused(requests: Requests) -> None:
    for body in (b"\x00" + FLAC[1:], FLAC[:-1], FLAC + b"\x00", gzip.compress(FLAC), b"short"):
        status, answer = await requests.put(body, Content_Digest=digest(FLAC))
        assert (status, answer["error"]) == (400, "the body does not have its Content-Digest")
    assert requests.restoring.pieces == []


async def test_a_piece_has_a_length_within_limits(requests: Requests) -> None:
    status, answer = await requests.put(in_chunks(FLAC))  # aiohttp sends it without a length
    assert (status, answer["error"]) == (411, "Content-Length is needed")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(64 * 1024)

    for length in (MAX_PIECE_BYTES + 1, 2**62):
        status, answer = await requests.put(endless(), Content_Length=str(length))
        assert status == 413
        assert answer["error"] == f"the body is longer than {MAX_PIECE_BYTES} bytes"
    assert requests.restoring.pieces == []


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (PieceInvalid("this is no FLAC"), 422),
        (StorageFull("the disk is full"), 507),
        (StorageFailed("the disk is gone"), 507),
    ],
)
async def test_the_reason_of_a_refusal_is_told(
    requests: Requests, refusal: Exception, status: int
) -> None:
    requests.restoring.refusal = refusal
    assert await requests.put() == (status, {"error": str(refusal)})


# -- slow and many -------------------------------------------------------------------------------


def raw_put(url: str, length: int, *, secret: str = "secret") -> tuple[str, int, bytes]:
    host, port = url.removeprefix("http://").split(":")
    head = (
        "PUT /sessions/session/sound/0 HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {secret}\r\nContent-Type: audio/flac\r\n"
        f"Content-Digest: {digest(FLAC)}\r\nContent-Length: {length}\r\n\r\n"
    )
    return host, int(port), head.encode()


async def status_in(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(20):
        return int((await reader.readline()).split()[1])


async def test_a_client_may_be_slow_as_long_as_something_comes(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.http.uploads.IDLE_S", 2.0)
    body = FLAC[:30]

    async def slow() -> AsyncIterator[bytes]:
        for value in body:
            await asyncio.sleep(0.1)
            yield bytes([value])

    sending = requests.put(slow(), Content_Digest=digest(body), Content_Length=str(len(body)))
    assert (await sending)[0] == 204
    assert requests.restoring.pieces == [("session", 0, body)]


@pytest.mark.parametrize("limit", ["IDLE_S", "UPLOAD_S"])
async def test_a_body_that_stops_to_arrive_is_given_up(
    requests: Requests, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(f"adapters.http.uploads.{limit}", 0.3)
    host, port, head = raw_put(requests.url, len(FLAC))
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head + FLAC[:5000])
    assert await status_in(reader) == 408
    writer.close()
    assert (await requests.put())[0] == 204
    assert requests.restoring.pieces == [("session", 0, FLAC)]


async def test_a_body_that_drips_is_given_up(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.http.uploads.IDLE_S", 0.5)
    host, port, head = raw_put(requests.url, len(FLAC))
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head)
    answered = asyncio.create_task(status_in(reader))
    for value in FLAC[:1000]:
        writer.write(bytes([value]))
        if (await asyncio.wait({answered}, timeout=0.1))[0]:
            break
    assert await answered == 408
    writer.close()


async def test_a_client_that_goes_away_leaves_nothing(
    requests: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    host, port, head = raw_put(requests.url, len(FLAC))
    for _ in range(2 * MAX_UPLOADS_EACH):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(head + FLAC[:5000])
        await writer.drain()
        writer.transport.abort()
    async with asyncio.timeout(20):
        while (await requests.put())[0] != 204:
            await asyncio.sleep(0.05)
    assert requests.restoring.pieces == [("session", 0, FLAC)]
    assert caplog.records == []


async def test_a_stranger_is_refused_before_the_body_arrives(requests: Requests) -> None:
    host, port, head = raw_put(requests.url, MAX_PIECE_BYTES, secret="wrong")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(head)
    assert await status_in(reader) == 401
    writer.close()


async def test_one_session_has_a_few_bodies_at_once(requests: Requests) -> None:
    requests.restoring.is_open.clear()
    sending = [asyncio.create_task(requests.put(start=n)) for n in range(100)]
    refused = 0
    for done in asyncio.as_completed(sending):
        status, answer = await done
        if status == 204:
            continue
        assert status == 429
        assert answer["error"].startswith("more than 4 bodies of this session")
        refused += 1
        if refused == len(sending) - MAX_UPLOADS_EACH:
            assert (await requests.put(session="other", bearer="wrong"))[0] == 401
            requests.restoring.is_open.set()
    assert len(requests.restoring.pieces) == MAX_UPLOADS_EACH
    assert refused == len(sending) - MAX_UPLOADS_EACH
    assert (await requests.put())[0] == 204


async def test_the_bodies_of_one_address_have_a_limit(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.http.uploads.MAX_UPLOADS_BYTES", 6 * len(FLAC))
    requests.restoring.is_open.clear()
    sessions = ("session", "session", "other", "other")
    sending = [asyncio.create_task(requests.put(session=name)) for name in sessions]
    done, others = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result()[0] for task in done] == [503]
    status, _, headers = await requests.send(
        "PUT", "/sessions/session/sound/0", data=FLAC,
        headers={"Content-Type": "audio/flac", "Content-Digest": digest(FLAC)},
    )  # fmt: skip
    assert (status, headers["Retry-After"]) == (503, "5")
    requests.restoring.is_open.set()
    assert [(await task)[0] for task in others] == [204] * 3
    assert (await requests.put())[0] == 204


async def test_one_address_leaves_memory_to_others(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.http.uploads.MAX_UPLOADS_BYTES", 8 * len(FLAC))
    requests.restoring.is_open.clear()
    sessions = ("session", "session", "session", "other", "other")
    greedy = [
        asyncio.create_task(requests.put(session=name, X_Forwarded_For="192.0.2.1"))
        for name in sessions
    ]
    done, _ = await asyncio.wait(greedy, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result()[0] for task in done] == [503]
    other = asyncio.create_task(requests.put(session="other", X_Forwarded_For="192.0.2.2"))
    done, _ = await asyncio.wait({other}, timeout=0.3)
    assert not done  # its memory is reserved
    requests.restoring.is_open.set()
    assert (await other)[0] == 204
    await asyncio.gather(*greedy)


def test_one_address_may_send_two_of_the_longest_pieces() -> None:
    assert 2 * MAX_PIECE_BYTES < MAX_UPLOADS_BYTES // ADDRESS_SHARE
