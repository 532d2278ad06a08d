"""A guest before the speaker's page, in any browser."""

from __future__ import annotations

import asyncio
from typing import Protocol

from playwright.async_api import Page

from tests.rigs.browser import BrowserPage
from tests.rigs.firefox import FirefoxPage

_UNTIL = """
async ([wanted, seconds]) => {
  const isThere = () => wanted.some((text) => document.body.innerText.includes(text));
  const changed = () => new Promise((resolve) => {
    const observer = new MutationObserver(() => { observer.disconnect(); resolve(); });
    observer.observe(document.body, { subtree: true, childList: true, characterData: true,
                                      attributes: true });
  });
  const end = new Promise((resolve) => setTimeout(resolve, seconds * 1000, "late"));
  while (!isThere())
    if (await Promise.race([changed(), end]) === "late") break;
  return document.body.innerText;
}
"""
_PRESS = """
(name) => {
  const buttons = [...document.querySelectorAll("main button, main summary")];
  const found = buttons.find((one) => one.textContent === name && one.checkVisibility());
  if (!found || found.disabled) throw new Error(`there is no button ${name} to press`);
  found.click();
}
"""
_SAFE_S = """
() => {
  const found = /Safe on the server: (\\d+):(\\d+):(\\d+)/.exec(document.body.innerText);
  return found ? found[1] * 3600 + found[2] * 60 + Number(found[3]) : -1;
}
"""


class Guest(Protocol):
    """What a guest sees and does."""

    async def open(self, url: str) -> None: ...
    async def press(self, name: str) -> None:
        """Press a button by its text."""

    async def until(self, *texts: str, seconds: float = 30) -> str:
        """Wait until the page shows one of some texts; return all of its text."""

    async def until_safe(self, seconds: float, *, within_s: float = 30) -> None:
        """Wait until the page says that this much is safe on the server."""

    async def hash(self) -> str:
        """Return the SHA-256 that the page shows."""

    async def kill_tab(self) -> None:
        """End the page's process, or close its tab, in mid-recording; another tab is there then."""


class _Guest:
    def __init__(self, page: BrowserPage) -> None:
        self._page = page

    async def press(self, name: str) -> None:
        await self._page.evaluate(_PRESS, name)

    async def until(self, *texts: str, seconds: float = 30) -> str:
        shown: str = await self._page.evaluate(_UNTIL, [list(texts), seconds])
        assert any(text in shown for text in texts), shown
        return shown

    async def until_safe(self, seconds: float, *, within_s: float = 30) -> None:
        async with asyncio.timeout(within_s):
            while await self._page.evaluate(_SAFE_S) < seconds:
                await asyncio.sleep(0.1)

    async def hash(self) -> str:
        found: str = await self._page.evaluate("document.querySelector('.hash')?.textContent ?? ''")
        return found


class ChromiumGuest(_Guest):
    """A guest with Chromium."""

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self.page = page

    async def open(self, url: str) -> None:
        await self.page.goto(url)

    async def press(self, name: str) -> None:
        """Press a button as a hand does: it has to be in sight, and nothing before it."""
        button = self.page.locator("main").get_by_text(name, exact=True)
        is_phone = await self.page.evaluate("matchMedia('(pointer: coarse)').matches")
        await (button.tap() if is_phone else button.click())

    async def kill_tab(self) -> None:
        devtools = await self.page.context.new_cdp_session(self.page)
        other = await self.page.context.new_page()
        crashed = asyncio.get_running_loop().create_future()
        self.page.once("crash", lambda _: crashed.set_result(None))
        asking = asyncio.ensure_future(devtools.send("Page.crash"))
        async with asyncio.timeout(10):
            await crashed
        asking.cancel()
        await self.page.close()
        self.page = self._page = other


class FirefoxGuest(_Guest):
    """A guest with Firefox."""

    def __init__(self, page: FirefoxPage) -> None:
        super().__init__(page)
        self.page = page

    async def open(self, url: str) -> None:
        await self.page.goto(url)

    async def kill_tab(self) -> None:
        await self.page.replace_tab()
