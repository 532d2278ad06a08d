"""A request reaches the node of its session, whichever node gets it first."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from adapters.http.server import SignalingServer
from domain.errors import NodeUnavailable
from domain.ports.placement import KnownSession, NewOffer, Node
from domain.session.placement import id_of
from tests.fakes.http import FakeSessions, http_server
from tests.fakes.placement import FakePlacement

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}


@dataclass
class Pair:
    """Two nodes, and a client of the first one."""

    here: FakeSessions
    there: FakeSessions
    placement: FakePlacement
    other: SignalingServer
    url: str
    http: aiohttp.ClientSession

    async def send(self, method: str, path: str, **request: Any) -> tuple[int, Any, Any]:
        async with self.http.request(method, self.url + path, **request) as response:
            return response.status, await response.text(), response.headers


def opened_by(secret: str) -> KnownSession:
    """Return the session that a secret opens."""
    return KnownSession(id_of(secret))


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """Two nodes. The session `there` and the offer `new` belong to the other one.

    The other node believes that they belong to the first: it must not send requests back.
    """
    with tempfile.TemporaryDirectory() as folder:  # names of Unix sockets have to be short
        here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
        keys = (KnownSession("there"), opened_by("there"), NewOffer("new"))
        gone = {KnownSession("gone"): NodeUnavailable("its worker is being restarted")}
        placement = FakePlacement(here, there, dict.fromkeys(keys, there) | gone)
        own, others = FakeSessions(recording=2), FakeSessions(recording=3, interrupted=1)
        first = http_server(own, placement=placement)
        second = http_server(
            others, placement=FakePlacement(there, here, dict.fromkeys(keys, here))
        )
        url = await first.start()
        await second.start()
        async with aiohttp.ClientSession() as http:
            yield Pair(own, others, placement, second, url, http)
        await first.stop()
        await second.stop()


async def test_the_other_node_knows_who_sends_a_request(pair: Pair) -> None:
    headers = {"X-Forwarded-For": "203.0.113.7"}  # a stranger's word counts for nothing
    assert (await pair.send("POST", "/offer", **offer(sdp="new"), headers=headers))[0] == 200
    assert [caller.address for caller in pair.there.callers] == ["127.0.0.1"]


def offer(**body: Any) -> dict[str, Any]:
    return {"json": {"sdp": "known", "type": "offer"} | body}


def resuming(secret: str) -> dict[str, Any]:
    return {"data": "new", "headers": SDP | {"Gapless-Resume": secret}}


@pytest.mark.parametrize(
    ("method", "path", "request_", "key"),
    [
        ("POST", "/offer", offer(sdp="new"), NewOffer("new")),
        ("POST", "/offer", offer(resume="there"), opened_by("there")),
        ("POST", "/offer", offer(sdp="new", resume=""), NewOffer("new")),
        ("POST", "/offer", offer(sdp="new", resume="here"), opened_by("here")),
        ("POST", "/offer", offer(), NewOffer("known")),
        ("POST", "/whip", {"data": "new", "headers": SDP}, NewOffer("new")),
        ("POST", "/whip", {"data": "known", "headers": SDP}, NewOffer("known")),
        ("POST", "/whip", resuming("there"), opened_by("there")),
        ("POST", "/whip", resuming("here"), opened_by("here")),
        ("POST", "/whip", resuming(""), NewOffer("new")),
    ],
)
async def test_an_offer_goes_to_the_node_that_has_or_gets_its_session(
    pair: Pair, method: str, path: str, request_: Any, key: NewOffer | KnownSession
) -> None:
    status, _, _ = await pair.send(method, path, **request_)
    assert status in (200, 201)
    assert pair.placement.asked == [key]
    is_there = key in (NewOffer("new"), opened_by("there"))
    assert (len(pair.here.offers), len(pair.there.offers)) == (not is_there, is_there)


@pytest.mark.parametrize("where", ["here", "there"])
async def test_requests_for_a_session_go_to_its_node(pair: Pair, where: str) -> None:
    sessions = pair.here if where == "here" else pair.there
    candidate = {"id": where, "candidate": "candidate:1"}
    assert (await pair.send("POST", "/ice-candidate", json=candidate))[0] == 204
    assert [found for found, _ in sessions.candidates] == [where]
    assert (await pair.send("DELETE", f"/sessions/{where}"))[0] == 204
    assert sessions.deleted == [where]
    for method in ("GET", "DELETE"):
        assert (await pair.send(method, f"/whip/{where}"))[0] == 404
    assert (await pair.send("PATCH", f"/whip/{where}", data="", headers=FRAGMENT))[0] == 404
    assert sessions.searched == [where] * 3
    assert pair.placement.asked == [KnownSession(where)] * 2 + [opened_by(where)] * 3


async def test_an_answer_is_returned_unchanged(pair: Pair) -> None:
    headers = SDP | {"Origin": "http://localhost"}
    answers = [await pair.send("POST", "/whip", data=sdp, headers=headers) for sdp in ("new", "x")]
    for status, text, got in answers:
        assert (status, text) == (201, "v=0 answer")
        assert got["Content-Type"] == "application/sdp"
        assert (got["Location"], got["ETag"]) == ("/whip/secret", '"tag"')
        assert got["Gapless-Session"] == "session"
        assert got.getall("Access-Control-Allow-Origin") == ["http://localhost"]
        assert got.getall("Vary") == ["Origin"]
    pair.there.deleted.append("there")
    status, text, _ = await pair.send("DELETE", "/sessions/there")
    assert (status, text) == (404, '{"error": "over"}')


async def test_a_request_that_names_no_session_is_refused_at_once(pair: Pair) -> None:
    for body in ("{", "[]", '{"sdp": 5}', '{"resume": 5, "type": "offer"}'):
        headers = {"Content-Type": "application/json"}
        assert (await pair.send("POST", "/offer", data=body, headers=headers))[0] == 400
        assert (await pair.send("POST", "/ice-candidate", data=body, headers=headers))[0] == 400
    assert (await pair.send("POST", "/whip", data="x" * 400_000, headers=SDP))[0] == 413
    assert (await pair.send("PUT", "/offer", data="{"))[0] == 405
    assert (await pair.send("OPTIONS", "/offer"))[0] == 200
    assert (await pair.send("GET", "/whip"))[0] == 204
    assert pair.placement.asked == []


async def test_a_missing_node_is_reported_until_it_is_back(pair: Pair) -> None:
    await pair.other.stop()
    for path in ("/sessions/there", "/sessions/gone"):
        status, text, headers = await pair.send("DELETE", path)
        assert (status, headers["Retry-After"]) == (503, "5")
        assert "is being restarted" in text
    assert (await pair.send("DELETE", "/sessions/here"))[0] == 204


async def test_health_counts_the_sessions_of_all_nodes_that_answer(pair: Pair) -> None:
    async def health() -> Any:
        async with pair.http.get(f"{pair.url}/health") as response:
            return await response.json()

    found = await health()
    assert found == {
        "status": "ok", "version": "1", "sessions": 6, "states": {"recording": 5, "interrupted": 1},
    }  # fmt: skip
    await pair.other.stop()
    assert (await health())["states"] == {"recording": 2}


@asynccontextmanager
async def frozen(pair: Pair) -> AsyncIterator[asyncio.Event]:
    """Replace the other node by one that accepts requests and never answers.

    The event is set when a request has arrived there.
    """
    arrived, over = asyncio.Event(), asyncio.Event()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await over.wait()
        writer.close()

    await pair.other.stop()
    (node,) = pair.placement.others()
    server = await asyncio.start_unix_server(accept, node.address)
    yield arrived
    over.set()
    server.close()


async def test_an_offer_whose_node_freezes_goes_to_another(pair: Pair) -> None:
    async with frozen(pair) as arrived:
        sending = asyncio.create_task(pair.send("POST", "/whip", data="new", headers=SDP))
        await arrived.wait()
        pair.placement.elsewhere.clear()  # the placement has noticed
        assert (await sending)[0] == 201
    assert pair.here.offers == [("new", "")]


async def test_a_request_for_a_session_whose_node_freezes_is_refused_for_now(pair: Pair) -> None:
    async with frozen(pair) as arrived:
        sending = asyncio.create_task(pair.send("DELETE", "/sessions/there"))
        await arrived.wait()
        unavailable = NodeUnavailable("it does not respond")
        pair.placement.elsewhere[KnownSession("there")] = unavailable
        status, text, headers = await sending
        assert (status, headers["Retry-After"]) == (503, "5")
        assert "does not respond" in text
    assert pair.here.deleted == []


async def test_an_offer_is_placed_again_when_its_node_is_gone(pair: Pair) -> None:
    await pair.other.stop()
    sending = asyncio.create_task(pair.send("POST", "/whip", data="new", headers=SDP))
    while not pair.placement.asked:
        await asyncio.sleep(0.01)
    pair.placement.elsewhere[NewOffer("new")] = NodeUnavailable("its assigner has ended, too")
    while len(pair.placement.asked) < 3:
        await asyncio.sleep(0.01)
    pair.placement.elsewhere.clear()
    assert (await sending)[0] == 201
    assert pair.here.offers == [("new", "")]
