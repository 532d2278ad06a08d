"""Whoever guesses secrets is told to wait, and every refusal is told, in few events."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from adapters.http.bodies import BODY_S
from adapters.http.refusals import FREE_SECRETS, FREE_TOKENS, TOLD_KINDS
from adapters.http.routes import SECRET, Route, key_in_path
from adapters.http.server import SignalingServer
from domain.errors import Unauthorized
from domain.events import Event
from domain.events.server import RequestRefused
from domain.ports.placement import KnownSession, Node
from domain.session.guesses import Guesses
from domain.session.placement import id_of
from domain.session.roles import ALL_ROLES, SHARED_TOKEN_ROLES
from tests.fakes.http import FakeRestoring, FakeSessions, http_server
from tests.fakes.placement import FakePlacement

TOKENS = {"shared": SHARED_TOKEN_ROLES, "admin": ALL_ROLES}
OWN, OTHER, STRANGE = "ab" * 32, "cd" * 32, "ef" * 32
OPENS = {OWN: "session", OTHER: "other"}
OFFER = {"sdp": "v=0", "type": "offer"}


@dataclass
class Seen:
    """Keeps the events."""

    events: list[RequestRefused] = field(default_factory=list)

    def publish(self, event: Event) -> None:
        assert isinstance(event, RequestRefused)
        self.events.append(event)


@dataclass
class Requests:
    url: str
    http: aiohttp.ClientSession
    seen: Seen
    sessions: FakeSessions
    server: SignalingServer

    async def send(
        self, method: str, path: str, bearer: str | None = None, *, address: str = "", **more: Any
    ) -> tuple[int, str, dict[str, str]]:
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        if address:
            headers["X-Forwarded-For"] = address
        async with self.http.request(method, self.url + path, headers=headers, **more) as answer:
            kept = {name: value for name, value in answer.headers.items() if name != "Date"}
            return answer.status, await answer.text(), kept

    async def statuses(self, count: int, *request: Any, **more: Any) -> list[int]:
        return [(await self.send(*request, **more))[0] for _ in range(count)]


class Words:
    """A route whose answer goes on, for whoever has the secret."""

    def routes(self) -> list[Route]:
        path = "/sessions/{id}/words"
        return [
            Route(
                "GET", path, self._get, None,
                session_key=key_in_path, secret_only=True, is_streamed=True,
            )
        ]  # fmt: skip

    async def _get(self, request: web.Request) -> web.StreamResponse:
        if request[SECRET] != OWN:
            raise Unauthorized("this is not the secret of this session")
        return web.Response()


@asynccontextmanager
async def serving(where: str = "one process") -> AsyncIterator[Requests]:
    """A server whose session `session` is here or on another node; the stranger is a proxy."""
    seen, sessions = Seen(), FakeSessions(opens=OPENS)
    restoring = FakeRestoring({"session": OWN, "other": OTHER})
    with tempfile.TemporaryDirectory() as folder:  # names of Unix sockets have to be short
        here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
        keys = [
            KnownSession(name)
            for name in ("session", "other", "unknown", id_of(OWN), id_of("ef" * 32))
        ]
        placement = FakePlacement(here, there, dict.fromkeys(keys, there))
        is_one = where == "one process"
        first = http_server(
            sessions if is_one else FakeSessions(),
            tokens=TOKENS,
            restoring=restoring if is_one else FakeRestoring({}),
            placement=None if is_one else placement,
            trusted_proxies=("127.0.0.1",),
            events=seen,
            more=[Words()],
        )
        second = http_server(
            sessions,
            tokens=TOKENS,
            restoring=restoring,
            placement=FakePlacement(there, here, {}),
            events=seen,
            more=[Words()],
        )
        url = await first.start()
        await second.start()
        async with aiohttp.ClientSession() as http:
            yield Requests(url, http, seen, sessions, first)
        await first.stop()
        await second.stop()


@pytest.fixture(params=["one process", "another node"])
async def requests(request: pytest.FixtureRequest) -> AsyncIterator[Requests]:
    async with serving(request.param) as found:
        yield found


GUESSES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/offer", {"json": OFFER}),
    ("GET", "/whip", {}),
    ("DELETE", "/sessions/session", {}),
    ("POST", "/ice-candidate", {"json": {"id": "session", "candidate": ""}}),
    ("PUT", "/nothing", {}),
]


@pytest.mark.parametrize(("method", "path", "more"), GUESSES)
async def test_a_few_wrong_tokens_are_answered_and_further_ones_have_to_wait(
    requests: Requests, method: str, path: str, more: dict[str, Any]
) -> None:
    statuses = await requests.statuses(FREE_TOKENS, method, path, "guess", **more)
    assert statuses == [401] * FREE_TOKENS
    refused = 0
    for number in range(12):  # on a slow machine, the wait may be over in between
        status, text, headers = await requests.send(method, path, f"guess {number}", **more)
        if status == 429:
            assert int(headers["Retry-After"]) in (1, 2, 4)
            assert "too many wrong tokens" in text
            refused += 1
    assert refused >= 8
    # whoever else has this address is served
    assert (await requests.send("POST", "/offer", "shared", json=OFFER))[0] == 200
    assert (await requests.send("POST", "/offer", json=OFFER))[0] == 401
    assert (await requests.send("GET", "/sessions/session/wanted", OWN))[0] == 200
    assert (await requests.send("DELETE", "/sessions/session", OWN))[0] == 204
    assert (await requests.send("DELETE", "/sessions/other", "admin"))[0] == 204


@pytest.mark.parametrize("path", ["/api/nothing", "/nothing"])
async def test_whoever_has_to_wait_is_told_so_in_the_form_of_other_errors(path: str) -> None:
    async with serving() as requests:
        for _ in range(FREE_TOKENS + 5):
            status, text, headers = await requests.send("GET", path, "guess")
            if status == 429:
                break
        is_of_api = path.startswith("/api")
        kind = "application/problem+json" if is_of_api else "application/json"
        assert status == 429 and headers["Content-Type"].startswith(kind)
        assert "too many wrong tokens" in json.loads(text)["detail" if is_of_api else "error"]


async def test_a_wait_ends(requests: Requests) -> None:
    assert 429 in await requests.statuses(FREE_TOKENS + 5, "GET", "/whip", "guess")
    while (status := (await requests.send("GET", "/whip", "guess"))[0]) == 429:
        pass
    assert status == 401
    assert 429 in await requests.statuses(5, "GET", "/whip", "guess")


async def test_an_address_does_not_wait_for_another_but_for_its_network(
    requests: Requests,
) -> None:
    statuses = []
    for number in range(FREE_TOKENS + 5):
        address = f"2001:db8::{number}"
        statuses.append((await requests.send("GET", "/whip", "guess", address=address))[0])
    assert 429 in statuses
    for address in ("2001:db8:0:1::1", "192.0.2.1"):
        assert (await requests.send("GET", "/whip", "guess", address=address))[0] == 401


async def test_outdated_secrets_of_many_clients_behind_one_address_are_answered(
    requests: Requests,
) -> None:
    """After a restart all clients of an office come back with secrets that open nothing."""
    secret = "0f" * 32
    assert {*await requests.statuses(50, "DELETE", f"/whip/{secret}", "shared")} == {404}
    assert {*await requests.statuses(50, "DELETE", "/sessions/session", secret)} == {401}
    assert {*await requests.statuses(50, "GET", "/sessions/session/wanted", secret)} == {401}


@pytest.mark.parametrize(
    "target", ["POST /ice-candidate", "DELETE /sessions/session", "GET /sessions/session/wanted"]
)
async def test_whoever_has_no_secret_is_refused_before_the_body_is_read(
    requests: Requests, target: str
) -> None:
    head = (
        f"{target} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {STRANGE}",
        "Content-Type: application/json", "Content-Length: 1000", "", "{",
    )  # fmt: skip
    host, port = requests.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join(head).encode())
    async with asyncio.timeout(BODY_S / 2):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()
    await writer.wait_closed()


async def test_secrets_of_sessions_cannot_be_guessed_at_any_rate() -> None:
    async with serving() as requests:
        guess = ("DELETE", f"/whip/{OWN[:-1]}", "admin")
        assert {*await requests.statuses(FREE_SECRETS - 100, *guess)} == {404}
        assert 429 in await requests.statuses(400, *guess)
        assert (await requests.send("DELETE", f"/whip/{OWN}", "shared"))[0] == 200


async def test_secrets_of_answers_that_go_on_cannot_be_guessed_at_any_rate(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests.server._refusals, "_secrets", Guesses(free=3))
    path = "/sessions/session/words"
    assert await requests.statuses(3, "GET", path, STRANGE) == [401] * 3
    assert 429 in await requests.statuses(5, "GET", path, STRANGE)
    assert (await requests.send("GET", path, OWN))[0] == 200
    assert "not the secret of this session" in requests.seen.events[0].reason


async def test_health_is_told_to_strangers_and_details_to_bearers_only(
    requests: Requests,
) -> None:
    for bearer in (None, OWN, "guess"):
        for _ in range(FREE_TOKENS):
            assert (await requests.send("GET", "/health", bearer))[:2] == (200, '{"status": "ok"}')
    for bearer in TOKENS:
        _, text, _ = await requests.send("GET", "/health", bearer)
        assert '"version": "1"' in text
        assert '"sessions": 0' in text
    # it is no place to guess unnoticed
    assert 429 in await requests.statuses(5, "GET", "/whip", "guess")
    assert RequestRefused in {type(event) for event in requests.seen.events}
    assert {event.request for event in requests.seen.events} >= {"GET /health"}


async def test_without_tokens_only_this_machine_learns_the_version() -> None:
    server = http_server(FakeSessions())
    url = await server.start()
    async with aiohttp.ClientSession() as http, http.get(f"{url}/health") as answer:
        assert (await answer.json())["version"] == "1"
    await server.stop()


# -- what is told ---------------------------------------------------------------------------------


async def test_refusals_are_told_without_what_is_secret(requests: Requests) -> None:
    secret = "0f" * 32
    await requests.send("GET", "/whip", address="192.0.2.1")
    await requests.send("DELETE", f"/whip/{secret}", "shared", address="192.0.2.1")
    await requests.send("DELETE", "/sessions/session", "shared")
    await requests.send("DELETE", "/sessions/session", secret)
    await requests.send("GET", "/there/is/no/such\x07/path", "my password")
    await requests.send("GET", "/such/a/path", "shared")  # a mistake that concerns nobody
    await requests.send("POST", "/offer", "shared", data="{")
    told = [
        (event.caller.address, event.caller.token, event.status, event.request, event.count)
        for event in requests.seen.events
    ]
    assert told == [
        ("192.0.2.1", "", 401, "GET /whip", 1),
        ("192.0.2.1", "shared token", 404, "DELETE /whip/{secret}", 1),
        ("127.0.0.1", "shared token", 403, "DELETE /sessions/{id}", 1),
        ("127.0.0.1", "", 401, "DELETE /sessions/{id}", 1),
        ("127.0.0.1", "", 401, "another request", 1),
    ]
    assert "a bearer token is needed" in requests.seen.events[0].reason
    await requests.send("GET", "/api/nothing", address="192.0.2.2")
    assert "a bearer token is needed" in requests.seen.events[-1].reason
    assert secret not in repr(requests.seen.events)
    assert not re.search("password|such/a|\x07", repr(requests.seen.events))


async def test_a_flood_is_told_in_few_events_with_its_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as requests:
        for number in range(300):
            await requests.send("GET", "/whip", "guess", address=f"192.0.2.{number % 100}")
        assert len(requests.seen.events) == TOLD_KINDS + 1
    events = requests.seen.events  # the server has ended
    assert sum(event.count for event in events) == 300
    assert len(events) <= 2 * TOLD_KINDS + 2
    (others,) = [event for event in events if event.count > 100]
    assert others.caller.address == ""


async def test_the_rest_of_a_flood_is_told_when_its_minute_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("domain.session.tally.INTERVAL_S", 0.2)
    async with serving() as requests:
        await requests.statuses(5, "GET", "/whip")
        while sum(event.count for event in requests.seen.events) < 5:
            await requests.http.get(f"{requests.url}/health")
        assert requests.seen.events[-1].count > 1


@pytest.mark.parametrize("bearer", ["shared", None])
async def test_what_another_node_refuses_is_told_once(bearer: str | None) -> None:
    async with serving("another node") as requests:
        await requests.send("DELETE", "/sessions/session", "wrong", address="192.0.2.1")
        assert [(event.status, event.caller.address) for event in requests.seen.events] == [
            (401, "192.0.2.1")
        ]
        assert "not the secret of this session" in requests.seen.events[0].reason
