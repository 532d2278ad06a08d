"""What comes from files and clients cannot control the terminal that shows it, or the log."""

from __future__ import annotations

import io
import logging

import pytest

from domain.errors import StorageFailed
from domain.events.client import OwedSpoolFound
from domain.events.server import RecoveryFailed
from entrypoints.server_view import ServerView
from entrypoints.spool_view import SpoolView
from entrypoints.terminal import log_to_terminal, printable

CONTROLS = "a\x1b[2J\x9b\u202e\u2066\r\n\tb\udcff\u00ad"
SHOWN = r"a\x1b[2J\x9b\u202e\u2066\r\n\tb\udcff\xad"


def test_what_is_not_printable_is_shown_as_python_writes_it() -> None:
    assert printable(CONTROLS) == SHOWN
    assert printable("Käse, 鼓 · ▌ \\n") == "Käse, 鼓 · ▌ \\n"


def test_events_are_one_printable_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    ServerView().handle(RecoveryFailed(StorageFailed(f"cannot recover {CONTROLS}")))
    SpoolView().handle(OwedSpoolFound("a", CONTROLS, 1.0, CONTROLS))
    shown = capsys.readouterr()
    assert shown.err == f"gapless: cannot recover {SHOWN}\n"
    assert shown.out == f"a ({SHOWN}): 00:00:01.0 to {SHOWN}\n"


def test_a_log_record_is_one_line_and_its_traceback_is_printable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[logging.Handler] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **given: made.extend(given["handlers"]))
    log_to_terminal()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(made[0].formatter)
    try:
        raise ValueError(CONTROLS)
    except ValueError as error:
        found = (type(error), error, error.__traceback__)
    handler.emit(logging.LogRecord("gapless", 30, "", 0, "%s", (CONTROLS,), found))
    first, *traceback = stream.getvalue().removesuffix("\n").split("\n")
    assert first == f"gapless: WARNING: {SHOWN}"
    assert len(traceback) > 2
    assert all(line.isprintable() for line in traceback)
