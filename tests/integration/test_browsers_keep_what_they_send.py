"""A page of a real browser records what it sends, too; its AudioContext is suspended once."""

from __future__ import annotations

import base64
import pathlib

import aiohttp
import numpy as np
import pytest
import soundfile

from tests.integration.test_other_clients_are_restored import ledger_of, sound_of
from tests.rigs import microphone as rig
from tests.rigs.browser import BROWSERS, opened
from tests.rigs.browser_spool import RECORD
from tests.rigs.other_client import Spool
from tests.rigs.page import Page
from tests.rigs.processes import serving
from tests.rigs.sound import SPEECH

needs_sound_server = pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing()))


@needs_sound_server
@pytest.mark.parametrize("browser", BROWSERS)
async def test_a_recording_is_what_the_browser_has_captured(
    tmp_path: pathlib.Path, browser: str
) -> None:
    if BROWSERS[browser] is None:
        pytest.skip(f"{browser} is not installed")
    soundfile.write(tmp_path / "speech.wav", *soundfile.read(SPEECH, dtype="int16"))
    speech = base64.b64encode((tmp_path / "speech.wav").read_bytes()).decode()
    with serving(tmp_path / "recordings") as server, rig.microphone(tmp_path / "pulse") as device:
        async with opened(browser, tmp_path / "browser", device.environ) as it:
            await it.page.goto(f"{server.url}/blank")
            found = await it.page.evaluate(
                RECORD, {"speech": speech, "sendFor": 4, "suspendFor": 2.5}
            )
        samples = np.frombuffer(base64.b64decode(found["pcm"]), "<i2").astype(np.int32)
        async with aiohttp.ClientSession() as http:
            page = Page(server.url, http, Spool(samples[:, np.newaxis]))
            page.id, page.resume = found["id"], found["resume"]
            page.missing = [(item["start"], item["length"]) for item in found["missing"]]
            await page.end()
            said = await page.deliver(longest=240_000)
        recorded, ledger = sound_of(server, page), ledger_of(server, page)
    assert said.body["sha256"] == page.spool.sha256() == ledger["sha256"]
    assert np.array_equal(recorded, page.spool.samples)
    told = [event for event in ledger["events"] if event["type"] == "aligned" and event["windows"]]
    # a browser on a busy machine leaves out some sound of its connection
    assert min(event["residual_samples"] for event in told) <= 2
    assert all(event["correlation"] > 0.5 for event in told)
