"""The line that ends a session."""

from __future__ import annotations

import pytest

from domain.events.server import (
    SessionEnded,
)
from domain.recording.effects import EndReason
from entrypoints.server_view import ServerView


@pytest.mark.parametrize(
    ("detail", "line"),
    [
        (None, "id  session ended: closed\n"),
        ("the handshake failed", "id  session ended: closed (the handshake failed)\n"),
    ],
)
def test_a_session_that_could_not_connect_says_why(
    detail: str | None, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ServerView().handle(SessionEnded("id", EndReason.CLOSED, detail))
    assert capsys.readouterr().out == line
