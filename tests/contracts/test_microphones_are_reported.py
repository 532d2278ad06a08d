"""What happened to a microphone is told by its client, and is in the ledger and in the events."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from adapters.http.capture_events import MAX_AT_ONCE, CaptureHandlers, read_events
from domain.events.server import CaptureReported
from domain.session.capture import MAX_KEPT, MAX_POSITION, CaptureChange
from domain.session.roles import ALL_ROLES
from tests.fakes.http import http_server
from tests.fakes.media import packet
from tests.rigs.node import NODE, run_in_node
from tests.unit.test_sessions_are_recorded import Server

TOKEN = "the token of the server"
AT = "2026-03-20T10:00:00.5+01:00"


@dataclass
class Client:
    """The client of a real session, whose packets and clock the test controls."""

    server: Server
    url: str
    http: aiohttp.ClientSession
    session: str
    secret: str

    async def tell(self, *events: Any, secret: str | None = None) -> tuple[int, str]:
        """Tell events; return status and reason."""
        return await self.send({"events": list(events)}, secret=secret)

    async def send(
        self, body: Any, *, session: str | None = None, secret: str | None = None
    ) -> tuple[int, str]:
        async with self.http.post(
            f"{self.url}/sessions/{session or self.session}/capture-events",
            json=body,
            headers={"Authorization": f"Bearer {self.secret if secret is None else secret}"},
        ) as answer:
            text = "" if answer.status == 204 else (await answer.json())["error"]
            return answer.status, text

    @property
    def told(self) -> list[str]:
        """What watchers were told."""
        events = self.server.seen.events
        return [event.event.what.value for event in events if isinstance(event, CaptureReported)]

    async def ledger(self) -> list[dict[str, Any]]:
        """End the session; return the events of the microphone in the ledger."""
        await self.server.sessions.delete(self.session)
        (stored,) = self.server.store.recordings.values()
        return [event for event in stored.ledger["events"] if event["type"] == "capture"]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    server = Server()
    http_side = http_server(
        server.sessions,  # type: ignore[arg-type]
        tokens={TOKEN: ALL_ROLES},
        more=[CaptureHandlers(server.sessions)],
    )
    url = await http_side.start()
    async with aiohttp.ClientSession() as http:
        accepted = await server.sessions.offer("v=0", name="Ana")
        yield Client(server, url, http, accepted.session_id, accepted.resume)
    await http_side.stop()


def event(what: str = "mute", **more: Any) -> dict[str, Any]:
    return {"type": what, "position": None, "at": AT, **more}


async def test_an_event_is_where_the_recording_is_when_it_comes(client: Client) -> None:
    client.server.receive(*(packet(n) for n in range(50)))
    arrived = client.server.clock.utc()
    told = event("stall", position=12_345, seconds=1.5, text="nothing for a while")
    assert await client.tell(told) == (204, "")
    client.server.receive(*(packet(n) for n in range(50, 60)))
    assert await client.tell(event("unmute")) == (204, "")
    assert client.told == ["stall", "unmute"]
    first, second = await client.ledger()
    assert first == {
        "type": "capture",
        "position": 48_000,
        "what": "stall",
        "client_at": "2026-03-20T09:00:00.500Z",
        "spool_position": 12_345,
        "seconds": 1.5,
        "text": "nothing for a while",
        "at": first["at"],
    }
    assert abs(datetime.datetime.fromisoformat(first["at"]) - arrived).total_seconds() < 0.01
    # what an event does not say is left out
    assert second.keys() == {"type", "position", "what", "client_at", "at"}
    assert (second["what"], second["position"]) == ("unmute", 57_600)


async def test_what_comes_before_the_first_sound_is_at_the_beginning(client: Client) -> None:
    await client.tell(event("microphone", text="Headset"), event("rate", seconds=0))
    client.server.receive(*(packet(n) for n in range(60)))
    ledger = await client.ledger()
    assert [item["what"] for item in ledger] == ["microphone", "rate"]
    # the first sound is held back until it is known how many channels there are
    assert all(item["position"] <= 0.5 * 48_000 for item in ledger)


async def test_what_comes_when_nothing_is_received_is_kept(client: Client) -> None:
    """A microphone that is gone sends nothing: that is when its client has something to tell."""
    client.server.receive(packet(1))
    client.server.clock.advance(10)
    client.server.sessions.tick()
    await client.tell(event("ended"))
    assert [item["what"] for item in await client.ledger()] == ["ended"]


@pytest.mark.parametrize("what", [change.value for change in CaptureChange])
async def test_all_that_browsers_do_to_microphones_can_be_told(client: Client, what: str) -> None:
    client.server.receive(packet(1))
    assert (await client.tell(event(what)))[0] == 204
    assert [item["what"] for item in await client.ledger()] == [what]


async def test_a_ledger_has_few_of_them_and_says_how_many_there_were(client: Client) -> None:
    client.server.receive(packet(1))
    for start in range(0, MAX_KEPT + 2 * MAX_AT_ONCE, MAX_AT_ONCE):
        batch = [event(position=start + number) for number in range(MAX_AT_ONCE)]
        assert (await client.tell(*batch))[0] == 204
    assert len(client.told) == MAX_KEPT
    ledger = await client.ledger()
    assert len(ledger) == MAX_KEPT + 1
    assert (ledger[-1]["what"], ledger[-1]["count"]) == ("left out", 2 * MAX_AT_ONCE)


async def test_a_request_that_is_repeated_tells_nothing_new(client: Client) -> None:
    client.server.receive(packet(1))
    for _ in range(3):
        await client.tell(event(position=1), event(position=2))
    assert len(client.told) == len(await client.ledger()) == 2


async def test_a_text_is_one_line_whatever_a_device_is_called(client: Client) -> None:
    client.server.receive(packet(1))
    await client.tell(event(text="\x1b[2J  a\r\nb\u2028c\x00 ä 麦克风"), event("ended", text="\n"))
    first, second = await client.ledger()
    assert first["text"] == "[2J a b c ä 麦克风"
    assert "text" not in second


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"type": "explode"}, "one of mute, unmute"),
        ({"type": None}, "one of mute"),
        ({"type": ["mute"]}, "one of mute"),
        ({"position": -1}, "a position is"),
        ({"position": MAX_POSITION + 1}, "a position is"),
        ({"position": 1.5}, "position has to be"),
        ({"position": True}, "position has to be"),
        ({"at": None}, "at has to be"),
        ({"at": "2026-03-20T10:00:00"}, "with its zone"),
        ({"at": "0001-01-01T00:00:00+23:59"}, "at has to be"),
        ({"at": "2026-03-20T10:00:00Z" + " " * 40}, "at has to be"),
        ({"seconds": -1}, "seconds are"),
        ({"seconds": 1e9}, "seconds are"),
        ({"seconds": 10**400}, "seconds"),
        ({"seconds": "1"}, "seconds has to be"),
        ({"text": "a" * 201}, "at most 200"),
        ({"text": "\ud800"}, "Unicode"),
        ({"text": 5}, "text has to be"),
        ({"count": 5}, "no field 'count'"),
    ],
)
async def test_one_wrong_event_is_refused_with_all_others(
    client: Client, wrong: dict[str, Any], reason: str
) -> None:
    client.server.receive(packet(1))
    status, text = await client.tell(event("ended"), event() | wrong)
    assert status == 400
    assert reason in text
    assert client.told == []
    assert await client.ledger() == []


@pytest.mark.parametrize(
    "body",
    [{}, {"events": {}}, {"events": [[]]}, {"events": [event()] * (MAX_AT_ONCE + 1)},
     {"events": [], "more": 1}, []],
)  # fmt: skip
async def test_what_is_no_list_of_events_is_refused(client: Client, body: Any) -> None:
    assert (await client.send(body))[0] == 400
    assert client.told == []


async def test_only_the_secret_of_its_session_opens_it(client: Client) -> None:
    other = await client.server.sessions.offer("v=0 other", name="Bo")
    for secret in (TOKEN, other.resume, "wrong", ""):
        assert (await client.tell(event(), secret=secret))[0] == 401
    assert (await client.send({"events": [event()]}, session="unknown"))[0] == 401
    assert client.told == []
    client.server.receive(packet(1), connection=0)
    await client.ledger()
    status, text = await client.tell(event())
    assert (status in (401, 404), "over" in text) == (True, True)


TELL = """
const { Telling } = await load("worker/telling.js");
const events = argument.map((text) => ({ type: "microphone", at: "AT", position: 0, text }));
const posted = [];
const kept = { events, noteTold: (count) => events.splice(0, count) };
await new Telling(kept).tell(async (some) => void posted.push(...some));
return posted;
"""


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_whatever_a_device_is_called_a_page_tells_it_as_the_server_takes_it() -> None:
    names = ["Headset", "", "long " * 100, "\U0001f3a4" * 300, "half \ud83c", "two\nlines\u202e"]
    told = run_in_node(TELL.replace("AT", AT), names)
    assert [item.text for item in read_events({"events": told})] == [
        "Headset", "", "long " * 39 + "long", "\U0001f3a4" * 200, "half \ufffd", "two lines\u202e",
    ]  # fmt: skip
