"""Server and client continue when their terminal has gone."""

from __future__ import annotations

import io
import sys

import pytest

from domain.events.client import (
    SoundSent,
    SourceEnded,
    StreamConnected,
    StreamInterrupted,
)
from domain.events.server import (
    TrackStarted,
)
from domain.sound.formats import AudioFormat
from domain.sound.levels import Levels
from entrypoints.server_view import ServerView
from entrypoints.stream_view import StreamView


class Gone(io.StringIO):
    """Standard output whose reader has gone."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal
        self.tried = 0

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str, /) -> int:
        self.tried += 1
        raise BrokenPipeError


@pytest.mark.parametrize("terminal", [True, False])
def test_a_client_continues_without_its_terminal(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(sys, "stdout", gone := Gone(terminal=terminal))
    view = StreamView(server="http://127.0.0.1:8080")
    view.handle(StreamConnected("session"))
    view.handle(SoundSent(1.0, Levels(-6.0, -9.0, clipped=False), 0.0))
    view.handle(StreamInterrupted())
    view.handle(SourceEnded())
    view.close()
    assert gone.tried >= 4


def test_a_server_continues_without_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", gone := Gone(terminal=False))
    ServerView().handle(TrackStarted("session", 1, AudioFormat(48_000, 1)))
    assert gone.tried
