"""A page that speaks WHIP says where its spool is, and goes on with its session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import aiohttp
import pytest
from multidict import CIMultiDict

from domain.recording.ledger import RestoreMode
from domain.recording.restoring import SpoolInfo
from domain.sound.formats import AudioFormat
from tests.fakes.http import FakeSessions, http_server

ORIGIN = "http://localhost"
SPOOL = {
    "rtp_timestamp": 7,
    "sample_rate_hz": 44_100,
    "channels": 1,
    "sample_format": "s16",
    "restore": "all",
}


@dataclass
class Served:
    url: str
    http: aiohttp.ClientSession
    sessions: FakeSessions

    async def publish(self, *headers: tuple[str, str]) -> tuple[int, str, CIMultiDict[str]]:
        given = CIMultiDict([("Content-Type", "application/sdp"), ("Origin", ORIGIN), *headers])
        async with self.http.post(f"{self.url}/whip", data="v=0", headers=given) as answer:
            return answer.status, await answer.text(), CIMultiDict(answer.headers)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    sessions = FakeSessions()
    server = http_server(sessions)
    url = await server.start()
    async with aiohttp.ClientSession() as http:
        yield Served(url, http, sessions)
    await server.stop()


async def test_an_offer_says_what_its_spool_is(served: Served) -> None:
    status, _, answered = await served.publish(("Gapless-Spool", json.dumps(SPOOL)))
    assert status == 201
    assert served.sessions.spools == [SpoolInfo(7, AudioFormat(44_100, 1), RestoreMode.ALL)]
    assert served.sessions.resumed == [None]
    # the routes of the spool need the id, and a page of another origin has to be able to read it
    assert answered["Gapless-Session"] == "session"
    assert "Gapless-Session" in answered["Access-Control-Expose-Headers"].split(", ")


async def test_a_session_goes_on_over_a_new_connection(served: Served) -> None:
    headers = [("Gapless-Spool", json.dumps(SPOOL)), ("Gapless-Resume", "its secret")]
    assert (await served.publish(*headers))[0] == 201
    assert served.sessions.resumed == ["its secret"]
    assert len(served.sessions.spools) == 1
    assert served.sessions.spools[0] is not None


async def test_other_publishers_need_no_headers(served: Served) -> None:
    assert (await served.publish())[0] == 201
    assert (await served.publish(("Gapless-Resume", ""), ("Gapless-Spool", "")))[0] == 201
    assert served.sessions.spools == served.sessions.resumed == [None, None]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([("Gapless-Spool", "{")], "Gapless-Spool is not JSON"),
        ([("Gapless-Spool", "[" * 3000)], "Gapless-Spool is not JSON"),
        ([("Gapless-Spool", "1" * 5000)], "Gapless-Spool is not JSON"),
        ([("Gapless-Spool", "[]")], "Gapless-Spool: spool has to be an object"),
        ([("Gapless-Spool", "{}")], "Gapless-Spool: spool.sample_format has to be one of"),
        ([("Gapless-Spool", json.dumps(SPOOL | {"channels": 9}))], "spool.channels has to be"),
        ([("Gapless-Spool", json.dumps(SPOOL))] * 2, "Gapless-Spool may be there once"),
        ([("Gapless-Resume", "a"), ("Gapless-Resume", "b")], "Gapless-Resume may be there once"),
    ],
)
async def test_headers_that_cannot_be_read_are_refused_with_the_reason(
    served: Served, headers: Sequence[tuple[str, str]], reason: str
) -> None:
    status, text, _ = await served.publish(*headers)
    assert status == 400
    assert reason in json.loads(text)["error"]
    assert served.sessions.offers == []


@pytest.mark.parametrize("name", ["Gapless-Spool", "Gapless-Resume"])
async def test_a_header_that_is_not_unicode_is_refused(served: Served, name: str) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST /whip HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: 3\r\n{name}: "
    )
    writer.write(head.encode() + b"\xff\xfe\r\n\r\nv=0")
    answer = (await asyncio.wait_for(reader.read(), 20)).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 400")
    assert f"{name} has text that is not Unicode" in answer
    assert served.sessions.offers == []


async def test_a_page_of_another_origin_may_send_the_headers(served: Served) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    async with served.http.options(f"{served.url}/whip", headers=asked) as answer:
        allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Gapless-Spool", "Gapless-Resume"} <= set(allowed)
