"""A browser plays a recording from the API, and seeks in it."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
import pytest
from aiohttp import web

from adapters.http.api.audio import AudioHandlers
from adapters.http.routes import Route
from adapters.storage.converting import begin_file
from domain.recording.effects import EndReason
from domain.recording.ledger import SampleKind
from tests.fakes.http import FakeSessions, http_server
from tests.rigs.browser import CHROMIUM, opened
from tests.rigs.firefox import BLANK
from tests.rigs.recordings import START, close, info, open_folder

MINUTES = 10
SEEK = """
async (url) => {
  const audio = new Audio();
  const once = (name) => new Promise((resolve, reject) => {
    audio.addEventListener(name, resolve, { once: true });
    audio.addEventListener("error", () => reject(new Error(audio.error.message)), { once: true });
  });
  audio.muted = true;
  audio.src = url;
  await once("loadedmetadata");
  const duration = audio.duration;
  audio.currentTime = duration - 30;
  await once("seeked");
  const sought = audio.currentTime;
  await audio.play();
  while (audio.currentTime < sought + 0.5) await once("timeupdate");
  audio.currentTime = 60;
  await once("seeked");
  const back = audio.currentTime;
  audio.pause();
  return { duration, sought, back };
}
"""


class _Watched(AudioHandlers):
    """Notes which ranges are asked for, and what is answered."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.seen: list[tuple[str, int]] = []

    def routes(self) -> Sequence[Route]:
        (route,) = super().routes()

        async def watch(request: web.Request) -> web.StreamResponse:
            response = await route.handler(request)
            self.seen.append((request.headers.get("Range", ""), response.status))
            return response

        return [Route("GET", route.path, watch, role=route.role)]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
async def test_chromium_seeks_in_a_recording(tmp_path: pathlib.Path) -> None:
    rig = open_folder(tmp_path / "recordings")
    writer = rig.create(1)
    quiet = (np.random.default_rng(1).normal(size=(48_000, 1)) * 100).astype("<i2")
    for _ in range(MINUTES * 60):
        writer.append([quiet], SampleKind.RECEIVED)
    await writer.finish(EndReason.CLOSED, START)
    handlers = _Watched(rig.catalogue, begin_file, max_conversions=1)
    server = http_server(FakeSessions(), more=[handlers])
    url = await server.start()
    try:
        async with opened("chromium", tmp_path, {}) as browser:
            await browser.page.goto(url + BLANK)
            found = await browser.page.evaluate(SEEK, f"/api/recordings/{info(1).id}/audio")
    finally:
        await server.stop()
        close(rig)
    assert found["duration"] == pytest.approx(MINUTES * 60, abs=0.1)
    assert found["sought"] == pytest.approx(MINUTES * 60 - 30, abs=0.1)
    assert found["back"] == pytest.approx(60, abs=0.1)
    starts = [int(header.removeprefix("bytes=").split("-")[0]) for header, _ in handlers.seen]
    assert {status for _, status in handlers.seen} == {206}
    # it has skipped what it did not need
    assert any(start > (MINUTES * 60 - 35) * 96_000 for start in starts)
