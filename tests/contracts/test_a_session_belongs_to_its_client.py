"""Where a server has a token, only the session's secret or an administrator changes a session."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator

import aiohttp
import pytest

from adapters.http.client import HttpSignaling
from domain.errors import Refusal, ServerRefused
from domain.ports.placement import KnownSession, Node
from domain.session.ice import IceCandidate
from domain.session.placement import id_of
from domain.session.roles import ALL_ROLES, SHARED_TOKEN_ROLES
from tests.fakes.http import FakeSessions, http_server
from tests.fakes.placement import FakePlacement

TOKENS = {"shared": SHARED_TOKEN_ROLES, "admin": ALL_ROLES}
OPENS = {"secret": "session", "other secret": "other session"}
CANDIDATE = IceCandidate("candidate:1", "0", 0)


class Requests:
    """A server with tokens, and requests to it."""

    def __init__(self, url: str, http: aiohttp.ClientSession, sessions: FakeSessions) -> None:
        self.url = url
        self.http = http
        self.sessions = sessions

    async def delete(self, bearer: str | None) -> tuple[int, str]:
        async with self.http.delete(f"{self.url}/sessions/session", headers=head(bearer)) as answer:
            return answer.status, await answer.text()

    async def add_candidate(self, bearer: str | None) -> tuple[int, str]:
        body = {"id": "session", "candidate": "candidate:1"}
        async with self.http.post(
            f"{self.url}/ice-candidate", json=body, headers=head(bearer)
        ) as answer:
            return answer.status, await answer.text()


def head(bearer: str | None) -> dict[str, str]:
    return {} if bearer is None else {"Authorization": f"Bearer {bearer}"}


@pytest.fixture(params=["one process", "another node"])
async def requests(request: pytest.FixtureRequest) -> AsyncIterator[Requests]:
    """A server whose session `session` is here, or on another node that requests go through."""
    sessions = FakeSessions(opens=OPENS)
    async with aiohttp.ClientSession() as http:
        if request.param == "one process":
            server = http_server(sessions, tokens=TOKENS)
            yield Requests(await server.start(), http, sessions)
            await server.stop()
            return
        with tempfile.TemporaryDirectory() as folder:  # names of Unix sockets have to be short
            here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
            keys = [KnownSession(name) for name in ("session", *map(id_of, OPENS))]
            first = http_server(
                FakeSessions(),
                tokens=TOKENS,
                placement=FakePlacement(here, there, dict.fromkeys(keys, there)),
            )
            second = http_server(sessions, tokens=TOKENS, placement=FakePlacement(there, here, {}))
            url = await first.start()
            await second.start()
            yield Requests(url, http, sessions)
            await first.stop()
            await second.stop()


@pytest.mark.parametrize(
    ("bearer", "status", "reason"),
    [
        ("shared", 403, "lacks the role 'admin'; the session's own secret is enough"),
        ("other secret", 401, "not the secret of this session"),
        ("wrong", 401, "not the secret of this session"),
        (None, 401, "a bearer token is needed"),
    ],
)
async def test_an_id_and_the_shared_token_are_not_enough(
    requests: Requests, bearer: str | None, status: int, reason: str
) -> None:
    for answered, text in (await requests.delete(bearer), await requests.add_candidate(bearer)):
        assert answered == status
        assert reason in text
    assert (requests.sessions.deleted, requests.sessions.candidates) == ([], [])


@pytest.mark.parametrize("bearer", ["secret", "admin"])
async def test_the_secret_and_an_administrators_token_are_enough(
    requests: Requests, bearer: str
) -> None:
    assert (await requests.add_candidate(bearer))[0] == 204
    assert (await requests.delete(bearer))[0] == 204
    assert requests.sessions.deleted == ["session"]
    assert [found for found, _ in requests.sessions.candidates] == ["session"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Authorization: Bearer \xff", b"401"),
        (b"Authorization: Bearer secret\r\nX-Strange: \xff", b"204"),
    ],
)
async def test_headers_may_have_bytes_that_are_not_utf_8(
    requests: Requests, headers: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = requests.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"DELETE /sessions/session HTTP/1.1\r\nHost: localhost\r\n" + headers)
    writer.write(b"\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readline()).split()[1] == status
    writer.close()
    assert not caplog.records


async def test_a_secret_opens_no_other_route(requests: Requests) -> None:
    offer = {"sdp": "v=0", "type": "offer"}
    async with requests.http.post(
        f"{requests.url}/offer", json=offer, headers=head("secret")
    ) as answer:
        assert answer.status == 401


async def test_without_a_token_the_id_is_enough() -> None:
    sessions = FakeSessions()
    server = http_server(sessions)
    async with aiohttp.ClientSession() as http:
        requests = Requests(await server.start(), http, sessions)
        for bearer in (None, "anything"):
            assert (await requests.add_candidate(bearer))[0] == 204
        assert (await requests.delete(None))[0] == 204
    await server.stop()


async def test_the_client_shows_the_secret_of_its_session(requests: Requests) -> None:
    client = HttpSignaling(server=requests.url, token="shared")
    with pytest.raises(ServerRefused, match="403") as refused:
        await client.delete("session")  # this client has not opened it
    assert refused.value.refusal is Refusal.FINAL
    answer = await client.offer("v=0", name="")
    await client.send_candidate(answer.session_id, CANDIDATE)
    assert await client.delete(answer.session_id) == 1.0
    assert requests.sessions.candidates == [("session", CANDIDATE)]
    await client.close()


async def test_a_client_ends_the_session_of_a_killed_one_with_its_secret(
    requests: Requests,
) -> None:
    client = HttpSignaling(server=requests.url, token="shared")
    assert await client.delete("session", resume="wrong") is None  # it is over, for this secret
    assert not requests.sessions.deleted
    assert await client.delete("session", resume="secret") == 1.0
    assert requests.sessions.deleted == ["session"]
    await client.close()


async def test_for_the_client_a_secret_that_is_forgotten_means_that_the_session_is_over() -> None:
    server = http_server(FakeSessions(), tokens=TOKENS)
    client = HttpSignaling(server=await server.start(), token="shared")
    answer = await client.offer("v=0", name="")
    assert await client.delete(answer.session_id) is None
    await client.close()
    await server.stop()


async def test_a_stranger_is_refused_before_the_body_arrives() -> None:
    server = http_server(FakeSessions(opens=OPENS), tokens=TOKENS)
    url = await server.start()
    async with aiohttp.ClientSession() as http:

        async def endless() -> AsyncIterator[bytes]:
            yield b"{"
            raise AssertionError("the server waits for the whole body")

        headers = head("wrong") | {"Content-Type": "application/json", "Expect": "100-continue"}
        async with http.post(f"{url}/ice-candidate", data=endless(), headers=headers) as answer:
            assert answer.status == 401
    await server.stop()
