"""The server tells what its store has met: faults that pass, and recordings completed later."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from adapters.storage.memory import MemoryStore
from domain.events.server import (
    ServerEvent,
    StorageDelayed,
    StorageWritable,
)
from entrypoints.server_view import ServerView
from tests.unit.test_sessions_are_recorded import Server


class Faulty(MemoryStore):
    """A store that has met a fault."""

    def __init__(self) -> None:
        super().__init__()
        self.news: list[ServerEvent] = [StorageDelayed("/a.wav.part: Input/output error")]

    def poll_events(self) -> Sequence[ServerEvent]:
        news, self.news = self.news, []
        return news


def test_events_of_the_store_are_published_once() -> None:
    server = Server()
    server.sessions._store = store = Faulty()
    server.sessions.tick()
    server.sessions.tick()
    assert server.seen.events == [StorageDelayed("/a.wav.part: Input/output error")]
    store.news.append(StorageWritable(1.5))
    server.sessions.tick()
    assert server.seen.events[1:] == [StorageWritable(1.5)]


def test_the_log_says_what_the_fault_is_and_how_long_it_lasted(
    capfd: pytest.CaptureFixture[str],
) -> None:
    view = ServerView()
    view.handle(StorageDelayed("/a.wav.part: Input/output error"))
    view.handle(StorageWritable(1.5))
    out, errors = capfd.readouterr()
    assert errors == ""
    assert out.splitlines() == [
        "recordings wait for the disk: /a.wav.part: Input/output error",
        "the disk can be written again, after 1.5 s",
    ]
