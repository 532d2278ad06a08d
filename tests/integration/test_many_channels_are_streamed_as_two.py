"""A device may have more channels than a live stream can carry."""

from __future__ import annotations

import pathlib

import soundfile

from tests.rigs.processes import gapless, serving


def test_the_live_stream_of_eight_channels_is_stereo(tmp_path: pathlib.Path) -> None:
    capture = ("--capture", "tone", "--channels", "8", "--depth", "24", "--rate", "96000")
    with serving(tmp_path / "recordings") as server:
        arguments = ("stream", "--server", server.url, *capture, "--duration", "1")
        with gapless(*arguments) as client:
            assert client.end() == 0, client.errors
        recording = soundfile.info(server.recording())
    assert (recording.channels, recording.samplerate) == (2, 48_000)
    assert abs(recording.frames / 48_000 - 1) <= 0.02
