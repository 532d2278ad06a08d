"""The view of the speaker's page in Chromium: each state, in both languages, on a narrow phone."""

from __future__ import annotations

import pathlib
import re
import sys
from typing import Any

import pytest
from playwright.async_api import async_playwright

from adapters.http.pages.handlers import FILES, PageHandlers
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

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.mark.parametrize(("language", "scheme"), [("en-GB", "light"), ("de-DE", "dark")])
async def test_every_state_can_be_shown_and_read(language: str, scheme: Any) -> None:
    """Without an error, in the width of the page, and without a serious fault for axe-core."""
    server = http_server(FakeSessions(), more=[PageHandlers()])
    url = await server.start()
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
            context = await browser.new_context(
                locale=language, color_scheme=scheme, viewport={"width": 320, "height": 640},
                bypass_csp=True, reduced_motion="reduce",
            )  # fmt: skip
            page = await context.new_page()
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            await without_script(page, url)
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
            await browser.close()
    finally:
        await server.stop()


def test_no_text_is_there_in_vain() -> None:
    """Each key of the texts is written in a module, or begins as one that is put together there."""
    sources = "\n".join(path.read_text() for path in (FILES / "speaker").glob("*.js"))
    keys = re.findall(r'^  "([^"]+)":', (FILES / "text/speaker.en.js").read_text(), re.MULTILINE)
    put_together = tuple(re.findall(r"`([\w.]+\.)\$\{", sources))
    unused = [key for key in keys if f'"{key}"' not in sources and not key.startswith(put_together)]
    assert unused == []
