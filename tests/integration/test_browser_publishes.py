"""Browsers publish to `/offer`."""

from __future__ import annotations

import json
import pathlib
import re

import numpy as np
import pytest
import soundfile
from playwright.async_api import Route

from domain.sound.comparison import compare
from tests.rigs import microphone as rig
from tests.rigs.browser import BROWSERS, CHROMIUM, PUBLISH, WAIT_UNTIL_SENT, browser_page, opened
from tests.rigs.clients import local_server
from tests.rigs.fidelity import Outcome
from tests.rigs.processes import read, serving
from tests.rigs.relay import Relay, random_loss
from tests.rigs.sound import SPEECH
from tests.rigs.sweep import DESK, STEREO, microphones
from tests.rigs.tones import TONES_HZ

SECONDS = 5

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
needs_firefox = pytest.mark.skipif(BROWSERS["firefox"] is None, reason="Firefox is not installed")


@needs_chromium
async def test_a_page_with_a_token_owns_its_session(tmp_path: pathlib.Path) -> None:
    soundfile.write(tmp_path / "microphone.wav", *soundfile.read(SPEECH, dtype="int16"))
    async with local_server(token="secret", admin_token="another") as server:
        async with browser_page(tmp_path / "microphone.wav") as page:
            await page.goto(f"{server.url}/blank")
            session = await page.evaluate(PUBLISH, {"token": "secret"})
            await page.evaluate(WAIT_UNTIL_SENT, 50)
            for bearer, status in (("secret", 403), ("wrong", 401)):
                async with server.http.delete(
                    f"{server.url}/sessions/{session}",
                    headers={"Authorization": f"Bearer {bearer}"},
                ) as response:
                    assert response.status == status
            await page.evaluate("pc.close()")
            await server.seen.next_end()
        assert server.seen.failures == []


@needs_chromium
async def test_the_recording_matches_the_microphone(tmp_path: pathlib.Path) -> None:
    speech, rate = soundfile.read(SPEECH, dtype="int16")
    soundfile.write(tmp_path / "microphone.wav", speech, rate)
    with serving(tmp_path / "recordings") as server:
        async with browser_page(tmp_path / "microphone.wav") as page:
            await page.goto(f"{server.url}/blank")
            await page.evaluate(PUBLISH, {"token": None})
            server.process.wait_for("recording,")
            await page.evaluate(WAIT_UNTIL_SENT, SECONDS * 50)
            await page.evaluate("pc.close()")
            recording = server.recording()
    assert soundfile.info(recording).channels == 1
    recorded, recorded_rate = read(recording)
    assert recorded_rate == rate
    assert SECONDS - 0.1 <= len(recorded) / rate <= SECONDS + 2
    # the file plays in a loop, and the recording begins anywhere in it
    looped = np.tile(speech / 32768, 2)
    middle = recorded[rate : rate * (SECONDS - 1)]
    result = compare(looped, middle, sample_rate_hz=rate)
    assert result.correlation >= 0.90
    assert abs(result.level_difference_db) <= 1
    assert result.longest_gap == 0


@needs_chromium
async def test_losses_are_recovered_from_redundancy(
    tmp_path: pathlib.Path,
) -> None:
    """10 % random loss. Chromium sends RED (RFC 2198), which the answer prefers, and FEC."""
    speech, rate = soundfile.read(SPEECH, dtype="int16")
    soundfile.write(tmp_path / "microphone.wav", speech, rate)
    network = Relay(random_loss(0.10))

    async def through_the_network(route: Route) -> None:
        offer = route.request.post_data_json
        offer["sdp"] = re.sub(r"a=candidate:.*\r\n", "", offer["sdp"])
        response = await route.fetch(post_data=json.dumps(offer))
        answer = await response.json()
        answer["sdp"] = await network.intercept(answer["sdp"])
        await route.fulfill(response=response, json=answer)

    async with local_server() as server:
        async with browser_page(tmp_path / "microphone.wav") as page:
            await page.route("**/offer", through_the_network)
            await page.route("**/ice-candidate", lambda route: route.fulfill(status=204))
            await page.goto(f"{server.url}/blank")
            session = await page.evaluate(PUBLISH, {"token": None})
            await page.evaluate(WAIT_UNTIL_SENT, 6 * 50)
            await page.evaluate("pc.close()")
            async with server.http.delete(f"{server.url}/sessions/{session}") as response:
                assert response.status == 204
        network.close()
        assert server.seen.failures == []
        (stored,) = server.container.store().recordings.values()
    outcome = Outcome(network.log, stored)
    assert outcome.length == outcome.expected_length
    assert outcome.received == outcome.log.delivered
    first, last = outcome.log.delivered[0], outcome.log.delivered[-1]
    lost = [at for at in outcome.log.dropped if first < at < last]
    recovered = [at for at in lost if outcome.kinds[at - first] == "recovered"]
    assert len(recovered) > 0.8 * len(lost)
    assert stored.info.format.channels == 1


@needs_firefox
@pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing()))
@pytest.mark.parametrize(("device", "channels"), [(DESK, 1), (STEREO, 2)])
async def test_a_microphone_in_firefox_keeps_its_channels(
    tmp_path: pathlib.Path, device: str, channels: int
) -> None:
    """Firefox wishes to receive stereo, whatever it sends (RFC 7587 § 6.1)."""
    with microphones(tmp_path / "microphones") as heard, serving(tmp_path / "recordings") as server:
        async with opened("firefox", tmp_path / "browser", heard.environ) as browser:
            await browser.page.goto(f"{server.url}/blank")
            await browser.publish("firefox", device=device, channels=channels)
            await browser.page.evaluate(WAIT_UNTIL_SENT, 3 * 50)
            await browser.end("firefox")
            recording = server.recording()
    samples, rate = soundfile.read(recording, always_2d=True)
    assert samples.shape[1] == channels
    assert len(samples) / rate >= 2.5
    if device == STEREO:
        second = samples[rate : 2 * rate]
        tones = np.abs(np.fft.rfft(second, axis=0)).argmax(axis=0)
        assert tones.tolist() == pytest.approx(TONES_HZ, abs=1)
