"""Measures the studio beside the streams that it shows, in Chromium on the same machine.

``python -m benchmarks.studio [STREAMS] [RECORDINGS]`` records streams while a browser scrolls
through the live sessions and the list of recordings. It prints how long frames took by the clock,
and whether each recording is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import soundfile
from playwright.async_api import Page, expect

from benchmarks.tables import heading, row
from benchmarks.watched import PERCENTILES, WINDOW_S, Seen, percentile, run
from tests.rigs.browser import browser_page

RATE = 48_000
SCROLL = """
async ({ selector, seconds }) => {
  const page = document.querySelector(selector) ?? document.scrollingElement;
  const frames = [];
  let before = performance.now();
  const end = before + 1000 * seconds;
  for (let step = 40; before < end; ) {
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - before);
    before = now;
    const from = page.scrollTop;
    page.scrollTop += step;
    if (page.scrollTop === from) step = -step;
  }
  return frames.slice(1);
}
"""
VIEWS = {"live": ".card", "recordings": ".list-row a"}


async def scroll(page: Page, url: str, frames: dict[str, list[float]]) -> None:
    for view, first in VIEWS.items():
        await page.goto(f"{url}/studio#{view}")
        await expect(page.locator(first).first).to_be_visible(timeout=30_000)
        await asyncio.sleep(1)
        argument = {"selector": ".list-body", "seconds": WINDOW_S / 3}
        frames[view] = await page.evaluate(SCROLL, argument)


def main(streams: int = 100, recordings: int = 5000) -> None:
    frames: dict[str, list[float]] = {}

    @asynccontextmanager
    async def in_the_studio(url: str, _seen: Seen) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            microphone = pathlib.Path(folder) / "microphone.wav"
            soundfile.write(str(microphone), np.zeros(RATE, np.int16), RATE)
            async with browser_page(microphone) as page:
                await page.set_viewport_size({"width": 1280, "height": 800})
                scrolling = asyncio.create_task(scroll(page, url, frames))
                try:
                    yield
                    await scrolling
                finally:
                    scrolling.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await scrolling

    seen = asyncio.run(run(streams, recordings, in_the_studio))
    print(heading("", *frames), end="")
    print(row("frames", *(len(item) for item in frames.values())), end="")
    for text, share in (*PERCENTILES, ("longest", 1.0)):
        cells = (f"{percentile(item, share):.0f}" for item in frames.values())
        print(row(f"{text}, ms", *cells), end="")
    late = (sum(frame > 50 for frame in item) for item in frames.values())
    print(row("longer than 50 ms", *late), end="")
    print(
        f"\nall {streams} recordings are whole: {seen.whole}; the server: {seen.cpu:.0%} of a core"
    )


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:]))
