"""The whole way of a guest, in browsers: from the link to a recording that has all of it.

The page counts the SHA-256 of what it has captured while it captures. It has to be that of the
recording, whatever has become of the network and of the page.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
import soundfile
from playwright.async_api import Route

from tests.rigs import microphone as rig
from tests.rigs.browser import BROWSERS, browser_page, opened
from tests.rigs.guest import ChromiumGuest, FirefoxGuest, Guest
from tests.rigs.processes import Server, gapless, serving
from tests.rigs.proxied import Network, proxied
from tests.rigs.sound import RATE, speech
from tests.rigs.sweep import microphones

TOKEN = "token-of-the-administrator-of-the-tests"
OUTAGE_S = 5.0
NOTICED_S = 20.0
"""Browsers notice within 5 to 8 s that nothing comes back."""
STEREO = """
const { getSettings } = MediaStreamTrack.prototype;
MediaStreamTrack.prototype.getSettings = function () {
  return { ...getSettings.call(this), channelCount: 2 };
};
"""
"""Chromium's microphone for tests has one channel. It says that it has two from now on."""

pytestmark = [
    pytest.mark.skipif(BROWSERS["chromium"] is None, reason="chromium is not installed"),
    pytest.mark.timeout(150),
]


@asynccontextmanager
async def a_guest(browser: str, folder: pathlib.Path) -> AsyncIterator[Guest]:
    """Give a guest a phone with Chromium, or a computer with Firefox; the microphone speaks."""
    if browser == "chromium":
        soundfile.write(folder / "microphone.wav", speech(20), RATE)
        async with browser_page(folder / "microphone.wav", is_phone=True) as page:
            yield ChromiumGuest(page)
    else:
        if BROWSERS["firefox"] is None or rig.missing() is not None:
            pytest.skip(rig.missing() or "firefox is not installed")
        with microphones(folder / "pulse") as device:
            async with opened("firefox", folder / "firefox", device.environ) as firefox:
                yield FirefoxGuest(firefox.page)  # type: ignore[arg-type]


@asynccontextmanager
async def a_studio(
    folder: pathlib.Path, *, has_tokens: bool = False, udp_is_blocked: bool = False
) -> AsyncIterator[tuple[Server, Network]]:
    env = {"GAPLESS_TOKEN": TOKEN} if has_tokens else {}
    with serving(folder / "recordings", "--trusted-proxies", "127.0.0.1", env=env) as server:
        async with proxied(server.url, udp_is_blocked=udp_is_blocked) as network:
            yield server, network


async def asked(method: str, url: str, body: object = None) -> dict[str, object]:
    """Ask the API as the administrator."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, url, json=body) as answer,
    ):
        assert answer.ok, await answer.text()
        found: dict[str, object] = await answer.json()
        return found


async def ready(guest: Guest, url: str) -> None:
    """Open a link, and wait until the microphone is heard."""
    await guest.open(url)
    if "Choose microphone" in await guest.until("Choose microphone", "Start recording"):
        await guest.press("Choose microphone")
    await guest.until("Start recording")


def verified(folder: pathlib.Path) -> dict[str, object]:
    """Return the ledger of the only recording, which `gapless verify` finds sound."""
    (path,) = (folder / "recordings").glob("*.wav")
    with gapless("verify", str(path)) as verifying:
        assert verifying.end() == 0, verifying.lines
    ledger: dict[str, object] = json.loads(path.with_suffix(".json").read_text())
    return ledger


async def finished(guest: Guest) -> str:
    """Stop, wait until all is safe, and return the hash of what the page has captured."""
    await guest.press("Stop")
    await guest.until("All of it is on the server", seconds=60)
    await guest.press("Figures")
    found = await guest.hash()
    assert len(found) == 64
    return found


@pytest.mark.parametrize("browser", ["chromium", "firefox"])
async def test_a_recording_has_all_that_the_page_has_captured(
    browser: str, tmp_path: pathlib.Path
) -> None:
    """The network goes for a while, the tab is killed, and another one goes on."""
    async with (
        a_studio(tmp_path, has_tokens=True) as (server, network),
        a_guest(browser, tmp_path) as guest,
    ):
        invited = await asked(
            "POST", f"{server.url}/api/invitations", {"name": "Ana", "room": "friday"}
        )
        link = f"{network.url}/#{str(invited['url']).partition('#')[2]}"
        await ready(guest, link)
        assert "Ana" in await guest.until("friday")
        await guest.press("Start recording")
        await guest.until("Connected")
        sessions = await asked("GET", f"{server.url}/api/sessions")
        (session,) = sessions["sessions"]  # type: ignore[misc]
        sending = f"{server.url}/api/sessions/{session['id']}/messages"  # type: ignore[index]
        await asked("POST", sending, {"text": "<b>Closer</b>, please."})
        await guest.until("<b>Closer</b>, please.")
        await asyncio.sleep(2)

        network.gone()
        await asyncio.sleep(OUTAGE_S)
        await guest.until("reconnecting", seconds=NOTICED_S)
        network.back()
        await guest.until("Connected")
        await guest.until_safe(3)

        await guest.kill_tab()
        await guest.open(link)
        await guest.until("Continue recording")
        await guest.press("Continue recording")
        await guest.until("Connected")
        await asyncio.sleep(2)
        sha256 = await finished(guest)
    ledger = verified(tmp_path)
    assert ledger["sha256"] == sha256
    assert ledger["room"] == "friday"
    assert ledger["restore"]["state"] == "complete"  # type: ignore[index]
    assert int(str(ledger["length_samples"])) > 12 * RATE


async def test_sound_arrives_whole_where_udp_is_blocked(tmp_path: pathlib.Path) -> None:
    async with (
        a_studio(tmp_path, udp_is_blocked=True) as (_, network),
        a_guest("chromium", tmp_path) as guest,
    ):
        await ready(guest, network.url)
        await guest.press("Start recording")
        await guest.until("This network blocks live sound", seconds=20)
        sha256 = await finished(guest)
    ledger = verified(tmp_path)
    assert ledger["sha256"] == sha256
    assert {span["kind"] for span in ledger["spans"]} == {"restored"}  # type: ignore[attr-defined]


async def test_what_is_recorded_without_a_network_is_sent_when_it_is_there(
    tmp_path: pathlib.Path,
) -> None:
    """No session is opened before the speaker has stopped."""
    async with a_studio(tmp_path) as (_, network), a_guest("chromium", tmp_path) as guest:
        await ready(guest, network.url)
        network.gone(refuses=True)
        await guest.press("Start recording")
        await guest.until("The server cannot be reached")
        await asyncio.sleep(2)
        await guest.press("Stop")
        await guest.until("It goes on by itself")
        network.back()
        await guest.until("All of it is on the server", seconds=60)
        await guest.press("Figures")
        sha256 = await guest.hash()
    ledger = verified(tmp_path)
    assert ledger["sha256"] == sha256
    assert int(str(ledger["length_samples"])) > 2 * RATE


async def test_a_link_that_is_not_valid_is_refused_in_words(tmp_path: pathlib.Path) -> None:
    async with (
        a_studio(tmp_path, has_tokens=True) as (server, _),
        a_guest("chromium", tmp_path) as guest,
    ):
        await ready(guest, f"{server.url}/#token=abc.def.ghi")
        await guest.press("Start recording")
        await guest.until("This link is not valid any more.")
        # nothing is kept of it: another visit owes nothing
        await ready(guest, f"{server.url}/?again#token=abc.def.ghi")
        assert "earlier" not in await guest.until("Start recording")
    assert list((tmp_path / "recordings").glob("*.wav")) == []


async def test_what_is_said_after_the_studio_has_ended_it_arrives_too(
    tmp_path: pathlib.Path,
) -> None:
    async with a_studio(tmp_path) as (server, _), a_guest("chromium", tmp_path) as guest:
        await ready(guest, server.url)
        await guest.press("Start recording")
        await guest.until("Connected")
        sessions = await asked("GET", f"{server.url}/api/sessions")
        (session,) = sessions["sessions"]  # type: ignore[misc]
        async with (
            aiohttp.ClientSession() as http,
            http.delete(f"{server.url}/sessions/{session['id']}") as ended,  # type: ignore[index]
        ):
            assert ended.ok
        # its messages end at once; a browser takes seconds to notice that its connection is closed
        await guest.until("The server has ended this recording", seconds=5)
        await asyncio.sleep(2)
        sha256 = await finished(guest)
    ledger = verified(tmp_path)
    assert ledger["sha256"] == sha256
    assert int(str(ledger["length_samples"])) > 2 * RATE


async def test_what_is_said_after_the_server_has_forgotten_the_session_arrives_too(
    tmp_path: pathlib.Path,
) -> None:
    """As after ten minutes in which no sound came, and nobody could tell it that there is some."""
    folder = tmp_path / "recordings"
    trusting = ("--trusted-proxies", "127.0.0.1")
    async with AsyncExitStack() as running:
        with serving(folder, *trusting) as server:
            blocking = proxied(server.url, udp_is_blocked=True)
            network = await running.enter_async_context(blocking)
            guest = await running.enter_async_context(a_guest("chromium", tmp_path))
            await ready(guest, network.url)
            await guest.press("Start recording")
            await guest.until("kept on this device")
            network.gone()
        for path in folder.glob("*.restore"):
            path.unlink()
        port = server.url.rpartition(":")[2]
        running.enter_context(serving(folder, *trusting, "--port", port))
        network.back()
        await guest.until("This network blocks live sound")
        sha256 = await finished(guest)
    ledger = verified(tmp_path)
    assert ledger["sha256"] == sha256
    assert {span["kind"] for span in ledger["spans"]} <= {"restored", "silence"}  # type: ignore[attr-defined]


async def test_what_is_said_before_a_link_is_refused_is_kept(tmp_path: pathlib.Path) -> None:
    """The link was valid when the guest began, and the network was away."""
    async with (
        a_studio(tmp_path, has_tokens=True) as (server, network),
        a_guest("chromium", tmp_path) as guest,
    ):
        invited = await asked("POST", f"{server.url}/api/invitations", {"name": "Ana"})
        await ready(guest, f"{network.url}/#{str(invited['url']).partition('#')[2]}")
        network.gone(refuses=True)
        await guest.press("Start recording")
        await guest.until("The server cannot be reached")
        (known,) = (await asked("GET", f"{server.url}/api/tokens"))["tokens"]  # type: ignore[misc]
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as http,
            http.delete(f"{server.url}/api/tokens/{known['id']}") as revoked,  # type: ignore[index]
        ):
            assert revoked.ok
        network.back()
        await guest.until("The server lets this page send no more live sound")
        await guest.press("Stop")
        await guest.until("The rest is kept on this device")
        await guest.press("Try again")
        await guest.until("could not be sent")
        await guest.press("Save as WAV")


async def test_a_link_for_one_session_opens_it_though_the_first_answer_is_lost(
    tmp_path: pathlib.Path,
) -> None:
    async with (
        a_studio(tmp_path, has_tokens=True) as (server, _),
        a_guest("chromium", tmp_path) as guest,
    ):
        assert isinstance(guest, ChromiumGuest)

        async def lose(route: Route) -> None:
            await route.fetch()
            await route.abort()

        await guest.page.route("**/whip", lose, times=1)
        wanted = {"name": "Ana", "once": True}
        invited = await asked("POST", f"{server.url}/api/invitations", wanted)
        await ready(guest, str(invited["url"]))
        await guest.press("Start recording")
        await guest.until("Connected")
        sha256 = await finished(guest)
    assert verified(tmp_path)["sha256"] == sha256


async def test_a_recording_goes_on_with_the_channels_that_it_began_with(
    tmp_path: pathlib.Path,
) -> None:
    """The guest chooses music before going on with a voice."""
    soundfile.write(tmp_path / "microphone.wav", speech(20), RATE)
    async with (
        a_studio(tmp_path) as (server, _),
        browser_page(tmp_path / "microphone.wav", is_phone=True) as page,
    ):
        await page.context.add_init_script(STEREO)
        guest = ChromiumGuest(page)
        await ready(guest, server.url)
        await guest.press("Start recording")
        await guest.until_safe(1)
        await guest.kill_tab()
        await guest.open(server.url)
        await guest.until("Continue recording")
        await guest.press("Music")
        await guest.until("Start recording")
        await guest.press("Continue recording")
        await guest.until("Connected")
        await guest.until("were not recorded")  # while there was no page; the time tells it, too
        await asyncio.sleep(1)
        began, shown = time.monotonic(), await page_seconds(guest)
        await asyncio.sleep(4)
        lasted, counted = time.monotonic() - began, await page_seconds(guest) - shown
        sha256 = await finished(guest)
    assert verified(tmp_path)["sha256"] == sha256
    assert counted < 1.5 * lasted


async def page_seconds(guest: ChromiumGuest) -> int:
    """Return how long the page says that it has recorded."""
    shown = await guest.page.locator("time.time").inner_text()
    hours, minutes, seconds = shown.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds)
