"""Every state of the pages can be read, reached by keyboard, and used on a narrow screen."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Page

from tests.rigs.browser import CHROMIUM
from tests.rigs.screens import (
    LOOKS,
    NARROW,
    WORLDS,
    Look,
    Screen,
    Stage,
    a_browser,
    shown,
    staged,
)
from tests.rigs.speaker_screens import SPEAKER_SCREENS
from tests.rigs.studio_screens import STUDIO_SCREENS

SCREENS = (*SPEAKER_SCREENS, *STUDIO_SCREENS)
AXE = pathlib.Path(sys.prefix) / "npm/node_modules/axe-core/axe.min.js"
BAD = ("serious", "critical")
MAX_TABS = 150

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.timeout(600),
]

FAULTS = """
async (only) => {
  const which = only ? { runOnly: only } : {};
  const { violations } = await axe.run(document, { resultTypes: ["violations"], ...which });
  return violations.map(({ id, impact, help, nodes }) => ({
    id, impact, help, where: nodes.slice(0, 5).map(({ target, failureSummary }) =>
      `${target.join(" ")}: ${failureSummary}`),
  }));
}
"""
TOO_WIDE = """
() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.getBoundingClientRect().right > width + 0.5)
    .slice(0, 8).map((element) => element.outerHTML.slice(0, 120));
}
"""
CONTROLS = """
() => {
  const all = "a[href], button, input, select, textarea, summary, audio[controls]";
  const dialog = document.querySelector("dialog:modal");
  window.controls = [...(dialog ?? document).querySelectorAll(all)].filter((element) =>
    !element.disabled && element.tabIndex >= 0 && element.checkVisibility({
      visibilityProperty: true,
    }) && !element.closest("[inert]"));
  window.reached = new Set();
  document.activeElement?.blur();
  return controls.length;
}
"""
AT = """
() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const isAgain = reached.has(element);
  reached.add(element);
  // one of a group of radio buttons is in the tab order; arrow keys lead to the others
  if (element.type === "radio")
    for (const other of document.getElementsByName(element.name)) reached.add(other);
  const seen = (one) => [undefined, "::after"].some((part) => {
    const { outlineStyle, outlineWidth } = getComputedStyle(one, part);
    return outlineStyle !== "none" && parseFloat(outlineWidth) >= 1;
  });
  const around = element.closest("label") ?? element;
  return { isAgain, isSeen: seen(element) || seen(around), html: element.outerHTML.slice(0, 160) };
}
"""
UNREACHED = """
() => controls.filter((one) => one.isConnected && !reached.has(one))
  .map((one) => one.outerHTML.slice(0, 160))
"""


@asynccontextmanager
async def all_screens(world: str, look: Look) -> AsyncIterator[AsyncIterator[tuple[Screen, Page]]]:
    """Open each state of a world, one after the other."""

    async def opened(stage: Stage) -> AsyncIterator[tuple[Screen, Page]]:
        for screen in SCREENS:
            if screen.world == world:
                async with shown(browser, stage, screen, look, bypass_csp=True) as page:
                    yield screen, page

    async with a_browser() as browser, staged(WORLDS[world]) as stage:
        yield opened(stage)


@pytest.mark.parametrize("world", WORLDS)
async def test_every_state_can_be_read_and_used(world: str) -> None:
    """axe finds nothing serious, light or dark; nothing scrolls sideways; Tab reaches all."""
    found: dict[str, Any] = {}
    async with all_screens(world, LOOKS[0]) as screens:
        async for screen, page in screens:
            wrong: dict[str, Any] = {"faults": await faults_of(page)}
            wrong["controls"] = await walk(page)
            await page.emulate_media(color_scheme="dark")
            await page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
            wrong["narrow and dark"] = await faults_of(page, only=["color-contrast"])
            wrong["too wide"] = await page.evaluate(TOO_WIDE)
            if any(wrong.values()):
                found[screen.name] = wrong
    assert found == {}, json.dumps(found, indent=1)


async def faults_of(page: Page, *, only: Sequence[str] | None = None) -> list[Any]:
    """Return what axe-core takes for serious; nothing if it is not installed."""
    if not AXE.exists():
        return []
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE.read_text())
    found = await page.evaluate(FAULTS, only)
    return [fault for fault in found if fault["impact"] in BAD]


async def walk(page: Page) -> list[str]:
    """Press Tab until all controls were reached; return those without a visible focus, or none."""
    await page.evaluate(CONTROLS)
    wrong, ends = [], 0
    for _ in range(MAX_TABS):
        await page.keyboard.press("Tab")
        at = await page.evaluate(AT)
        # focus begins at the heading of what is shown, so the first end may be that of the page
        ends += at is None
        if ends == 2 or (at and at["isAgain"]):
            break
        if at and not at["isSeen"]:
            wrong.append(f"no visible focus: {at['html']}")
    return wrong + [f"not reached: {html}" for html in await page.evaluate(UNREACHED)]
