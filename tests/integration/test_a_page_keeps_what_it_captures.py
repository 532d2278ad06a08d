"""What a page captures becomes the recording, bit for bit, also if its tab is killed meanwhile."""

from __future__ import annotations

import json
import pathlib

import pytest
import soundfile

from domain.recording.ledger import SampleKind
from tests.rigs import microphone as rig
from tests.rigs.browser import BROWSERS, CHROMIUM, browser_page, opened
from tests.rigs.firefox import BLANK
from tests.rigs.processes import serving
from tests.rigs.sound import SPEECH
from tests.rigs.spooling_page import (
    END,
    END_AT_THE_SERVER,
    EXPORTED,
    KEPT,
    OPEN,
    OWED,
    REACHED,
    RECORD,
    STALLED,
    USED,
    kill_tab,
)
from tests.rigs.sweep import DESK, OTHER, STEREO, microphones, plug_in, unplug

LOST_S = 0.5
"""How much a killed page may lose of what it has captured."""
HELD_BACK_S = 1.0
"""How much the server does not get of a session that has ended there, but not at the page."""


@pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing()))
@pytest.mark.parametrize(
    ("name", "mode", "label", "channels"),
    [("chromium", "voice", DESK, 1), ("firefox", "music", STEREO, 2)],
)
async def test_a_killed_tab_goes_on_and_all_arrives(
    tmp_path: pathlib.Path, name: str, mode: str, label: str, channels: int
) -> None:
    if BROWSERS[name] is None:
        pytest.skip(f"{name} is not installed")
    microphone = {"mode": mode, "label": label}
    with microphones(tmp_path / "microphones") as heard, serving(tmp_path / "recordings") as server:
        async with opened(name, tmp_path / "browser", heard.environ) as browser:
            page = browser.page
            await page.goto(f"{server.url}{BLANK}")
            opening = await page.evaluate(OPEN, microphone)
            assert opening == {"label": label, "rate": 48_000, "channels": channels}
            spool = await page.evaluate(RECORD, {})
            before = await page.evaluate(REACHED, {"captured": 4, "safe": 0.1})
            page = await kill_tab(browser)
            await page.goto(f"{server.url}{BLANK}")
            await page.evaluate(OPEN, microphone)
            (owed,) = await page.evaluate(OWED)
            assert (owed["id"], owed["channels"], owed["isEnded"]) == (spool, channels, False)
            assert owed["seconds"] > before["capturedS"] - LOST_S
            assert owed["owedS"] < owed["seconds"]
            await page.evaluate(RECORD, {"resume": spool})
            stalled_s = await page.evaluate(STALLED)
            finished = await page.evaluate(END)
            assert (finished["state"], finished["isSame"]) == ("complete", True), finished
            assert await page.evaluate(EXPORTED) == finished["sha256"]
            assert await page.evaluate(KEPT) == []
        (path,) = server.recordings()
    ledger = json.loads(path.with_suffix(".json").read_text())
    assert ledger["sha256"] == finished["sha256"]
    info = soundfile.info(path)
    assert (info.frames, info.channels) == (finished["length"], channels)
    lengths = dict.fromkeys(SampleKind, 0)
    for span in ledger["spans"]:
        lengths[SampleKind(span["kind"])] += span["length"]
    # there may have been a stall before the tab was killed, too
    assert lengths[SampleKind.SILENCE] >= round(stalled_s * 48_000) > 0
    assert lengths[SampleKind.RESTORED] + lengths[SampleKind.SILENCE] == info.frames


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
async def test_sound_arrives_though_its_session_has_ended_meanwhile(
    tmp_path: pathlib.Path,
) -> None:
    soundfile.write(tmp_path / "microphone.wav", *soundfile.read(SPEECH, dtype="int16"))
    with serving(tmp_path / "recordings") as server:
        async with browser_page(tmp_path / "microphone.wav") as page:
            await page.goto(f"{server.url}{BLANK}")
            await page.evaluate(OPEN, {"mode": "voice", "label": "Fake Default Audio Input"})
            await page.evaluate(RECORD, {})
            await page.evaluate(REACHED, {"captured": 1})
            await page.evaluate(END_AT_THE_SERVER)
            # the live sound ends here: what follows is safe by its spool only
            await page.evaluate(REACHED, {"captured": 5})
            reached = await page.evaluate(REACHED, {"safe": 1.5})
            assert reached["safeS"] <= reached["capturedS"] - HELD_BACK_S
            finished = await page.evaluate(END)
        assert (finished["state"], finished["isSame"]) == ("complete", True), finished
        (path,) = server.recordings()
    assert soundfile.info(path).frames == finished["length"] > 5 * 48_000
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == finished["sha256"]


@pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing()))
@pytest.mark.skipif(BROWSERS["firefox"] is None, reason="Firefox is not installed")
async def test_a_microphone_that_was_gone_is_used_again(tmp_path: pathlib.Path) -> None:
    """In Firefox: Chromium does not learn from PulseAudio that a microphone is gone."""
    with microphones(tmp_path / "microphones") as heard, serving(tmp_path / "recordings") as server:
        async with opened("firefox", tmp_path / "browser", heard.environ) as browser:
            await browser.page.goto(f"{server.url}{BLANK}")
            await browser.page.evaluate(OPEN, {"mode": "voice", "label": OTHER})
            unplug(heard, OTHER)
            await browser.page.evaluate(USED, DESK)
            plug_in(heard, OTHER)
            events = await browser.page.evaluate(USED, OTHER)
    told = [(event["type"], event["text"]) for event in events]
    assert told == [("ended", OTHER), ("microphone", DESK), ("microphone", OTHER)]
