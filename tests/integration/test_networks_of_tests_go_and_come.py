"""The proxy that tests put between browsers and a server passes all, or nothing."""

from __future__ import annotations

import asyncio
import json
import pathlib

import aiohttp
import pytest
import soundfile

from tests.rigs.browser import CHROMIUM, PUBLISH, WAIT_FOR_MORE, WHIP, browser_page
from tests.rigs.processes import serving
from tests.rigs.proxied import Network, proxied
from tests.rigs.sound import RATE, speech
from tests.rigs.watching import following

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
SOCKET = """
(path) => new Promise((resolve, reject) => {
  const socket = new WebSocket(path, "gapless.pcm");
  socket.onmessage = ({ data }) => { socket.close(); resolve(typeof data); };
  socket.onclose = () => reject(new Error("closed"));
})
"""


@needs_chromium
@pytest.mark.parametrize("door", [PUBLISH, WHIP], ids=["offer", "whip"])
async def test_a_browser_publishes_through_a_network_that_goes_and_comes(
    tmp_path: pathlib.Path, door: str
) -> None:
    microphone = tmp_path / "microphone.wav"
    soundfile.write(microphone, speech(5), RATE)
    with serving(tmp_path / "recordings", "--trusted-proxies", "127.0.0.1") as server:
        async with proxied(server.url) as network, browser_page(microphone) as page:
            await page.goto(f"{network.url}/")
            await page.evaluate(door, {})
            await page.evaluate(WAIT_FOR_MORE, 100)
            sessions = await page.evaluate("fetch('/api/sessions').then((it) => it.json())")
            (session,) = sessions["sessions"]
            assert await page.evaluate(SOCKET, f"/api/sessions/{session['id']}/pcm") == "string"
            network.gone(refuses=True)
            assert await page.evaluate("fetch('/health').then(() => true, () => false)") is False
            before = len(network.relays[0].log.arrivals)
            await page.evaluate(WAIT_FOR_MORE, 50)
            assert len(network.relays[0].log.arrivals) == before
            network.back()
            await page.evaluate(WAIT_FOR_MORE, 50)
            if door == WHIP:
                await page.evaluate("whip.restart()")
                assert len(network.relays) == 2
                assert await page.evaluate("whip.end()") == 200
                (ledger,) = (tmp_path / "recordings").glob("*.json")
                spans = json.loads(ledger.read_text())["spans"]
                assert sum(span["length"] for span in spans if span["kind"] == "received") > RATE


async def test_requests_wait_for_a_network_and_answers_go_on(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path / "recordings") as server:
        async with proxied(server.url) as network, aiohttp.ClientSession() as http:
            async with following(http, network.url, levels="true"):
                network.gone()
            waiting = asyncio.create_task(_health(http, network))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(waiting), 0.3)
            network.back()
            assert await waiting == "ok"


async def _health(http: aiohttp.ClientSession, network: Network) -> str:
    async with http.get(f"{network.url}/health") as answer:
        status: str = (await answer.json())["status"]
        return status
