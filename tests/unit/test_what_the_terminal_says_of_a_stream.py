"""What a client shows of what it keeps, and what it says in the end."""

from __future__ import annotations

import pytest

from domain.events import (
    Event,
)
from domain.events.client import (
    LiveRecordingEnded,
    OwedSpoolDelivered,
    OwedSpoolKept,
    SoundCaptured,
    SoundSent,
    SpoolDelivered,
    SpoolEnded,
)
from domain.recording.ledger import RestoreState
from domain.sound.levels import Levels
from entrypoints.stream_view import StreamView
from entrypoints.terminal import full_time

LEVELS = Levels(-6.0, -9.0, clipped=False)


def said(event: Event, capsys: pytest.CaptureFixture[str]) -> str:
    StreamView(server="http://127.0.0.1:8080").handle(event)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00.0"), (3598.2, "00:59:58.2"), (3599.96, "01:00:00.0"), (90_000, "25:00:00.0")],
)
def test_a_full_time_has_hours(seconds: float, text: str) -> None:
    assert full_time(seconds) == text


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            SpoolDelivered(3598.2, RestoreState.COMPLETE, "abc", is_all=True),
            "00:59:58.2 captured, all of it on the server, sha256 abc, the same on both ends\n",
        ),
        (
            SpoolDelivered(3598.2, RestoreState.COMPLETE, None, is_all=True),
            "00:59:58.2 captured, all of it on the server\n",
        ),
        (
            SpoolDelivered(61.0, RestoreState.COMPLETE, None, is_all=False),
            "00:01:01.0 captured and kept before the spool ended, all of that on the server\n",
        ),
        (
            SpoolDelivered(61.0, RestoreState.OFF, None, is_all=True),
            "00:01:01.0 captured; the server keeps what it has received, and wants no more\n",
        ),
        (
            OwedSpoolDelivered("id", 61.0, "abc", is_same=True),
            "00:01:01.0 of an earlier stream are on the server now\n",
        ),
        (
            OwedSpoolKept("id", "no server"),
            "sound of an earlier stream is not on the server yet: no server\n",
        ),
        (SoundCaptured(5.0, LEVELS, 0.0), "00:05.0 captured, not sent yet, peak -6.0 dBFS\n"),
        (SoundSent(5.0, LEVELS, 0.5), "00:05.0 streamed, peak -6.0 dBFS  0.5 s lost\n"),
        (SpoolEnded("full"), "captured sound is not kept on this machine any more: full\n"),
        (
            LiveRecordingEnded("the session is over"),
            "the session is over; capturing goes on, and the sound is kept and sent later\n",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_event_is_a_line(event: Event, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(event, capsys) == text
