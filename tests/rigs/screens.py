"""What the pages show: each state of both, on a server that is in it."""

from __future__ import annotations

import asyncio
import pathlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import soundfile
from playwright.async_api import Browser, Page, async_playwright

from tests.rigs.browser import CHROMIUM
from tests.rigs.processes import Server, serving
from tests.rigs.sound import RATE, speech
from tests.rigs.staged import (
    LONG,
    ORDINARY,
    PLAIN,
    RIGHT_TO_LEFT,
    ROOM,
    STRANGE,
    UNBROKEN,
    Guest,
    on_air,
    write_recordings,
)

TOKEN = "token-of-the-administrator-of-the-tests"
PHONE, DESKTOP, NARROW = (360, 740), (1280, 800), (320, 640)


@dataclass(frozen=True)
class World:
    """What a server has: its recordings, and who is on."""

    names: Sequence[str] = ()
    count: int = 0
    rooms: Sequence[str] = (ROOM, "")
    guests: Sequence[Guest] = ()


WORLDS = {
    "empty": World(),
    "many": World(PLAIN, 60, guests=ORDINARY),
    "strange": World(
        [*RIGHT_TO_LEFT, LONG, UNBROKEN], 10, rooms=("غرفة الجمعة", LONG), guests=STRANGE
    ),
}


@dataclass(frozen=True)
class Stage:
    """A server in the state of a world."""

    server: Server
    sessions: Mapping[str, str] = field(default_factory=dict)
    """The secrets of the sessions that are on, by their ids."""

    @property
    def url(self) -> str:
        return self.server.url


Show = Callable[[Page, Stage], Awaitable[None]]


@dataclass(frozen=True)
class Screen:
    """One state of a page."""

    name: str
    title: str
    """What it shows, in words."""
    show: Show = field(compare=False)
    """Brings a page there; the browser has signed in."""
    world: str = "empty"
    is_signed_in: bool = True
    locale: str = "en-GB"


@dataclass(frozen=True)
class Look:
    """How a page is looked at."""

    name: str
    size: tuple[int, int]
    is_dark: bool = False

    @property
    def is_phone(self) -> bool:
        return self.size[0] < 500


LOOKS = (
    Look("desktop-light", DESKTOP),
    Look("desktop-dark", DESKTOP, is_dark=True),
    Look("phone-light", PHONE),
    Look("phone-dark", PHONE, is_dark=True),
)


@asynccontextmanager
async def staged(world: World, *, for_s: float = 0.0) -> AsyncIterator[Stage]:
    """Run a server in the state of a world, whose guests have spoken for a time."""
    with tempfile.TemporaryDirectory() as text:
        folder = pathlib.Path(text) / "recordings"
        folder.mkdir()
        await write_recordings(folder, world.names, count=world.count, rooms=world.rooms)
        with serving(folder, env={"GAPLESS_TOKEN": TOKEN}) as server:
            async with on_air(server.url, world.guests, token=TOKEN) as sessions:
                await asyncio.sleep(for_s if world.guests else 0)
                yield Stage(server, sessions)


@asynccontextmanager
async def a_browser() -> AsyncIterator[Browser]:
    """Run Chromium, with speech as its microphone."""
    with tempfile.TemporaryDirectory() as folder:
        microphone = pathlib.Path(folder) / "microphone.wav"
        soundfile.write(microphone, speech(10), RATE)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=CHROMIUM,
                args=[
                    "--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream",
                    "--allow-loopback-in-peer-connection", "--use-fake-device-for-media-stream",
                    f"--use-file-for-fake-audio-capture={microphone}",
                ],
            )  # fmt: skip
            try:
                yield browser
            finally:
                await browser.close()


@asynccontextmanager
async def shown(
    browser: Browser, stage: Stage, screen: Screen, look: Look, *, bypass_csp: bool = False
) -> AsyncIterator[Page]:
    """Open a page in a context of its own, and bring it into the state of a screen."""
    width, height = look.size
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if look.is_dark else "light",
        has_touch=look.is_phone,
        is_mobile=look.is_phone,
        reduced_motion="reduce",
        permissions=["microphone"],
        bypass_csp=bypass_csp,
        locale=screen.locale,
        timezone_id="UTC",
    )
    try:
        if screen.is_signed_in:
            await context.request.post(f"{stage.url}/api/sign-in", data={"token": TOKEN})
        page = await context.new_page()
        page.set_default_timeout(10_000)
        await screen.show(page, stage)
        yield page
    finally:
        await context.close()
