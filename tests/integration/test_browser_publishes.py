"""Chromium, with a WAV as its microphone, publishes to `/offer`."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import soundfile

from domain.comparison import compare
from tests.rigs.browser import CHROMIUM, PUBLISH, WAIT_UNTIL_SENT, browser_page
from tests.rigs.processes import read, serving

SPEECH = pathlib.Path("entrypoints/assets/speech.flac").absolute()
SECONDS = 5

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


async def test_what_a_browser_hears_is_what_is_recorded(tmp_path: pathlib.Path) -> None:
    speech, rate = soundfile.read(SPEECH, dtype="int16")
    soundfile.write(tmp_path / "microphone.wav", speech, rate)
    with serving(tmp_path / "recordings") as server:
        async with browser_page(tmp_path / "microphone.wav") as page:
            await page.goto(f"{server.url}/health")
            await page.evaluate(PUBLISH, {"token": None})
            server.process.wait_for("recording,")
            await page.evaluate(WAIT_UNTIL_SENT, SECONDS * 50)
            await page.evaluate("pc.close()")
            recording = server.recording()
    recorded, recorded_rate = read(recording)
    assert recorded_rate == rate
    assert SECONDS - 0.1 <= len(recorded) / rate <= SECONDS + 2
    # the file plays in a loop and the recording begins somewhere in it
    looped = np.tile(speech / 32768, 2)
    middle = recorded[rate : rate * (SECONDS - 1)]
    result = compare(looped, middle, sample_rate_hz=rate)
    assert result.correlation >= 0.90
    assert abs(result.level_difference_db) <= 1
    assert result.longest_hole == 0
