"""The lines that tell of alarms."""

from __future__ import annotations

import dataclasses

import pytest

from domain.events.server import AlarmEnded, AlarmRaised, ServerEvent
from domain.session.alarm_kinds import AlarmKind, AlarmLevel
from domain.session.alarms import Alarm
from entrypoints.server_view import ServerView
from tests.fakes.time import EPOCH

FAULT = Alarm(
    id="storage_fault-s.2-0", kind=AlarmKind.STORAGE, level=AlarmLevel.CRITICAL, session_id="s",
    track=2, since=EPOCH, text="the recording cannot be written: \x1b[2J",
)  # fmt: skip
DISK = Alarm(
    id="disk_running_out-server-0", kind=AlarmKind.DISK, level=AlarmLevel.WARNING, session_id=None,
    track=None, since=EPOCH, text="the disk is full in 3.0 h at the present rate",
)  # fmt: skip


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (AlarmRaised(FAULT), "s  alarm track 2: the recording cannot be written: \\x1b[2J\n"),
        (AlarmRaised(DISK), "alarm the disk is full in 3.0 h at the present rate\n"),
        (
            AlarmEnded(dataclasses.replace(DISK, ended_at=EPOCH)),
            "alarm over: the disk is full in 3.0 h at the present rate\n",
        ),
    ],
)
def test_a_line_tells_of_it(
    event: ServerEvent, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ServerView().handle(event)
    assert capsys.readouterr().out == line
