"""``/api/sessions``: the list, one, its end, and messages to its speaker."""

from __future__ import annotations

import asyncio
import datetime
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import jsonschema
import pytest

from adapters.http.api.messages import SENT_MESSAGE, MessageHandlers
from adapters.http.api.session_json import SESSION, SESSION_LIST
from adapters.http.api.sessions import SessionHandlers
from adapters.http.message_client import HttpMessages
from adapters.http.nodes import NodeClient
from adapters.http.server import ConnectionLimits
from adapters.http.sse import LAST_EVENT_ID, ServerSent, read
from adapters.placement.single import SingleNode
from domain.errors import Refusal, ServerRefused
from domain.ports.messages import IncomingMessage
from domain.ports.placement import KnownSession, Node, Placement
from domain.session.messages import MAX_CHARACTERS, MAX_KEPT, MAX_LISTENERS
from domain.session.roles import Role
from tests.fakes.http import http_server
from tests.fakes.media import packet
from tests.fakes.placement import FakePlacement
from tests.unit.test_sessions_are_recorded import Server

ADMIN, WATCHER, PUBLISHER = "an administrator", "a watcher", "a publisher"
ROLES = {
    ADMIN: frozenset({Role.ADMIN}),
    WATCHER: frozenset({Role.WATCH}),
    PUBLISHER: frozenset({Role.PUBLISH}),
}
MAX_CONNECTIONS = MAX_LISTENERS + 2
AT = datetime.datetime(2026, 3, 20, tzinfo=datetime.UTC)


@dataclass
class Api:
    """A server with real sessions whose packets and clock the test controls."""

    server: Server
    url: str
    http: aiohttp.ClientSession
    session: str = ""
    secret: str = ""

    async def call(
        self, method: str, path: str, token: str = ADMIN, **request: Any
    ) -> tuple[int, Any, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.http.request(method, self.url + path, headers=headers, **request) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None, answer.headers

    async def listen(self, after: str = "") -> aiohttp.ClientResponse:
        headers = {"Authorization": f"Bearer {self.secret}"}
        if after:
            headers[LAST_EVENT_ID] = after
        answer = await self.http.get(
            f"{self.url}/sessions/{self.session}/messages", headers=headers
        )
        assert answer.status == 200
        return answer

    async def send(self, text: str) -> dict[str, Any]:
        status, body, _ = await self.call(
            "POST", f"/api/sessions/{self.session}/messages", json={"text": text}
        )
        assert status == 202
        assert_valid(SENT_MESSAGE, body)
        return body


def assert_valid(schema: Any, body: Any) -> None:
    checker = jsonschema.FormatChecker()
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(body)


def handlers(server: Server, placement: Placement) -> list[Any]:
    return [
        SessionHandlers(server.sessions, placement=placement, nodes=NodeClient()),
        MessageHandlers(server.sessions, utc=lambda: AT),
    ]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    server = Server()
    http_side = http_server(
        server.sessions,  # type: ignore[arg-type]
        tokens=ROLES,
        more=handlers(server, SingleNode()),
        limits=ConnectionLimits(total=MAX_CONNECTIONS),
    )
    url = await http_side.start()
    async with aiohttp.ClientSession() as http:
        accepted = await server.sessions.offer("v=0", name="Küche")
        yield Api(server, url, http, accepted.session_id, accepted.resume)
    await http_side.stop()


async def first(answer: aiohttp.ClientResponse, count: int) -> list[ServerSent]:
    found: list[ServerSent] = []
    if not count:
        return found
    async with asyncio.timeout(10):
        async for event in read(answer.content):
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_the_list_tells_what_sessions_are_like(api: Api) -> None:
    api.server.receive(*(packet(n) for n in range(60) if n != 10))
    for _ in range(12):
        api.server.clock.advance(0.1)
        api.server.sessions.tick()
    status, body, _ = await api.call("GET", "/api/sessions", WATCHER)
    assert status == 200
    assert_valid(SESSION_LIST, body)
    assert body["is_complete"] is True
    (session,) = body["sessions"]
    assert (session["id"], session["name"], session["state"]) == (api.session, "Küche", "recording")
    (track,) = session["tracks"]
    assert (track["lost"], track["expected"], track["length"]) == (1, 60, 57_600)
    assert track["shares"]["received"] == pytest.approx(59 / 60)
    assert sum(track["recent_shares"].values()) == pytest.approx(1)
    assert track["levels"][0]["peak_dbfs"] < -50
    status, one, _ = await api.call("GET", f"/api/sessions/{api.session}", WATCHER)
    assert status == 200
    assert_valid(SESSION, one)
    assert one == session


async def test_silence_has_no_level_in_numbers(api: Api) -> None:
    api.server.receive(*(packet(0, sequence=n, timestamp=n * 960) for n in range(60)))
    _, body, _ = await api.call("GET", f"/api/sessions/{api.session}", WATCHER)
    assert_valid(SESSION, body)
    assert body["tracks"][0]["levels"] == [{"peak_dbfs": None, "rms_dbfs": None, "clipped": 0}]


async def test_a_session_without_packets_is_listed(api: Api) -> None:
    _, body, _ = await api.call("GET", "/api/sessions", WATCHER)
    assert_valid(SESSION_LIST, body)
    (session,) = body["sessions"]
    assert session["waits_for"].startswith("a path to its client, until ")
    assert session["tracks"][0]["recording"] is None


async def test_an_administrator_ends_a_session(api: Api) -> None:
    api.server.receive(*(packet(n) for n in range(50)))
    path = f"/api/sessions/{api.session}"
    assert (await api.call("DELETE", path, WATCHER))[0] == 403
    status, _, headers = await api.call("DELETE", path)
    assert (status, headers["Gapless-Seconds"]) == (204, "1.000000")
    assert (await api.call("GET", path, WATCHER))[0] == 404
    assert (await api.call("GET", "/api/sessions"))[1]["sessions"] == []


@pytest.mark.parametrize("session", ["nobody", "../health", "%2e%2e", "a" * 300])
async def test_unknown_sessions_are_problems(api: Api, session: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/messages")):
        more = {"json": {"text": "x"}} if method == "POST" else {}
        status, body, _ = await api.call(method, f"/api/sessions/{session}{path}", **more)
        assert status in (404, 405)
        assert body["status"] == status


@pytest.mark.parametrize("token", ["", "wrong", PUBLISHER])
async def test_others_learn_nothing(api: Api, token: str) -> None:
    expected = 403 if token == PUBLISHER else 401
    for method, path in (
        ("GET", "/api/sessions"),
        ("GET", f"/api/sessions/{api.session}"),
        ("DELETE", f"/api/sessions/{api.session}"),
        ("POST", f"/api/sessions/{api.session}/messages"),
    ):
        assert (await api.call(method, path, token))[0] == expected


# -- messages --------------------------------------------------------------------------------------


async def test_a_speaker_gets_messages_at_once(api: Api) -> None:
    answer = await api.listen()
    assert answer.content_type == "text/event-stream"
    sent = await api.send("closer to the microphone, please")
    assert sent["listeners"] == 1
    (event,) = await first(answer, 1)
    assert (event.event, event.id) == ("message", sent["id"])
    assert json.loads(event.data)["text"] == "closer to the microphone, please"
    answer.close()


async def test_a_client_that_was_away_gets_what_it_has_missed(api: Api) -> None:
    sent = [await api.send(f"number {n}") for n in range(MAX_KEPT + 5)]
    assert {item["listeners"] for item in sent} == {0}
    answer = await api.listen()
    events = await first(answer, MAX_KEPT)
    assert [json.loads(event.data)["text"] for event in events] == [
        f"number {n}" for n in range(5, MAX_KEPT + 5)
    ]
    answer.close()
    answer = await api.listen(after=events[-3].id)
    assert await first(answer, 2) == events[-2:]
    answer.close()


async def test_a_stream_ends_with_its_session_or_when_too_many_listen(api: Api) -> None:
    oldest, *others = [await api.listen() for _ in range(MAX_LISTENERS + 1)]
    async with asyncio.timeout(10):
        await oldest.read()
        assert (await api.send("still there?"))["listeners"] == MAX_LISTENERS
        await api.server.sessions.delete(api.session)
        for answer in others:
            assert b"still there?" in await answer.read()


async def test_a_listener_that_goes_is_forgotten(api: Api) -> None:
    (await api.listen()).close()
    async with asyncio.timeout(10):
        while (await api.send("x"))["listeners"]:
            await asyncio.sleep(0.01)


async def test_who_listens_gives_way_to_newcomers(api: Api) -> None:
    other = await api.server.sessions.offer("v=1", name="other")
    second = Api(api.server, api.url, api.http, other.session_id, other.resume)
    listening = [await listener.listen() for listener in (api, second) for _ in range(2)]
    assert len(listening) == MAX_CONNECTIONS
    async with aiohttp.ClientSession() as http, asyncio.timeout(10):
        async with http.get(f"{api.url}/health") as answer:  # over a connection of its own
            assert answer.status == 200
        ended = [asyncio.ensure_future(stream.read()) for stream in listening]
        done, others = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
    assert [type(future.exception()) for future in done] == [aiohttp.ClientPayloadError]
    for future in others:
        future.cancel()


async def test_a_client_of_the_server_gets_messages(api: Api) -> None:
    client = HttpMessages(api.url)
    first_sent = await api.send("first")
    listening = client.listen(api.session, api.secret)
    assert await anext(listening) == IncomingMessage(first_sent["id"], "first")
    await api.send("über 🎤")
    assert (await anext(listening)).text == "über 🎤"
    await api.server.sessions.delete(api.session)
    async with asyncio.timeout(10):
        assert [message async for message in listening] == []
    with pytest.raises(ServerRefused) as refused:
        await anext(client.listen(api.session, api.secret))
    assert refused.value.refusal is Refusal.FINAL
    await client.close()


async def test_only_the_secret_of_a_session_opens_its_messages(api: Api) -> None:
    path = f"/sessions/{api.session}/messages"
    for token in ("", ADMIN, "wrong"):
        assert (await api.call("GET", path, token))[0] == 401
    assert (await api.call("GET", "/sessions/other/messages", api.secret))[0] == 401
    assert (await api.call("HEAD", path, api.secret))[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        {"text": ""},
        {"text": "  "},
        {"text": "x" * (MAX_CHARACTERS + 1)},
        {"text": "bell\x07"},
        {"text": "two\nlines"},
        {"text": "half \ud800"},
        {"text": 5},
        {},
        [],
    ],
)
async def test_what_cannot_be_shown_is_refused(api: Api, body: Any) -> None:
    status, problem, _ = await api.call("POST", f"/api/sessions/{api.session}/messages", json=body)
    assert (status, problem["status"]) == (400, 400)


async def test_any_script_can_be_shown(api: Api) -> None:
    text = "näher ran, bitte \N{FAMILY}\u200d — 近づいてください"
    await api.send(text)
    answer = await api.listen()
    (event,) = await first(answer, 1)
    assert json.loads(event.data)["text"] == text
    answer.close()


# -- several workers -------------------------------------------------------------------------------


async def test_each_node_lists_the_sessions_of_all() -> None:
    with tempfile.TemporaryDirectory() as folder:
        nodes = [Node(f"{folder}/a"), Node(f"{folder}/b")]
        servers, sides, ids = [Server(), Server()], [], []
        for n, server in enumerate(servers):
            server.sessions._new_secret = lambda size, n=n: f"{n + 5:0{size}d}"  # type: ignore[misc]
            ids.append((await server.sessions.offer("v=0", name=f"node {n}")).session_id)
        for n, server in enumerate(servers):
            elsewhere = {KnownSession(ids[1 - n]): nodes[1 - n]}
            placement = FakePlacement(nodes[n], nodes[1 - n], elsewhere)
            side = http_server(
                server.sessions,  # type: ignore[arg-type]
                tokens=ROLES,
                placement=placement,
                more=handlers(server, placement),
            )
            sides.append(side)
        urls = [await side.start() for side in sides]
        async with aiohttp.ClientSession() as http:
            first, second = (Api(servers[n], urls[n], http) for n in (0, 1))
            for asked in (first, second):
                status, body, _ = await asked.call("GET", "/api/sessions", WATCHER)
                assert status == 200
                assert_valid(SESSION_LIST, body)
                assert {item["id"] for item in body["sessions"]} == set(ids)
                assert body["is_complete"] is True
            assert (await first.call("GET", f"/api/sessions/{ids[1]}"))[1]["name"] == "node 1"
            path = f"/api/sessions/{ids[1]}/messages"
            assert (await first.call("POST", path, json={"text": "hello"}))[0] == 202
            assert servers[1].sessions.mailbox_of(ids[1]).after(0)
            await sides[1].stop()
            _, body, _ = await first.call("GET", "/api/sessions")
            assert [item["id"] for item in body["sessions"]] == [ids[0]]
            assert body["is_complete"] is False
        await sides[0].stop()


async def test_a_node_that_is_asked_by_another_sees_no_token_of_a_client() -> None:
    with tempfile.TemporaryDirectory() as folder:
        nodes = [Node(f"{folder}/a"), Node(f"{folder}/b")]
        servers, sides, ids = [Server(), Server()], [], []
        for n, server in enumerate(servers):
            server.sessions._new_secret = lambda size, n=n: f"{n + 5:0{size}d}"  # type: ignore[misc]
            ids.append((await server.sessions.offer("v=0", name=f"node {n}")).session_id)
            placement = FakePlacement(nodes[n], nodes[1 - n], {})
            side = http_server(
                server.sessions,  # type: ignore[arg-type]
                # it would refuse the token that the first one knows
                tokens=ROLES if n == 0 else {"another": frozenset({Role.ADMIN})},
                placement=placement,
                more=handlers(server, placement),
            )
            sides.append(side)
        urls = [await side.start() for side in sides]
        async with aiohttp.ClientSession() as http:
            _, body, _ = await Api(servers[0], urls[0], http).call("GET", "/api/sessions", WATCHER)
        assert {item["id"] for item in body["sessions"]} == set(ids)
        assert body["is_complete"] is True
        for side in sides:
            await side.stop()
