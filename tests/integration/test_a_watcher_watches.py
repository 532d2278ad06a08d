"""Whoever records signs in at the studio, sees how each speaker is doing, and can act."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import numpy as np
import pytest
import soundfile
from playwright.async_api import Locator, Page, expect

from tests.rigs.browser import CHROMIUM, browser_page, opened
from tests.rigs.firefox import FIREFOX
from tests.rigs.microphone import microphone, missing
from tests.rigs.network import network_before
from tests.rigs.processes import Process, Server, gapless, serving

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.timeout(180),
]

ADMIN, WATCHER = "the-administrators-token", "the-token-of-all-clients"
RATE = 48_000
LISTEN_BEFORE_THE_SPEAKERS = """
(() => {
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (target, ...rest) {
    if (target instanceof AudioDestinationNode) {
      window.heard = new AnalyserNode(this.context);
      connect.call(this, window.heard);
    }
    return connect.call(this, target, ...rest);
  };
})();
"""
LOUDEST = """
() => {
  const samples = new Float32Array(window.heard.fftSize);
  window.heard.getFloatTimeDomainData(samples);
  return Math.max(...samples.map(Math.abs));
}
"""
PIXELS_OF = """
(canvas, kinds) => {
  const probe = document.createElement("canvas").getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const colours = kinds.map((kind) => {
    probe.fillStyle = style.getPropertyValue(`--kind-${kind}`);
    probe.fillRect(0, 0, 1, 1);
    return probe.getImageData(0, 0, 1, 1).data.join();
  });
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let at = 0; at < data.length; at += 4)
    count += colours.includes(data.slice(at, at + 4).join());
  return count;
}
"""
"""How many pixels of a waveform have the colour of one of these kinds."""


@asynccontextmanager
async def studio(server: Server, folder: pathlib.Path) -> AsyncIterator[Page]:
    microphone = folder / "microphone.wav"
    soundfile.write(str(microphone), np.zeros(RATE, np.int16), RATE)
    async with browser_page(microphone) as page:
        page.set_default_timeout(20_000)
        expect.set_options(timeout=20_000)
        await page.add_init_script(LISTEN_BEFORE_THE_SPEAKERS)
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        await page.goto(f"{server.url}/studio")
        yield page
        assert faults == []


async def sign_in(page: Page, token: str) -> None:
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Sign in").click()


async def line(process: Process, text: str) -> str:
    return await asyncio.to_thread(process.wait_for, text)


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("listitem", name=name, exact=True)


async def pixels(waveform: Locator, *kinds: str) -> int:
    found: int = await waveform.evaluate(PIXELS_OF, list(kinds))
    return found


async def test_the_watchers_whole_way(tmp_path: pathlib.Path) -> None:
    silence = tmp_path / "silence.wav"
    soundfile.write(str(silence), np.zeros(RATE * 100, np.int16), RATE)
    is_losing = False
    options = (
        "--token", WATCHER, "--admin-token", ADMIN, "--alarm-silence-s", "3", "--workers", "2",
    )  # fmt: skip
    with serving(tmp_path / "recordings", *options) as server:
        async with (
            studio(server, tmp_path) as page,
            network_before(
                server.url,
                plan=lambda index: [] if is_losing and index % 4 else [0.0],
                again=lambda _: [] if is_losing else [0.0],
            ) as network,
        ):
            await sign_in(page, "a wrong token")
            await expect(page.get_by_role("alert").first).to_contain_text("This token is wrong")
            await sign_in(page, ADMIN)
            await expect(page.get_by_role("heading", name="Nobody is on.")).to_be_visible()
            await expect(page.get_by_text("Disk:")).to_be_visible()

            ana = ("--name", "Ana", "--capture", "tone", "--server", network.url, "--room", "Show")
            bo = (
                "--name", "<b>Bo</b>", "--capture", "file", "--input", str(silence),
                "--server", server.url,
            )  # fmt: skip
            token = ("--token", WATCHER)
            with gapless("stream", *ana, *token) as first, gapless("stream", *bo, *token) as second:
                of_ana, of_bo = card(page, "Ana"), card(page, "<b>Bo</b>")
                await expect(of_ana.get_by_text("good", exact=True)).to_be_visible()
                await expect(of_ana.get_by_role("timer")).to_have_text("00:03")

                waveform = of_ana.get_by_role("img")
                assert await pixels(waveform, "received") > 20
                assert await pixels(waveform, "concealed", "silence") == 0
                is_losing = True
                await expect(of_ana.get_by_text("bad", exact=True)).to_be_visible()
                is_losing = False
                assert await pixels(waveform, "concealed", "silence") > 20
                await of_ana.get_by_text("Figures").click()
                await expect(of_ana.get_by_text("Packets lost")).to_be_visible()

                await of_ana.get_by_role("button", name="Listen").click()
                await expect(page.locator(".heard")).to_have_text("00:02")
                await expect(of_ana.get_by_role("button", name="Listen")).to_have_attribute(
                    "aria-pressed", "true"
                )
                assert 0.05 < await page.evaluate(LOUDEST) <= 1
                await page.get_by_role("button", name="Stop listening").click()
                await expect(page.locator(".heard")).to_be_hidden()

                alarms = page.get_by_role("region", name="On now")
                await expect(alarms).to_contain_text("<b>Bo</b>: No sound from the microphone")
                await expect(of_bo.get_by_text("look", exact=True)).to_be_visible()
                await dismiss(alarms, "No sound from the microphone")
                await page.reload()
                await expect(of_bo).to_contain_text("No sound from the microphone")
                await expect(alarms.get_by_text("No sound")).to_have_count(0)
                await page.get_by_role("button", name="alarm").first.click()
                await expect(page.get_by_role("dialog")).to_contain_text("No sound")
                await page.get_by_role("button", name="Close").click()

                await of_bo.get_by_role("button", name="Message").click()
                await of_bo.get_by_label("Message to the speaker").fill("Are you muted?")
                await page.keyboard.press("Enter")
                await expect(of_bo.get_by_text("is shown now")).to_be_visible()
                await line(second, "Are you muted?")

                await of_bo.get_by_role("button", name="End", exact=True).click()
                await page.get_by_role("button", name="End the recording").click()
                dialog = page.get_by_role("dialog", name="Ended")
                await expect(dialog).to_contain_text("recorded.")
                await dialog.get_by_role("button", name="Close").click()
                await expect(of_bo).to_have_count(0)
                await expect(page.get_by_role("link", name="Open the recording")).to_be_visible()
                await asyncio.to_thread(second.end)

                await page.get_by_role("button", name="Sign out").click()
                await sign_in(page, WATCHER)
                await expect(of_ana.get_by_role("button", name="Listen")).to_be_visible()
                for name in ("End", "Message"):
                    await expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
                await expect(page.get_by_role("link", name="Invite")).to_have_count(0)

                first.process.terminate()
                await asyncio.to_thread(first.end)
                await expect(page.get_by_role("heading", name="Nobody is on.")).to_be_visible()


async def dismiss(alarms: Locator, what: str) -> None:
    await alarms.get_by_role("button", name=f"Dismiss: {what}").click()
    await expect(alarms.get_by_text(what)).to_have_count(0)


async def test_a_server_that_is_gone_is_told_of_and_found_again(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path) as server:
        port = server.url.rpartition(":")[2]
        async with studio(server, tmp_path) as page:
            # without tokens there is nothing to sign in to
            await expect(page.get_by_role("heading", name="Nobody is on.")).to_be_visible()
            lost = page.get_by_text("No connection to the server")
            assert await asyncio.to_thread(server.process.stop) == 0
            await expect(lost).to_be_visible()
            with serving(tmp_path, "--port", port) as again:
                await expect(lost).to_be_hidden()
                to_server = ("--capture", "tone", "--server", again.url, "--name", "Ana")
                with gapless("stream", *to_server) as client:
                    await expect(card(page, "Ana")).to_contain_text("good")
                    client.process.terminate()
                    await asyncio.to_thread(client.end)


async def test_a_revoked_token_ends_the_studio(tmp_path: pathlib.Path) -> None:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    with serving(tmp_path, "--token", WATCHER, "--admin-token", ADMIN) as server:
        async with studio(server, tmp_path) as page, aiohttp.ClientSession(headers=headers) as http:
            tokens = f"{server.url}/api/tokens"
            async with http.post(tokens, json={"role": "watch", "sub": "<i>Kim</i>"}) as answer:
                assert answer.status == 201
                token = await answer.json()
            await sign_in(page, token["token"])
            await expect(page.get_by_role("heading", name="Nobody is on.")).to_be_visible()
            await expect(page.get_by_text("<i>Kim</i>")).to_be_visible()
            async with http.delete(f"{tokens}/{token['id']}") as answer:
                assert answer.status == 204
            await expect(page.get_by_text("You are no longer signed in")).to_be_visible()
            await expect(page.get_by_role("link", name="Live")).to_have_count(0)


async def test_a_server_with_too_many_watchers_says_so(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, "--max-watchers", "1") as server:
        async with aiohttp.ClientSession() as http, studio(server, tmp_path) as page:
            await expect(page.get_by_role("heading", name="Nobody is on.")).to_be_visible()
            busy = page.get_by_text("The server follows as many pages as it can")
            await page.goto("about:blank")
            async with watching_alone(http, server.url):
                await page.goto(f"{server.url}/studio")
                await expect(busy).to_be_visible()
                # what does not come by events is there
                await expect(page.get_by_role("heading", name="Nobody is on.")).to_be_visible()
            await expect(busy).to_be_hidden()


@asynccontextmanager
async def watching_alone(http: aiohttp.ClientSession, url: str) -> AsyncIterator[None]:
    """Follow the events of a server that lets one watch, as soon as nobody else does."""
    async with asyncio.timeout(20):
        while (answer := await http.get(f"{url}/api/events")).status != 200:
            answer.close()
            await asyncio.sleep(0.1)
    yield
    answer.close()


UNTIL = """
async ({ selector, text }) => {
  for (;;) {
    const found = [...document.querySelectorAll(selector)].find((one) => one.innerText.match(text));
    if (found) return found.innerText;
    await new Promise(requestAnimationFrame);
  }
}
"""
"""Waits for an element with a text."""
LISTEN = """
() => [...document.querySelectorAll(".card button")]
  .find((one) => one.textContent === "Listen").click()
"""


@pytest.mark.skipif(FIREFOX is None or missing() is not None, reason="no Firefox or PulseAudio")
async def test_firefox_shows_and_plays_a_session(tmp_path: pathlib.Path) -> None:
    streamed = ("--capture", "tone", "--name", "Ana")
    with (
        microphone(tmp_path / "pulse") as speakers,
        serving(tmp_path / "recordings") as server,
        gapless("stream", *streamed, "--server", server.url) as client,
    ):
        async with opened("firefox", tmp_path / "browser", speakers.environ) as browser:
            await browser.page.goto(f"{server.url}/studio")
            async with asyncio.timeout(60):
                await browser.page.evaluate(UNTIL, {"selector": ".card", "text": "Ana\\s+good"})
                await browser.page.evaluate(LISTEN)
                await browser.page.evaluate(UNTIL, {"selector": ".heard", "text": "00:02"})
        client.process.terminate()
        await asyncio.to_thread(client.end)
