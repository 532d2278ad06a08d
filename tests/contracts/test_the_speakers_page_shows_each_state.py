"""The view of the speaker's page in Chromium: each state, in both languages, on a narrow phone."""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from adapters.http.pages.handlers import PageHandlers
from tests.fakes.http import FakeSessions, http_server
from tests.rigs.browser import CHROMIUM
from tests.rigs.speaker_screens import RENDER, STATES, without_script

AXE = pathlib.Path(sys.prefix) / "npm/node_modules/axe-core/axe.min.js"
BAD = ("serious", "critical")
FAULTS = """
async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.map(({ id, impact, nodes }) =>
    [impact, id, ...nodes.slice(0, 3).map(({ failureSummary }) => failureSummary)]);
}
"""

LINES = """
(button) => {
  const range = document.createRange();
  range.selectNodeContents(button);
  return range.getClientRects().length;
}
"""
COLOURS = """
(button) => {
  const { color, backgroundColor } = getComputedStyle(button);
  return [color, backgroundColor, getComputedStyle(document.body).color];
}
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@asynccontextmanager
async def a_page(**context: Any) -> AsyncIterator[Page]:
    """Open the speaker's page, which shows nothing by itself."""
    server = http_server(FakeSessions(), more=[PageHandlers()])
    url = await server.start()
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
            page = await (await browser.new_context(**context)).new_page()
            await without_script(page, url)
            yield page
            await browser.close()
    finally:
        await server.stop()


@pytest.mark.parametrize(("language", "scheme"), [("en-GB", "light"), ("de-DE", "dark")])
async def test_every_state_can_be_shown_and_read(language: str, scheme: Any) -> None:
    """Without an error, in the width of the page, and without a serious fault for axe-core."""
    async with a_page(
        locale=language, color_scheme=scheme, viewport={"width": 320, "height": 640},
        bypass_csp=True, reduced_motion="reduce",
    ) as page:  # fmt: skip
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        if AXE.exists():
            await page.add_script_tag(content=AXE.read_text())
        for name, (_, state) in STATES.items():
            await page.evaluate(RENDER, state)
            text = await page.inner_text("main")
            assert not re.search(r"\{\w+\}|undefined|NaN", text), (name, text)
            wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
            assert not wide, name
            if AXE.exists():
                found = await page.evaluate(FAULTS)
                assert [fault for fault in found if fault[0] in BAD] == [], name
        assert errors == []


async def test_a_page_blames_who_is_to_blame() -> None:
    """A server that answers can be reached; what the browser cannot do is not the server's."""
    busy = {"state": "waiting", "status": 503, "detail": "the server is full"}
    away = {"state": "waiting", "status": 502, "detail": "502"}
    debt = {**STATES["debts"][1]["debts"][1], "detail": "another page has it"}
    async with a_page(locale="en-GB") as page:

        async def said(name: str, **changes: object) -> str:
            await page.evaluate(RENDER, STATES[name][1] | changes)
            return await page.inner_text("main")

        full = await said("recording", connection=busy)
        assert "The server asks to wait" in full
        assert "The server says: the server is full" in full
        assert "cannot be reached" not in full
        assert "The server cannot be reached" in await said("recording", connection=away)
        assert "could not be sent: another page has it" in await said("debts", debts=[debt])
        assert "could not be sent.\n" in await said("debts", debts=[{**debt, "detail": ""}])
        assert "The microphone is gone: Desk microphone (USB)\n" in await said("unplugged")
        gone = await said("unplugged", incident={"type": "ended"})
        assert "The microphone is gone.\n" in gone


async def test_buttons_can_be_read_in_each_of_their_states() -> None:
    """A word stands in one line on a narrow phone; what is pressed stays dark under a finger."""
    async with a_page(
        locale="de-DE", viewport={"width": 320, "height": 640}, reduced_motion="reduce"
    ) as page:
        for name in ("recording", "paused", "muted"):
            await page.evaluate(RENDER, STATES[name][1])
            for button in await page.locator(".controls button").all():
                assert await button.evaluate(LINES) == 1, (name, await button.inner_text())
        pressed = page.locator("button[aria-pressed=true]")
        await pressed.hover()
        color, background, ink = await pressed.evaluate(COLOURS)
        assert background == ink != color
