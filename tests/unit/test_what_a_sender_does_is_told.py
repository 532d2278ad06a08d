"""The lines that tell of what a sender does while it is recorded."""

from __future__ import annotations

import pytest

from domain.events.server import (
    ClockFoundWrong,
    ServerEvent,
    TrackFormatChanged,
)
from domain.sound.formats import AudioFormat
from entrypoints.server_view import ServerView


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            TrackFormatChanged("id", 1, AudioFormat(48_000, 2)),
            "id  recording, 48000 Hz, 16 bit, stereo, in a new part\n",
        ),
        (ClockFoundWrong("id", 1, 88_435.4), "id  the sender's clock is wrong: 8.8 % too fast\n"),
        (ClockFoundWrong("id", 2, -1_200.0),
         "id  track 2: the sender's clock is wrong: 0.1 % too slow\n"),
    ],
)  # fmt: skip
def test_a_line_tells_of_it(
    event: ServerEvent, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ServerView().handle(event)
    assert capsys.readouterr().out == line
