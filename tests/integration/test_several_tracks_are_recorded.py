"""Peers that send several audio tracks: each track is recorded into a file of its own."""

from __future__ import annotations

import asyncio
import json
import pathlib

import pytest
import soundfile
from aiortc import RTCPeerConnection, RTCSessionDescription

from tests.rigs.browser import CHROMIUM, WAIT_UNTIL_SENT, browser_page
from tests.rigs.clients import Local, local_server
from tests.rigs.tones import TONES_HZ, TWO_TONES, peer_with_two_tones, tone_in

ANSWER = "(sdp) => pc.setRemoteDescription({ type: 'answer', sdp })"


async def answer_to(server: Local, sdp: str) -> tuple[str, str]:
    """The session and the answer for an offer."""
    status, body = await server.post("/offer", sdp=sdp, type="offer", name="duo")
    assert status == 200, body
    return body["id"], body["sdp"]


async def until_both_are_recorded(server: Local) -> None:
    async with asyncio.timeout(20):
        while len(server.seen.started) < 2:
            await asyncio.sleep(0.05)
    await asyncio.sleep(2)  # of sound


async def end(server: Local, session: str) -> None:
    async with server.http.delete(f"{server.url}/sessions/{session}") as response:
        assert response.status == 204
    assert server.seen.failures == []


def assert_each_has_its_tone(folder: pathlib.Path) -> None:
    tones = {}
    for path in folder.glob("*.wav"):
        samples, rate = soundfile.read(path, always_2d=True)
        ledger = json.loads(path.with_suffix(".json").read_text())
        assert {span["kind"] for span in ledger["spans"]} == {"received"}
        assert len(samples) >= 2 * rate
        middle = samples[rate // 2 : rate // 2 + rate, 0]
        tones[ledger["track"]] = round(tone_in(middle, sample_rate_hz=rate))
    assert tones == {1: TONES_HZ[0], 2: TONES_HZ[1]}


async def test_two_tracks_of_aiortc(tmp_path: pathlib.Path) -> None:
    peer: RTCPeerConnection = await peer_with_two_tones()
    async with local_server(storage="wav", recordings=str(tmp_path)) as server:
        session, answer = await answer_to(server, peer.localDescription.sdp)
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await until_both_are_recorded(server)
        await end(server, session)
        await peer.close()
    assert_each_has_its_tone(tmp_path)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
async def test_two_tracks_of_chromium(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    async with (
        local_server(storage="wav", recordings=str(folder)) as server,
        browser_page(tmp_path / "none.wav") as page,
    ):
        await page.mouse.click(10, 10)  # sound needs a user's gesture
        session, answer = await answer_to(server, await page.evaluate(TWO_TONES))
        await page.evaluate(ANSWER, answer)
        await until_both_are_recorded(server)
        await page.evaluate(WAIT_UNTIL_SENT, 125)
        await end(server, session)
    assert_each_has_its_tone(folder)
