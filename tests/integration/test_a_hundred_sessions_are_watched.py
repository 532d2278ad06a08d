"""The studio shows a hundred sessions without a frame that takes long."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import soundfile
from aiohttp import web
from playwright.async_api import expect

from adapters.events.dispatcher import EventDispatcher
from adapters.http.api.alarms import AlarmHandlers
from adapters.http.api.events import EventHandlers
from adapters.http.api.hub import EventHub
from adapters.http.api.session_json import write_session
from adapters.http.api.storage import StorageHandlers
from adapters.http.nodes import NodeClient
from adapters.http.pages.handlers import PageHandlers
from adapters.http.routes import Route
from adapters.placement.single import SingleNode
from domain.events.server import CaptureReported, SessionStateChanged
from domain.recording.ledger import SampleKind
from domain.services.server.watching import WatchService
from domain.session.alarm_kinds import AlarmThresholds
from domain.session.capture import CaptureChange, CaptureEvent
from domain.session.session import SessionState
from domain.session.status import ChannelLevel, SessionStatus, TrackStatus
from tests.fakes.http import FakeSessions, http_server
from tests.fakes.time import EPOCH, FakeClock
from tests.rigs.browser import CHROMIUM, browser_page
from tests.rigs.tracing import longest_task_ms

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

SESSIONS, ROOMS, RATE = 100, 5, 48_000
TICK_S = 0.25
MOST_MS = 50.0
MEASURED_S = 5.0
SCROLL = """
async (seconds) => {
  const height = document.documentElement.scrollHeight - innerHeight;
  const began = await new Promise(requestAnimationFrame);
  for (let share = 0; share < 1; ) {
    share = ((await new Promise(requestAnimationFrame)) - began) / (seconds * 1000);
    // all the way down, and up again
    scrollTo(0, height * (1 - Math.abs(1 - 2 * share)));
  }
}
"""


class _Server:
    """What the server knows: sessions whose recordings grow, one of them with losses."""

    def __init__(self) -> None:
        self.tick = 0
        self.dice = np.random.default_rng(1)

    def statuses(self, since: object = None) -> Sequence[SessionStatus]:
        return [self._status(number) for number in range(SESSIONS)]

    def routes(self) -> Sequence[Route]:
        return [Route("GET", "/api/sessions", self._sessions, None)]

    async def _sessions(self, _request: web.Request) -> web.StreamResponse:
        sessions = [write_session(status) for status in self.statuses()]
        return web.json_response({"sessions": sessions, "is_complete": True})

    def _status(self, number: int) -> SessionStatus:
        length = round((60 + self.tick * TICK_S) * RATE)
        lost = 960 * (self.tick // 8) if number % 10 == 0 else 0
        kinds = {SampleKind.RECEIVED: length - lost, SampleKind.SILENCE: lost}
        peak = float(self.dice.uniform(-30, -3))
        track = TrackStatus(
            number=1, recording=f"r{number}", codec="opus", sample_rate_hz=RATE, channels=1,
            length=length, levels=(ChannelLevel(peak_dbfs=peak, rms_dbfs=peak - 10),),
            kinds=kinds, recent_kinds=kinds,
        )  # fmt: skip
        return SessionStatus(
            id=f"s{number}", name=f"Guest {number}", room=f"Room {number % ROOMS}",
            state=SessionState.RECORDING, opened_at=EPOCH, waits_for=None, tracks=(track,),
        )  # fmt: skip


@asynccontextmanager
async def studio_server() -> AsyncIterator[tuple[str, EventDispatcher]]:
    """Serve the studio, and let time pass as for real sessions; give the URL and the events."""
    known, hub, nodes, placement = _Server(), EventHub(), NodeClient(), SingleNode()
    events = EventDispatcher([hub])
    watching = WatchService(known, AlarmThresholds(), clock=FakeClock(), events=events)
    more: list[Any] = [
        PageHandlers(),
        EventHandlers(hub, placement=placement, nodes=nodes, max_watchers=2),
        AlarmHandlers(watching, placement=placement, nodes=nodes),
        StorageHandlers(watching, placement=placement, nodes=nodes),
        known,
    ]
    server = http_server(FakeSessions(), more=more)
    hub.open()

    async def tick() -> None:
        while True:
            known.tick += 1
            hub.show(known.statuses())
            if known.tick % 4 == 0:  # something happens, and the list is asked for
                events.publish(SessionStateChanged("s1", SessionState.RECORDING))
            await asyncio.sleep(TICK_S)

    ticking = asyncio.create_task(tick())
    try:
        yield await server.start(), events
    finally:
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
        hub.close()
        await server.stop()
        await nodes.close()
        events.close()


@pytest.mark.timeout(120)
async def test_no_frame_takes_long(tmp_path: pathlib.Path) -> None:
    microphone = tmp_path / "microphone.wav"
    soundfile.write(str(microphone), np.zeros(RATE, np.int16), RATE)
    async with studio_server() as (url, events), browser_page(microphone) as page:
        await page.set_viewport_size({"width": 1280, "height": 800})
        await page.goto(f"{url}/studio")
        await expect(page.locator(".card")).to_have_count(SESSIONS, timeout=20_000)
        await expect(page.get_by_text("10 to look at · 90 good")).to_be_visible(timeout=20_000)
        browser = page.context.browser
        assert browser is not None
        await browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
        await page.evaluate(SCROLL, MEASURED_S)
        assert longest_task_ms(await browser.stop_tracing()) < MOST_MS

        unplugged = CaptureEvent(CaptureChange.ENDED, EPOCH, text="<i>USB</i>")
        events.publish(CaptureReported("s1", unplugged))
        card = page.get_by_role("listitem", name="Guest 1", exact=True)
        await expect(card).to_contain_text("The microphone was unplugged")
        await expect(page.get_by_text("1 bad · 10 to look at · 89 good")).to_be_visible()
