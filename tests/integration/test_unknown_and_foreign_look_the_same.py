"""Nobody learns which sessions there are: what each role gets, on each route, of each session."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import pathlib
import secrets
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.rigs.processes import serving

TOKEN, ADMIN = "the clients' own token", "the administrator's token"
SPOOL = {"rtp_timestamp": 0, "sample_rate_hz": 48_000, "channels": 1, "sample_format": "s16"}
DIGEST = {"Content-Type": "audio/flac", "Content-Digest": "sha-256=:" + "A" * 43 + "=:"}
CAPTURED = {"length": 1, "sha256": hashlib.sha256(b"").hexdigest()}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}
_numbers = itertools.count()


@dataclass(frozen=True)
class Session:
    id: str
    secret: str


def unknown() -> Session:
    return Session(secrets.token_hex(8), secrets.token_hex(32))


def sdp() -> str:
    """Return an offer that the server answers; nobody ever connects."""
    return "\r\n".join([
        "v=0", f"o=- {next(_numbers)} 1 IN IP4 0.0.0.0", "s=-", "t=0 0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0", "a=sendonly", "a=rtcp-mux",
        "a=rtpmap:111 opus/48000/2", "a=setup:actpass", "a=ice-ufrag:abcd", "a=mid:0",
        "a=ice-pwd:" + "x" * 22, "a=fingerprint:sha-256 " + ":".join(["AA"] * 32), "",
    ])  # fmt: skip


BY_ID: dict[str, tuple[str, dict[str, Any]]] = {
    "GET /sessions/{id}/wanted": ("", {}),
    "HEAD /sessions/{id}/wanted": ("", {}),
    "PUT /sessions/{id}/sound/0": ("", {"data": b"flac", "headers": DIGEST}),
    "POST /sessions/{id}/captured": ("", {"json": CAPTURED}),
    "POST /ice-candidate": ("id", {"json": {"candidate": ""}}),
    "DELETE /sessions/{id}": ("", {}),
}
BY_SECRET: dict[str, tuple[str, dict[str, Any]]] = {
    "GET /whip/{secret}": ("", {}),
    "HEAD /whip/{secret}": ("", {}),
    "PATCH /whip/{secret}": ("", {"data": "", "headers": FRAGMENT}),
    "POST /offer": ("resume", {"json": {"sdp": "v=0", "type": "offer"}}),
    "DELETE /whip/{secret}": ("", {}),
}


@dataclass(frozen=True)
class Asking:
    """Sends each request over a new connection, which any worker may accept."""

    url: str
    http: aiohttp.ClientSession
    own: Session
    foreign: Session

    async def ask(self, request: str, session: Session, bearer: str | None) -> tuple[Any, ...]:
        """Return status, headers and body."""
        method, path = request.format(id=session.id, secret=session.secret).split()
        field, options = (BY_ID | BY_SECRET)[request]
        options = dict(options)
        if field:
            named = session.id if field == "id" else session.secret
            options["json"] = options["json"] | {field: named}
        headers = dict(options.pop("headers", {}))
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        async with self.http.request(method, self.url + path, headers=headers, **options) as answer:
            kept = sorted((k, v) for k, v in answer.headers.items() if k != "Date")
            return answer.status, kept, await answer.text()


@asynccontextmanager
async def asking(folder: pathlib.Path, workers: str, *options: str) -> AsyncIterator[Asking]:
    more = ("--workers", workers, "--connect-timeout-s", "300", *options)
    with serving(folder, *more) as server:
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as http:
            sessions = []
            for _ in range(2):
                body = {"sdp": sdp(), "type": "offer", "spool": SPOOL}
                headers = {"Authorization": f"Bearer {TOKEN}"}
                async with http.post(f"{server.url}/offer", json=body, headers=headers) as answer:
                    opened = await answer.json()
                    assert answer.status == 200, opened
                sessions.append(Session(opened["id"], opened["resume"]))
            yield Asking(server.url, http, *sessions)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_nobody_learns_which_sessions_there_are(tmp_path: pathlib.Path, workers: str) -> None:
    async with asking(tmp_path, workers, "--token", TOKEN, "--admin-token", ADMIN) as found:
        own, foreign = found.own, found.foreign
        table: dict[tuple[str, str], int] = {}
        bearers = {"nobody": None, "a token": TOKEN, "own secret": own.secret}
        for request in BY_ID:
            for role, bearer in bearers.items():
                answers = [await found.ask(request, foreign, bearer) for _ in range(3)]
                answers += [await found.ask(request, unknown(), bearer) for _ in range(4)]
                assert all(answer == answers[0] for answer in answers), (request, role)
                table[request, role] = answers[0][0]
        # without the token, nothing is told by any secret; with it, secrets that open nothing
        # look the same, also those that contain much of one
        similar = Session(foreign.id, foreign.secret[:-1] + "x")
        for request in BY_SECRET:
            for role, bearer in (("nobody", None), ("a token", TOKEN)):
                answers = [await found.ask(request, similar, bearer) for _ in range(3)]
                answers += [await found.ask(request, unknown(), bearer) for _ in range(4)]
                if bearer is None:
                    answers.append(await found.ask(request, foreign, bearer))
                assert all(answer == answers[0] for answer in answers), (request, role)
                table[request, role] = answers[0][0]
        assert {status for (request, role), status in table.items() if role == "nobody"} == {401}
        assert {table[request, "own secret"] for request in BY_ID} == {401}
        assert {table[request, "a token"] for request in BY_ID} == {401, 403}
        assert {table[request, "a token"] for request in BY_SECRET} == {404}
        # and its client is served
        expected = [200, 200, 400, 409, 204, 204]
        for request, status in zip(BY_ID, expected, strict=True):
            assert (await found.ask(request, own, own.secret))[0] == status, request
        expected = [204, 204, 400, 400, 200]
        for request, status in zip(BY_SECRET, expected, strict=True):
            assert (await found.ask(request, foreign, TOKEN))[0] == status, request


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_captured_sound_tells_nothing_without_tokens_either(
    tmp_path: pathlib.Path, workers: str
) -> None:
    async with asking(tmp_path, workers) as found:
        for request in list(BY_ID)[:4]:
            for bearer in (None, "wrong", found.own.secret):
                answers = [await found.ask(request, found.foreign, bearer) for _ in range(3)]
                answers += [await found.ask(request, unknown(), bearer) for _ in range(4)]
                assert all(answer == answers[0] for answer in answers), request
                assert answers[0][0] == 401


async def test_the_time_of_an_answer_tells_nothing(tmp_path: pathlib.Path) -> None:
    async with asking(tmp_path, "2", "--token", TOKEN, "--admin-token", ADMIN) as found:
        for request in ("DELETE /sessions/{id}", "GET /sessions/{id}/wanted"):
            times: dict[bool, list[float]] = {True: [], False: []}
            for number in range(160):
                is_foreign = number % 2 == 0
                session = found.foreign if is_foreign else unknown()
                began = time.perf_counter()
                status, _, _ = await found.ask(request, session, found.own.secret)
                times[is_foreign].append(time.perf_counter() - began)
                assert status == 401
            ratio = statistics.median(times[True]) / statistics.median(times[False])
            print(f"{request}: foreign takes {ratio:.2f} times as long as unknown")
            assert 0.4 < ratio < 2.5
            await asyncio.sleep(0)
