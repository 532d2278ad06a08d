"""Watchers get the events as they happen, and may come back; one that does not read is cut off."""

from __future__ import annotations

import asyncio
import math
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
import pytest

from adapters.events.dispatcher import EventDispatcher
from adapters.http import streams
from adapters.http.api import event_log, events, watchers
from adapters.http.api.events import EventHandlers
from adapters.http.api.hub import EventHub
from adapters.http.nodes import NodeClient
from adapters.http.server import SignalingServer
from adapters.placement.single import SingleNode
from domain.events.server import (
    SessionEnded,
    SessionOpened,
    SessionStateChanged,
    StorageDelayed,
    StorageWritable,
)
from domain.ports.placement import Node, Placement
from domain.recording.effects import EndReason
from domain.recording.ledger import SampleKind
from domain.services.server.tokens import TokenService
from domain.session.caller import UNKNOWN
from domain.session.grants import Grant
from domain.session.roles import Role
from domain.session.session import SessionState
from tests.fakes.http import FakeSessions, http_server, token_service
from tests.fakes.placement import FakePlacement
from tests.fakes.watching import status_of
from tests.rigs.watching import Following, following

WATCHER, PUBLISHER = "a watcher", "a publisher"


@dataclass
class Served:
    """A server, its hub, and what publishes events in it."""

    url: str
    hub: EventHub
    events: EventDispatcher
    server: SignalingServer
    http: aiohttp.ClientSession


@asynccontextmanager
async def serving(
    *,
    placement: Placement | None = None,
    max_watchers: int = 10,
    tokens: bool = False,
    signed: TokenService | None = None,
) -> AsyncIterator[Served]:
    hub, nodes = EventHub(), NodeClient()
    dispatcher = EventDispatcher([hub])
    placement = placement or SingleNode()
    handlers = EventHandlers(hub, placement=placement, nodes=nodes, max_watchers=max_watchers)
    roles = {WATCHER: frozenset({Role.WATCH}), PUBLISHER: frozenset({Role.PUBLISH})}
    server = http_server(
        FakeSessions(),
        placement=placement,
        more=[handlers],
        tokens=roles if tokens else None,
        signed=signed,
    )
    hub.open()
    async with aiohttp.ClientSession() as http:
        yield Served(await server.start(), hub, dispatcher, server, http)
    hub.close()
    await server.stop()
    await nodes.close()
    dispatcher.close()


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Served, Served]]:
    """Two nodes of one server."""
    with tempfile.TemporaryDirectory() as folder:
        here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
        async with (
            serving(placement=FakePlacement(here, there, {})) as first,
            serving(placement=FakePlacement(there, here, {})) as second,
        ):
            yield first, second


def opened(session: str) -> SessionOpened:
    return SessionOpened(session, "Ana\n\x1b", UNKNOWN)


async def ids(client: Following, count: int) -> list[str]:
    """Return the sessions of the next events."""
    return [(await client.next())[1]["session"] for _ in range(count)]


async def test_events_come_with_type_time_and_id() -> None:
    async with serving() as served, following(served.http, served.url) as client:
        served.events.publish(opened("s1"))
        kind, data = await client.next()
        assert (kind, data["session"], data["name"]) == ("session.opened", "s1", "Ana\n\x1b")
        assert data["id"] == client.latest_id == f"{served.hub.log.epoch}-1"
        served.events.publish(SessionEnded("s1", EndReason.INACTIVE, "why"))
        kind, data = await client.next()
        assert (kind, data["reason"], data["detail"]) == ("session.ended", "inactive", "why")


async def test_what_was_missed_is_sent_behind_the_last_event() -> None:
    async with serving() as served:
        async with following(served.http, served.url) as client:
            for number in range(3):
                served.events.publish(opened(f"s{number}"))
            assert await ids(client, 2) == ["s0", "s1"]
            last = client.latest_id
        served.events.publish(opened("s3"))
        async with following(served.http, served.url, last=last) as client:
            assert await ids(client, 2) == ["s2", "s3"]
            served.events.publish(opened("s4"))
            assert await ids(client, 1) == ["s4"]


async def test_nothing_is_lost_or_doubled_while_a_client_comes_back() -> None:
    async with serving() as served:
        async with following(served.http, served.url) as client:
            served.events.publish(opened("0"))
            await client.next()
            last = client.latest_id
        got = ["0"]
        for beginning in range(1, 200, 20):
            for number in range(beginning, beginning + 20):
                served.events.publish(opened(f"{number}"))
            async with following(served.http, served.url, last=last) as client:
                got += await ids(client, 10)
                last = client.latest_id
        async with following(served.http, served.url, last=last) as client:
            got += await ids(client, 201 - len(got))
        assert got == [f"{number}" for number in range(201)]


@pytest.mark.parametrize("count", [event_log.KEPT, event_log.KEPT + 1])
async def test_who_comes_back_too_late_is_told(count: int) -> None:
    async with serving() as served:
        async with following(served.http, served.url) as client:
            served.events.publish(opened("first"))
            await client.next()
            last = client.latest_id
        async with following(served.http, served.url) as client:
            for number in range(count):
                served.events.publish(opened(f"{number}"))
                if number % 50 == 0 and number < count - 1:
                    await client.wait_for("session.opened", session=f"{number}")
            await client.wait_for("session.opened", session=f"{count - 1}")
        async with following(served.http, served.url, last=last) as client:
            kind, data = await client.next()
            if count > event_log.KEPT:
                assert (kind, data) == ("missed", {"count": None})
                kind, data = await client.next()
            assert (kind, data["session"]) == ("session.opened", f"{count - event_log.KEPT}")


async def test_an_id_of_a_server_that_has_ended_is_missed_and_not_nothing() -> None:
    async with serving() as served:
        served.events.publish(opened("new"))
        async with following(served.http, served.url, last="0badcafe-7") as client:
            assert await client.next() == ("missed", {"count": None})
            assert await ids(client, 1) == ["new"]


async def test_types_and_sessions_are_filtered() -> None:
    async with (
        serving() as served,
        following(served.http, served.url, types="session.ended,storage.writable") as ended,
        following(served.http, served.url, session="b") as of_b,
    ):
        for session in ("a", "b"):
            served.events.publish(opened(session))
            served.events.publish(SessionStateChanged(session, SessionState.RECORDING))
        served.events.publish(StorageDelayed("no space"))
        for session in ("a", "b"):
            served.events.publish(SessionEnded(session, EndReason.CLOSED))
        served.events.publish(StorageWritable(1.5))
        assert [(await ended.next())[0] for _ in range(3)] == [
            "session.ended", "session.ended", "storage.writable",
        ]  # fmt: skip
        assert [(await of_b.next())[0] for _ in range(3)] == [
            "session.opened", "session.changed", "session.ended",
        ]  # fmt: skip


async def test_levels_come_to_whoever_asks_for_them() -> None:
    quiet = status_of("quiet", rms_dbfs=-math.inf)
    async with (
        serving() as served,
        following(served.http, served.url, levels="true") as meter,
        following(served.http, served.url, levels="true", session="loud") as one,
        following(served.http, served.url) as other,
    ):
        served.hub.show([quiet, status_of("loud")])
        served.events.publish(opened("s"))
        data = await meter.wait_for("levels")
        assert [item["session"] for item in data["sessions"]] == ["quiet", "loud"]
        (channel,) = data["sessions"][0]["tracks"][0]["channels"]
        assert channel == {"peak_dbfs": None, "rms_dbfs": None, "clipped": 0}
        kinds = {SampleKind.RECEIVED: 47_040, SampleKind.SILENCE: 960}
        (track,) = status_of("lossy").tracks
        served.hub.show([status_of("lossy", tracks=(replace(track, kinds=kinds),))])
        (lossy,) = (await meter.wait_for("levels"))["sessions"]
        samples = lossy["tracks"][0]["samples"]
        assert (samples["received"], samples["silence"], samples["dtx"]) == (47_040, 960, 0)
        (session,) = (await one.wait_for("levels"))["sessions"]
        assert session["session"] == "loud"
        assert (await other.next())[0] == "session.opened"


@pytest.mark.parametrize(
    ("query", "last", "text"),
    [
        ({"types": "session.opened,nonsense"}, "", "no events of the type 'nonsense'"),
        ({"levels": "1"}, "", "levels is neither true nor false"),
        ({}, "what", "is not the id of an event"),
        ({}, "0badcafe-1." * 2000 + "0badcafe-1", "is not the id of an event"),
    ],
)
async def test_what_cannot_be_understood_is_refused(
    query: dict[str, str], last: str, text: str
) -> None:
    headers = {"Last-Event-ID": last[:8000]} if last else {}
    async with serving() as served:
        url = f"{served.url}/api/events"
        async with served.http.get(url, params=query, headers=headers) as answer:
            assert answer.status == 400
            assert text in (await answer.json())["detail"]
        assert served.hub.clients() == []


async def test_a_watcher_needs_the_role_and_a_place() -> None:
    async with serving(max_watchers=1, tokens=True) as served, AsyncExitStack() as watching:
        url = f"{served.url}/api/events"
        for token, status in (("", 401), (PUBLISHER, 403)):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with served.http.get(url, headers=headers) as answer:
                assert answer.status == status
        first = following(served.http, served.url, token=WATCHER)
        await watching.enter_async_context(first)
        headers = {"Authorization": f"Bearer {WATCHER}"}
        async with served.http.get(url, headers=headers) as answer:
            assert (answer.status, answer.content_type) == (503, "application/problem+json")
        await watching.aclose()
        async with asyncio.timeout(10):
            while served.hub.clients():
                await asyncio.sleep(0.05)
        async with following(served.http, served.url, token=WATCHER):
            pass


async def test_a_token_that_is_revoked_is_good_for_no_more_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "CHECK_S", 0.1)
    monkeypatch.setattr(events, "GONE_S", 0.1)
    signed = token_service()
    issued = await signed.issue(Grant(roles=frozenset({Role.WATCH})), expires_s=600)
    async with (
        serving(tokens=True, signed=signed) as served,
        following(served.http, served.url, token=issued.text) as revoked,
        following(served.http, served.url, token=WATCHER) as other,
    ):
        await signed.revoke(issued.grant.id)
        with pytest.raises(aiohttp.ClientPayloadError):  # it is cut off
            await revoked.end()
        served.events.publish(opened("s"))
        assert await ids(other, 1) == ["s"]
    signed.close()


async def test_a_silent_stream_has_a_heartbeat_that_moves_the_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(events, "GONE_S", 0.1)
    async with serving() as served:
        url = f"{served.url}/api/events?types=session.ended"
        async with served.http.get(url) as answer:
            served.events.publish(opened("s"))
            async with asyncio.timeout(10):
                text = await answer.content.readuntil(f"id: {served.hub.log.epoch}-1\n\n".encode())
        assert b":\n\n" in text
        assert b"data" not in text


async def _not_reading(url: str) -> socket.socket:
    """Ask for the events and read nothing."""
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.setblocking(False)
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    await loop.sock_connect(stuck, (host, int(port)))
    await loop.sock_sendall(stuck, b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return stuck


async def _flood(served: Served, client: Following, count: int) -> None:
    """Publish events of 20 kB, no faster than a client reads them."""
    text = "x" * 20_000
    for number in range(count):
        served.events.publish(StorageDelayed(f"{number} {text}"))
        await client.wait_for("storage.delayed")


async def test_a_watcher_that_does_not_read_loses_events_and_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "STUCK_S", 1.0)
    async with serving() as served, following(served.http, served.url) as client:
        stuck = await _not_reading(served.url)
        async with asyncio.timeout(10):
            while len(served.hub.clients()) < 2:
                await asyncio.sleep(0.01)
        await _flood(served, client, 400)  # it waits for nobody
        async with asyncio.timeout(10):
            while len(served.hub.clients()) > 1:
                await asyncio.sleep(0.05)
        served.events.publish(opened("s"))
        assert (await client.next())[0] == "session.opened"
        stuck.close()


async def test_a_slow_watcher_is_told_how_many_events_it_has_lost() -> None:
    watcher = watchers.Watcher(watchers.Wanted())
    for number in range(1, watchers.CAPACITY + 8):
        wire = f"id: {number}\n\n".encode()
        watcher.offer(watchers.Entry("e", number, "session.opened", None, wire))
    text = await watcher.next(1.0)
    assert text.startswith(b'event: missed\ndata: {"count":7}\n\nid: 8\n\n')
    assert text.endswith(f"id: {watchers.CAPACITY + 7}\n\n".encode())
    assert await watcher.next(0.01) == b""


async def test_the_server_lets_its_watchers_go_when_it_ends() -> None:
    async with serving() as served, following(served.http, served.url) as client:
        served.events.publish(opened("s"))
        served.hub.handle(opened("t"))
        served.hub.close()
        await client.end()
        assert served.hub.clients() == []


async def test_each_node_tells_of_all() -> None:
    async with pair() as (first, second), AsyncExitStack() as watching:
        clients = [
            await watching.enter_async_context(following(node.http, node.url))
            for node in (first, second)
        ]
        first.events.publish(opened("a"))
        for client in clients:
            assert await ids(client, 1) == ["a"]
        second.events.publish(opened("b"))
        for client in clients:
            assert await ids(client, 1) == ["b"]
            epochs = {step.partition("-")[0] for step in client.latest_id.split(".")}
            assert epochs == {first.hub.log.epoch, second.hub.log.epoch}


async def test_a_client_comes_back_to_another_node() -> None:
    async with pair() as (first, second):
        async with following(first.http, first.url) as client:
            first.events.publish(opened("a"))
            assert await ids(client, 1) == ["a"]
            second.events.publish(opened("b"))
            assert await ids(client, 1) == ["b"]
            last = client.latest_id
        first.events.publish(opened("c"))
        second.events.publish(opened("d"))
        async with following(second.http, second.url, last=last) as client:
            assert sorted(await ids(client, 2)) == ["c", "d"]
            first.events.publish(opened("e"))
            assert await ids(client, 1) == ["e"]
            last = client.latest_id
        async with following(first.http, first.url, last=last) as client:
            second.events.publish(opened("f"))
            assert await ids(client, 1) == ["f"]


async def test_levels_of_all_nodes_come_to_a_client_of_one() -> None:
    async with pair() as (first, second):
        async with following(first.http, first.url, levels="true", session="b") as client:
            async with asyncio.timeout(10):
                while not second.hub.wants_levels:
                    await asyncio.sleep(0.01)
            first.hub.show([status_of("a")])
            second.hub.show([status_of("b"), status_of("c")])
            (session,) = (await client.wait_for("levels"))["sessions"]
            assert session["session"] == "b"
        async with asyncio.timeout(10):  # nobody watches any more
            while second.hub.wants_levels:
                second.hub.show([status_of("b")])
                await asyncio.sleep(0.05)


async def test_a_node_that_was_restarted_is_missed_and_followed_again() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
        async with (
            serving(placement=FakePlacement(here, there, {})) as first,
            following(first.http, first.url) as client,
        ):
            async with serving(placement=FakePlacement(there, here, {})) as second:
                # it was away when the client came
                async with asyncio.timeout(10):
                    while not second.hub.others():
                        await asyncio.sleep(0.05)
                second.events.publish(opened("b"))
                await client.wait_for("session.opened", session="b")
                last = client.latest_id
            async with serving(placement=FakePlacement(there, here, {})) as again:
                again.events.publish(opened("c"))
                assert await client.next() == ("missed", {"count": None})
                assert await ids(client, 1) == ["c"]
                again.events.publish(opened("d"))
                assert await ids(client, 1) == ["d"]
                assert again.hub.log.epoch in client.latest_id
                assert second.hub.log.epoch not in client.latest_id
                async with following(first.http, first.url, last=last) as late:
                    assert await late.next() == ("missed", {"count": None})
                    assert await ids(late, 2) == ["c", "d"]
