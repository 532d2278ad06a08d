"""`gapless serve --storage opus` and `gapless render`, as their users run them."""

from __future__ import annotations

import pathlib

import numpy as np
import soundfile

from tests.integration.test_two_processes import assert_same_sound, stream
from tests.rigs.processes import gapless, serving
from tests.rigs.sound import RATE, speech


def test_speech_is_stored_as_it_came_and_rendered_later(tmp_path: pathlib.Path) -> None:
    spoken = tmp_path / "speech.wav"
    soundfile.write(spoken, speech(5), RATE)
    with serving(tmp_path / "recordings", "--storage", "opus") as server:
        stream(server, "--capture", "file", "--input", str(spoken), "--name", "Speech")
        server.process.wait_for("session ended")
    (recording,) = (tmp_path / "recordings").glob("*.opus")
    assert recording.stat().st_size < 55_000  # 5 s of 64 kbit/s
    with gapless("verify", str(recording)) as verifying:
        assert verifying.end() == 0
    assert verifying.lines[0].endswith(": sound")
    with gapless("render", "--output", str(tmp_path / "wavs"), str(recording)) as rendering:
        assert rendering.end() == 0, rendering.errors
    rendered = tmp_path / "wavs" / f"{recording.stem}.wav"
    assert rendering.lines == [f"{rendered}: 00:05.0"]
    assert_same_sound(spoken, rendered)
    with gapless("verify", str(rendered)) as verifying:
        assert verifying.end() == 0


def test_a_rendering_sounds_like_the_original_in_a_player(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path / "recordings", "--storage", "opus") as server:
        stream(server, "--capture", "tone", "--duration", "2")
        server.process.wait_for("session ended")
    (recording,) = (tmp_path / "recordings").glob("*.opus")
    with gapless("render", str(recording)) as rendering:
        assert rendering.end() == 0, rendering.errors
    played, _ = soundfile.read(recording)
    rendered, _ = soundfile.read(recording.with_name(f"{recording.stem}-rendered.wav"))
    assert len(played) == len(rendered)
    assert np.abs(played - rendered).max() < 0.01


def test_a_wrong_file_is_reported_in_one_line_and_the_others_are_rendered(
    tmp_path: pathlib.Path,
) -> None:
    wrong = [tmp_path / "no.opus", tmp_path / "not-there.opus"]
    wrong[0].write_bytes(b"no")
    with gapless("render", *map(str, wrong)) as rendering:
        assert rendering.end() == 2
    assert len(rendering.errors) == 2
    for path, line in zip(wrong, rendering.errors, strict=True):
        assert path.name in line
