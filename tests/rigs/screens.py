"""What the pages show: each state of both, on a server that is in it."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
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
    sessions: Sequence[str] = ()

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
async def staged(name: str) -> AsyncIterator[Stage]:
    """Run a server in the state of one of `WORLDS`."""
    world = WORLDS[name]
    with tempfile.TemporaryDirectory() as text:
        folder = pathlib.Path(text) / "recordings"
        folder.mkdir()
        await write_recordings(folder, world.names, count=world.count, rooms=world.rooms)
        with serving(folder, env={"GAPLESS_TOKEN": TOKEN}) as server:
            async with on_air(server.url, world.guests, token=TOKEN) as sessions:
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


# -- the states --------------------------------------------------------------------------------


def studio(view: str, *steps: Show) -> Show:
    """Open a view of the studio, and go on from there."""

    async def show(page: Page, stage: Stage) -> None:
        await page.goto(f"{stage.url}/studio#{view}")
        await page.locator("main h1").first.wait_for()
        for step in steps:
            await step(page, stage)

    return show


def after(seconds: float) -> Show:
    """Let time pass, for what moves."""
    return lambda page, _stage: page.wait_for_timeout(1000 * seconds)


async def listed(page: Page, _stage: Stage) -> None:
    """Wait for the recordings."""
    await page.locator(".list-body a").first.wait_for()


async def a_recording(page: Page, _stage: Stage) -> None:
    """Open the newest complete recording, and wait for its waveform and its verdict."""
    await page.locator(".list-row:has(.list-length:not(:empty)) a").first.click()
    await page.get_by_text("longest gap").or_(page.get_by_text("no gap")).wait_for()
    await page.wait_for_function(WAVEFORM)


async def a_room(page: Page, _stage: Stage) -> None:
    await page.get_by_role("link", name=ROOM).first.click()
    await page.wait_for_function(WAVEFORM)


async def an_invitation(page: Page, _stage: Stage) -> None:
    await page.get_by_label("Name of the guest").fill(RIGHT_TO_LEFT[0])
    await page.get_by_role("button", name="Make a link").click()
    await page.get_by_role("img", name="QR code of the link").wait_for()


WAVEFORM = """
() => {
  const canvas = document.querySelector(".lane-canvas");
  return canvas?.width && canvas.getContext("2d")
    .getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value);
}
"""
"""Whether the first lane is drawn."""


RENDER = """
async (changes) => {
  const { loadTexts } = await import("/pages/shared/text.js");
  const { initialState } = await import("/pages/speaker/state.js");
  const { viewIn } = await import("/pages/speaker/view.js");
  await loadTexts("shared", "speaker");
  const actions = new Proxy({}, { get: () => () => {} });
  const render = viewIn(document.getElementById("page"), actions);
  const state = { ...initialState(), ...changes };
  render({ ...state, screen: state.screen === "opening" ? "ready" : "opening" });
  render(state);
}
"""
"""Shows a state of the speaker's page, whose own script does not run."""


def speaker(screen: str, **changes: object) -> Show:
    """Show the speaker's page in a state: that of a guest with a good microphone, and `changes`."""

    async def show(page: Page, stage: Stage) -> None:
        await page.route("**/pages/speaker/main.js", lambda route: route.fulfill(body=""))
        await page.goto(f"{stage.url}/")
        await page.evaluate(RENDER, GUEST | changes | {"screen": screen})

    return show


def _guest(name: str, room: str, *, is_expired: bool = False) -> dict[str, object]:
    return {"name": name, "room": room, "isInvited": True, "isExpired": is_expired}


def _debt(identity: str, name: str, state: str, **more: object) -> dict[str, object]:
    return {
        "id": identity, "name": name, "startedAt": "2026-03-04T09:30:00Z", "seconds": 1845,
        "owedS": 312, "state": state, "isAlive": False, **more,
    }  # fmt: skip


GOOD = [{"peak_dbfs": -12.0, "rms_dbfs": -24.0, "clipped": 0}]
LOUD = [{"peak_dbfs": 0.0, "rms_dbfs": -6.0, "clipped": 12}]
SILENT = [{"peak_dbfs": None, "rms_dbfs": None, "clipped": 0}]
GUEST: dict[str, object] = {
    "guest": _guest("Ana", ROOM),
    "microphones": [
        {"id": "1", "label": "Desk microphone (USB)"},
        {"id": "2", "label": "Built-in microphone"},
    ],
    "microphone": "1",
    "label": "Desk microphone (USB)",
    "level": GOOD,
    "hearing": "good",
    "connection": {"state": "live"},
    "elapsedS": 754,
    "safeS": 751,
    "owedS": 3,
}
HURRY = {"id": "1", "at": "2026-03-04T10:05:00Z", "text": "One minute left, please come to an end."}
ARABIC = {"id": "2", "at": "2026-03-04T10:06:00Z", "text": "دقيقة واحدة متبقية (1:00)"}
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
STRANGE_GUESTS = {
    "messages": [HURRY, ARABIC],
    "microphones": [{"id": "1", "label": UNBROKEN}],
    "label": UNBROKEN,
}

SPEAKER_SCREENS = (
    Screen("speaker-ask", "Before the browser asks", speaker("opening", permission="ask")),
    Screen("speaker-denied", "No permission", speaker("opening", permission="denied")),
    Screen("speaker-insecure", "No HTTPS", speaker("opening", permission="insecure")),
    Screen("speaker-ready", "A microphone is open", speaker("ready")),
    Screen("speaker-silent", "Nothing is heard", speaker("ready", level=SILENT, hearing="silent")),
    Screen("speaker-clips", "Too loud", speaker("ready", level=LOUD, hearing="clips")),
    Screen(
        "speaker-expired",
        "A link that has expired",
        speaker("ready", guest=_guest("Ana", ROOM, is_expired=True)),
    ),
    Screen(
        "speaker-names-right-to-left",
        "A name and a room from right to left",
        speaker("ready", guest=_guest(RIGHT_TO_LEFT[0], "غرفة الجمعة")),
    ),
    Screen(
        "speaker-names-long",
        "A long name",
        speaker("ready", **(STRANGE_GUESTS | {"guest": _guest(LONG, UNBROKEN)})),
    ),
    Screen("speaker-recording", "Recording", speaker("recording", messages=[HURRY])),
    Screen("speaker-messages", "Messages of all sorts", speaker("recording", **STRANGE_GUESTS)),
    Screen(
        "speaker-reconnecting",
        "The network is gone",
        speaker("recording", connection={"state": "restarting"}, safeS=730, owedS=24),
    ),
    Screen(
        "speaker-blocked",
        "The network blocks UDP",
        speaker("recording", connection={"state": "blocked"}, safeS=741, owedS=13),
    ),
    Screen(
        "speaker-unplugged",
        "The microphone is unplugged",
        speaker(
            "recording",
            incident={"type": "ended", "text": "Desk microphone (USB)"},
            level=SILENT,
            hearing="silent",
            keeping="memory",
        ),
    ),
    Screen("speaker-paused", "Paused", speaker("recording", isPaused=True, level=SILENT)),
    Screen("speaker-finishing", "Sending the rest", speaker("finishing", owedS=212)),
    Screen(
        "speaker-finished",
        "All of it is on the server",
        speaker("finished", outcome={"state": "safe", "seconds": 754.2, "sha256": SHA256}),
    ),
    Screen(
        "speaker-owed",
        "Not all of it has been sent",
        speaker(
            "finished",
            outcome={"state": "owed", "seconds": 754.2, "sha256": None, "detail": "too many"},
        ),
    ),
    Screen(
        "speaker-refused",
        "The link is not valid any more",
        speaker("refused", refusal={"status": 401, "detail": "the token has expired"}),
    ),
    Screen(
        "speaker-debts",
        "What an earlier page owes",
        speaker(
            "ready",
            debts=[
                _debt("1", "Ana", "sending", isAlive=True),
                _debt("2", RIGHT_TO_LEFT[0], "refused", detail="the session is over"),
            ],
        ),
    ),
    Screen("speaker-german", "In German", speaker("recording", messages=[HURRY]), locale="de-DE"),
)
STUDIO_SCREENS = (
    Screen("studio-live-empty", "Nobody is on", studio("live"), "empty"),
    Screen("studio-live", "Who is on", studio("live", after(4)), "many"),
    Screen("studio-live-names", "Long names, right-to-left names", studio("live"), "strange"),
    Screen("studio-recordings-empty", "No recordings yet", studio("recordings"), "empty"),
    Screen("studio-recordings", "Recordings", studio("recordings", listed), "many"),
    Screen("studio-recordings-names", "Names of all sorts", studio("recordings", listed), "strange"),
    Screen("studio-recording", "A recording", studio("recordings", a_recording), "many"),
    Screen("studio-rooms", "Rooms", studio("rooms"), "many"),
    Screen("studio-room", "A room", studio("rooms", a_room), "many"),
    Screen("studio-invite", "Inviting", studio("invite"), "many"),
    Screen("studio-invitation", "An invitation", studio("invite", an_invitation), "many"),
)
SCREENS: tuple[Screen, ...] = (*SPEAKER_SCREENS, *STUDIO_SCREENS)
