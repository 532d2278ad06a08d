"""`--quiet` leaves what is wrong, and `gapless completion` prints what shells read."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from domain.events.client import (
    CaptureStarted,
    MessageReceived,
    MicrophoneLost,
    RetryScheduled,
    SoundSent,
    StreamConnected,
    StreamEnded,
)
from domain.events.server import (
    AlarmRaised,
    RecordingFailed,
    ServerStarted,
    SessionOpened,
    StorageDelayed,
)
from domain.session.alarm_kinds import AlarmKind, AlarmLevel
from domain.session.alarms import Alarm
from domain.session.caller import UNKNOWN
from domain.sound.levels import Levels
from entrypoints.cli import main
from entrypoints.client_settings import ClientSettings
from entrypoints.server_view import ServerView
from entrypoints.settings import ServerSettings
from entrypoints.stream_view import StreamView

ALARM = Alarm(
    id="disk", kind=AlarmKind.DISK, level=AlarmLevel.WARNING, session_id=None, track=None,
    since=datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC), text="the disk is full in an hour",
)  # fmt: skip


def test_a_quiet_server_tells_of_trouble_only(capsys: pytest.CaptureFixture[str]) -> None:
    view = ServerView(is_quiet=ServerSettings(quiet=True).quiet)
    for event in (
        ServerStarted("http://127.0.0.1:1", 1),
        SessionOpened("id", "Ana", UNKNOWN),
        AlarmRaised(ALARM),
        StorageDelayed("the disk is full"),
        RecordingFailed("id", 1, OSError("broken")),
    ):
        view.handle(event)
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "alarm the disk is full in an hour",
        "recordings wait for the disk: the disk is full",
    ]
    assert said.err == "id  failed: broken\n"


def test_a_quiet_client_tells_of_trouble_only(capsys: pytest.CaptureFixture[str]) -> None:
    view = StreamView(server="http://x", is_quiet=ClientSettings(quiet=True).quiet)
    for event in (
        CaptureStarted(),
        StreamConnected("id"),
        SoundSent(1.0, Levels(-3, -9, clipped=False), 0.0),
        RetryScheduled("no server", 1.0),
        MicrophoneLost("unplugged"),
        MessageReceived("please come closer"),
        StreamEnded(5.0, 0.5, 5.0),
    ):
        view.handle(event)
    view.close()
    assert capsys.readouterr().out.splitlines() == [
        "no server; trying again in 1.0 s",
        "unplugged; silent until it is back",
        "message: please come closer",
        "0.5 s were lost at the device and are silent",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_GAPLESS_COMPLETE={shell}_complete" in result.stdout
    if program := shutil.which(shell):
        checked = subprocess.run(
            [program, "-n"], input=result.stdout, text=True, capture_output=True, timeout=20
        )
        assert checked.returncode == 0, checked.stderr


def test_another_shell_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2


def test_commands_and_options_are_completed() -> None:
    asked = {
        "_GAPLESS_COMPLETE": "bash_complete",
        "COMP_WORDS": "gapless serve --tls",
        "COMP_CWORD": "2",
    }
    code = "from entrypoints.cli import main; main(prog_name='gapless')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True,
        timeout=50,
    )  # fmt: skip
    assert "plain,--tls-cert" in done.stdout.splitlines()
