"""A client listens for messages to its speaker, beside the stream and without an effect on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from domain.errors import Refusal, ServerRefused, ServerUnreachable, WrongServer
from domain.events import Event
from domain.events.client import MessageReceived
from domain.ports.messages import IncomingMessage
from domain.services.client.message_listener import MessageListener
from entrypoints.stream_view import StreamView
from tests.fakes.time import FakeClock, Spawned

REFUSED = ServerRefused(Refusal.FINAL, "the session is over")
BUSY = ServerRefused(Refusal.TEMPORARY, "a worker is being restarted")


class ScriptedMessages:
    """Each call of `listen` plays the next part of the script, and the last one waits."""

    def __init__(self, *parts: list[str | Exception]) -> None:
        self._parts = list(parts)
        self.asked: list[tuple[str, str, str]] = []
        self.closed = 0

    async def listen(
        self, session_id: str, secret: str, *, after: str = ""
    ) -> AsyncIterator[IncomingMessage]:
        self.asked.append((session_id, secret, after))
        if not self._parts:
            await asyncio.Event().wait()
        for item in self._parts.pop(0):
            if isinstance(item, Exception):
                raise item
            yield IncomingMessage(f"id of {item}", item)

    async def close(self) -> None:
        self.closed += 1


class Client:
    def __init__(self, *parts: list[str | Exception]) -> None:
        self.clock, self.spawned, self.server = FakeClock(), Spawned(), ScriptedMessages(*parts)
        self.seen: list[str] = []
        self.listener = MessageListener(
            client=self.server,
            clock=self.clock,
            spawner=self.spawned,
            events=self,
            random=lambda: 0.5,
        )

    def publish(self, event: Event) -> None:
        assert isinstance(event, MessageReceived)
        self.seen.append(event.text)


async def test_messages_are_published_once_over_all_interruptions() -> None:
    client = Client(
        ["one", "two", ServerUnreachable("cut off")],
        [BUSY],
        [WrongServer("a portal")],
        [],
        ["three"],
    )
    client.listener.begin("session", "secret")
    await client.clock.run(30)
    assert client.seen == ["one", "two", "three"]
    assert [after for _, _, after in client.server.asked] == [
        "", "id of two", "id of two", "id of two", "id of two", "id of three",
    ]  # fmt: skip
    await client.listener.close()
    await client.spawned.join()
    assert client.server.closed == 1


async def test_a_refusal_ends_it() -> None:
    client = Client([REFUSED], ["never"])
    client.listener.begin("session", "secret")
    await client.clock.run(60)
    assert (client.seen, len(client.server.asked)) == ([], 1)
    await client.listener.close()
    await client.spawned.join()


async def test_another_session_takes_its_place() -> None:
    client = Client()
    client.listener.begin("first", "a")
    await client.clock.run(1)
    client.listener.begin("second", "b")
    await client.clock.run(1)
    assert client.server.asked == [("first", "a", ""), ("second", "b", "")]
    await client.listener.close()
    await client.spawned.join()


def test_a_message_is_shown_without_what_controls_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    StreamView(server="http://127.0.0.1").handle(MessageReceived("lauter\x1b[2J, bitte"))
    assert capsys.readouterr().out == "message: lauter\\x1b[2J, bitte\n"
