"""The studio shows what was recorded: one finds it, sees it, hears it, takes it, and deletes it."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import soundfile
from playwright.async_api import Page, Request, expect

from domain.recording.effects import EndReason
from domain.recording.ledger import LedgerEvent, SampleKind
from tests.contracts.test_many_recordings import make_many
from tests.rigs.browser import CHROMIUM, browser_page
from tests.rigs.processes import gapless, serving
from tests.rigs.recordings import SECOND, START, close, info, open_folder
from tests.rigs.tracing import longest_task_ms

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

RATE = 48_000
SECONDS = 20
LOST = 8, 4
"""The second from which sound is missing, and for how long."""
MOST_MS = 50
MANY = 5_000

COLOURS = """
() => {
  const canvas = document.querySelector(".lane-canvas");
  const context = canvas.getContext("2d");
  const strip = context.getImageData(0, canvas.height - 1, canvas.width, 1).data;
  const middle = Math.floor((canvas.height - 3) / 2);
  const sound = context.getImageData(0, middle, canvas.width, 1).data;
  const at = (row, share) => {
    const from = 4 * Math.floor(share * canvas.width);
    return [...row.slice(from, from + 4)];
  };
  const named = (kind) => {
    const probe = document.createElement("canvas").getContext("2d");
    probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(`--kind-${kind}`);
    probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data];
  };
  return {
    lost: at(strip, 0.5), received: at(strip, 0.2), sound: at(sound, 0.2),
    silence: named("silence"), blue: named("received"),
  };
}
"""
SCROLL = """
async (step) => {
  const frames = [];
  let before = performance.now(), still = 0, last = -1;
  while (still < 30) {
    scrollBy(0, step);
    await new Promise(requestAnimationFrame);
    frames.push(performance.now() - before);
    before = performance.now();
    still = scrollY === last ? still + 1 : 0;
    last = scrollY;
  }
  return Math.max(...frames);
}
"""


async def record(folder: pathlib.Path) -> None:
    """Make three recordings; the sound of the first, Ana's, has a gap."""
    rig = open_folder(folder)
    tone = (np.sin(np.arange(RATE) / 20) * 12_000).astype("<i2").reshape(-1, 1)
    for number, (client, room) in enumerate([("Ana", "Friday"), ("Bruno", "Friday"), ("Ana", "")]):
        writer = rig.create(number, client=client, room=room)
        lost = range(LOST[0], sum(LOST)) if number == 0 else range(0)
        for second in range(SECONDS):
            if second not in lost:
                writer.append([tone], SampleKind.RECEIVED)
            elif second == lost.start:
                length = len(lost) * RATE
                writer.note(LedgerEvent("outage", second * RATE, {"length": length}))
                writer.append_silence(length, SampleKind.SILENCE)
        await writer.finish(EndReason.CLOSED, START + SECONDS * SECOND)
    close(rig)


@asynccontextmanager
async def studio(folder: pathlib.Path, url: str) -> AsyncIterator[Page]:
    """Open the studio; no script of it may fail."""
    microphone = folder.with_suffix(".wav")
    soundfile.write(microphone, np.zeros(RATE, dtype="<i2"), RATE)
    failures: list[str] = []
    async with browser_page(microphone) as page:
        page.set_default_timeout(20_000)
        expect.set_options(timeout=20_000)
        page.on("pageerror", lambda error: failures.append(str(error)))
        await page.goto(f"{url}/studio#recordings")
        yield page
    assert failures == []


def rows(page: Page) -> Any:
    return page.locator(".list-body .list-row")


async def plays_from(page: Page, seconds: float) -> None:
    """Wait until the sound plays, from there on."""
    await page.wait_for_function(
        "(at) => { const { currentTime, paused } = document.querySelector('audio');"
        " return !paused && currentTime > at && currentTime < at + 5; }",
        arg=seconds - 0.05,
    )


@pytest.mark.timeout(150)
async def test_a_recording_is_found_seen_heard_taken_and_deleted(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "recordings"
    await record(folder)
    ana, bruno, other = (folder / f"{info(n, client=c).name}.wav" for n, c in enumerate(
        ["Ana", "Bruno", "Ana"]))  # fmt: skip
    with serving(folder) as server:
        async with studio(tmp_path / "microphone", server.url) as page:
            await expect(rows(page)).to_have_count(3)
            # this one is deleted while all else is looked at
            await page.get_by_role("link", name="bruno").click()
            await page.get_by_role("button", name="Delete", exact=True).click()
            await expect(rows(page)).to_have_count(2)

            await page.get_by_label("Room").fill("friday")
            await page.get_by_role("searchbox", name="Name").fill("an")
            await expect(rows(page)).to_have_count(1)
            await page.get_by_role("link", name="ana").click()
            await see(page)
            await hear(page)
            await take(page, ana, tmp_path)
            await expect(page.get_by_text("sound", exact=True)).to_be_visible()
            await expect(page.get_by_text("The longest gap takes 4 s.")).to_be_visible()

            await page.goto(f"{server.url}/studio#recordings?id={info(2).id}")
            await page.get_by_role("button", name="Delete", exact=True).click()
            await page.get_by_role("button", name="Undo").nth(-1).click()
            await expect(rows(page).filter(has_text="ana")).to_have_count(2)

            await expect(page.get_by_role("button", name="Undo")).to_have_count(0, timeout=20_000)
            assert not bruno.exists() and not bruno.with_suffix(".json").exists()
            # what is about to be deleted when the page is left, is deleted then
            await page.goto(f"{server.url}/studio#recordings?id={info(2).id}")
            await page.get_by_role("button", name="Delete", exact=True).click()
            await expect(rows(page)).to_have_count(1)
            assert other.exists()
            await page.goto("about:blank")
            async with asyncio.timeout(10):
                while other.exists():
                    await asyncio.sleep(0.05)
    assert ana.exists()


async def see(page: Page) -> None:
    """The missing sound has its colour where it is missing, and its share in words."""
    await expect(page.get_by_text("missing 20%")).to_be_visible()
    await expect(page.get_by_text("received 80%")).to_be_visible()
    await page.wait_for_function(f"() => ({COLOURS.strip()})().lost[3] > 0")
    found = await page.evaluate(COLOURS)
    assert found["lost"] == found["silence"]
    assert found["received"] == [0, 0, 0, 0]
    assert found["sound"] == found["blue"]


async def hear(page: Page) -> None:
    """A click plays from there, and so do a happening and the keys."""
    stage = page.locator(".lane-stage")
    box = await stage.bounding_box()
    assert box is not None
    await stage.click(position={"x": box["width"] * 0.75, "y": 20})
    await plays_from(page, SECONDS * 0.75)
    happened = page.locator(".happenings li").filter(has_text="missing")
    await expect(happened).to_contain_text("nothing arrived")
    await happened.get_by_role("button").click()
    await plays_from(page, LOST[0])
    ruler = page.get_by_role("slider")
    await ruler.focus()
    await page.keyboard.press("Space")
    await expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    await page.keyboard.press("Home")
    await expect(ruler).to_have_attribute("aria-valuetext", "00:00.0 of 00:20")
    for _ in range(3):
        await page.keyboard.press("+")
    await expect(page.locator(".ruler-ticks")).not_to_contain_text("00:10")
    await page.keyboard.press("0")
    await expect(page.locator(".ruler-ticks")).to_contain_text("00:10")


async def take(page: Page, recording: pathlib.Path, folder: pathlib.Path) -> None:
    """What is downloaded is the recording."""
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="FLAC").click()
    download = await downloading.value
    assert download.suggested_filename == f"{recording.stem}.flac"
    flac = folder / "taken.flac"
    await download.save_as(flac)
    samples, rate = soundfile.read(flac, dtype="int16")
    expected, _ = soundfile.read(recording, dtype="int16")
    assert rate == RATE and np.array_equal(samples, expected)
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Ledger").click()
    ledger = folder / "taken.json"
    await (await downloading.value).save_as(ledger)
    spans = json.loads(ledger.read_text())["spans"]
    assert {"start": LOST[0] * RATE, "length": LOST[1] * RATE, "kind": "silence"} in spans


@pytest.mark.timeout(120)
async def test_a_guest_records_by_an_invitation_into_a_room(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "recordings"
    with serving(folder) as server:
        async with studio(tmp_path / "microphone", server.url) as page:
            await page.get_by_text("Nothing has been recorded yet.").wait_for()
            await page.goto(f"{server.url}/studio#invite")
            await page.get_by_label("Name of the guest").fill("Zoë <b>")
            await page.get_by_label("Room").fill("Friday & more")
            await page.get_by_role("button", name="Make a link").click()
            link = await page.get_by_label("Link of the invitation").input_value()
            await expect(page.get_by_role("heading", name="Invitation for Zoë <b>")).to_be_visible()
            await expect(page.get_by_text("This link works on this machine only.")).to_be_visible()
            await page.get_by_role("button", name="Copy").click()
            await expect(
                page.get_by_text("Copied").or_(page.get_by_text("Selected"))
            ).to_be_visible()

            await page.goto(f"{server.url}/studio#rooms?room=Friday%20%26%20more")
            await expect(page.get_by_text("There are no recordings of this room.")).to_be_visible()
            lane = page.locator(".lane-head")
            with gapless("stream", "--server", link, "--capture", "tone", "--no-spool") as client:
                # it comes by itself, and grows
                await expect(lane).to_contain_text("recording", timeout=30_000)
                await expect(lane).to_contain_text("Zoë <b>")
                await page.wait_for_function(
                    "() => document.querySelector('.ruler-ticks').textContent.includes('00:04')"
                )
                assert await asyncio.to_thread(client.stop) == 0
            await expect(lane).not_to_contain_text("recording")
            await page.get_by_role("button", name="Play only").click()
            await plays_from(page, 0)

            await page.goto(f"{server.url}/studio#invite")
            await page.get_by_role("button", name="Revoke").click()
            await expect(page.get_by_text("revoked")).to_be_visible()
        ledger = json.loads(server.recording().with_suffix(".json").read_text())
        assert (ledger["room"], ledger["title"]) == ("Friday & more", "Zoë <b>")


@pytest.mark.timeout(120)
async def test_a_watcher_hears_recordings_and_cannot_change_them(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "recordings"
    await record(folder)
    tokens = ("--token", "the-token-of-all-clients", "--admin-token", "the-administrators-token")
    with serving(folder, *tokens) as server:
        async with studio(tmp_path / "microphone", server.url) as page:
            await page.get_by_label("Token").fill("the-token-of-all-clients")
            await page.get_by_role("button", name="Sign in").click()
            await page.get_by_role("link", name="bruno").click()
            await page.get_by_role("button", name="Play", exact=True).click()
            await plays_from(page, 0)
            await expect(page.get_by_role("link", name="FLAC")).to_be_visible()
            await expect(page.get_by_role("button", name="Delete", exact=True)).to_have_count(0)
            await expect(page.get_by_role("link", name="Invite")).to_have_count(0)


@pytest.mark.timeout(120)
async def test_thousands_scroll_smoothly(tmp_path: pathlib.Path) -> None:
    """No task of the page takes longer than a frame may; time that others take is not counted."""
    folder = tmp_path / "recordings"
    await asyncio.to_thread(make_many, folder, MANY)
    with serving(folder) as server:
        async with studio(tmp_path / "microphone", server.url) as page:
            pages: list[str] = []

            def note(request: Request) -> None:
                if "/api/recordings?" in request.url:
                    pages.append(request.url)

            page.on("request", note)
            await rows(page).first.wait_for()
            browser = page.context.browser
            assert browser is not None
            for step in (700, -2000):
                await browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
                longest_ms = await page.evaluate(SCROLL, step)
                busy_ms = longest_task_ms(await browser.stop_tracing())
                print(f"\nscrolled by {step} px a frame: longest frame {longest_ms:.0f} ms,"
                      f" longest task {busy_ms:.0f} ms")  # fmt: skip
                assert busy_ms < MOST_MS
                assert await rows(page).count() < 60
                if step > 0:
                    await expect(page.get_by_role("status")).to_have_text("5,000 recordings")
                    assert await page.locator(f'[aria-rowindex="{MANY + 1}"]').is_visible()
            assert len(pages) <= MANY / 200 + 2
            # keys go to the other end, and the focus is not lost
            await rows(page).first.get_by_role("link").focus()
            await page.keyboard.press("End")
            await page.keyboard.press("ArrowUp")
            index = "document.activeElement.closest('[role=row]').ariaRowIndex"
            assert await page.evaluate(index) == str(MANY)
