"""The states of the studio."""

from __future__ import annotations

from playwright.async_api import Page

from tests.rigs.recordings import info
from tests.rigs.screens import Screen, Show, Stage
from tests.rigs.staged import PANEL, ROOM


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


def has(selector: str) -> Show:
    """Wait until the page has an element."""
    return lambda page, _stage: page.locator(selector).first.wait_for()


def press(name: str) -> Show:
    """Press a button, the first of its name."""

    async def show(page: Page, _stage: Stage) -> None:
        await page.get_by_role("button", name=name).first.click()

    return show


def enter(label: str, text: str) -> Show:
    async def show(page: Page, _stage: Stage) -> None:
        await page.get_by_label(label).first.fill(text)

    return show


def at_sign_in(token: str = "") -> Show:
    """Open the studio without having signed in, and try a token."""

    async def show(page: Page, stage: Stage) -> None:
        await page.goto(f"{stage.url}/studio")
        await page.get_by_label("Token").fill(token)
        if token:
            await page.get_by_role("button", name="Sign in").click()
            await page.get_by_role("alert").first.wait_for()

    return show


async def disconnected(page: Page, _stage: Stage) -> None:
    """Let the studio lose its server."""
    await page.route("**/api/**", lambda route: route.abort())
    await page.reload()


async def figures(page: Page, _stage: Stage) -> None:
    await page.get_by_text("Figures").first.click()


async def no_recordings(page: Page, _stage: Stage) -> None:
    await page.get_by_role("searchbox", name="Name").fill("nobody of this name")
    await page.get_by_text("No recording matches.").wait_for()


ROWS = has(".list-body .list-row .list-state")
DRAWN = after(1.5)
STUDIO_SCREENS = (
    Screen("studio-sign-in", "Signing in", at_sign_in(), is_signed_in=False),
    Screen("studio-refused", "A wrong token", at_sign_in("wrong"), is_signed_in=False),
    Screen("studio-live-empty", "Nobody is on", studio("live", has(".empty"))),
    Screen("studio-recordings-empty", "No recordings yet", studio("recordings", DRAWN)),
    Screen("studio-rooms-empty", "No rooms yet", studio("rooms", DRAWN)),
    Screen("studio-invite", "Inviting", studio("invite")),
    Screen("studio-lost", "The server cannot be reached", studio("live", disconnected, DRAWN)),
    Screen("studio-recordings", "Recordings", studio("recordings", ROWS, DRAWN), "many"),
    Screen(
        "studio-recordings-none",
        "No recording matches",
        studio("recordings", no_recordings),
        "many",
    ),
    Screen(
        "studio-recording",
        "One recording",
        studio(f"recordings?id={info(1).id}", has(".lane-stage"), DRAWN),
        "many",
    ),
    Screen(
        "studio-recording-lost",
        "A recording with a gap",
        studio(f"recordings?id={info(2).id}", has(".lane-stage"), DRAWN),
        "many",
    ),
    Screen("studio-rooms", "Rooms", studio("rooms", has(".room-list li"), DRAWN), "many"),
    Screen(
        "studio-room",
        "One room",
        studio(f"rooms?room={PANEL}", has(".lane-stage"), DRAWN),
        "many",
    ),
    Screen(
        "studio-invited",
        "An invitation",
        studio(
            "invite",
            enter("Name of the guest", "Ana"),
            enter("Room", ROOM),
            press("Make a link"),
            has(".invitation svg"),
        ),
        "many",
    ),
    Screen("studio-live", "Who is on, and alarms", studio("live", has(".card"), after(3)), "many"),
    Screen(
        "studio-live-figures", "The figures", studio("live", has(".card"), figures, DRAWN), "many"
    ),
    Screen(
        "studio-message",
        "A message",
        studio("live", has(".card"), press("Message"), after(2)),
        "many",
    ),
    Screen("studio-end", "Ending a recording", studio("live", has(".card"), press("End")), "many"),
    Screen(
        "studio-alarms",
        "The history of alarms",
        studio("live", has(".card"), press("alarms")),
        "many",
    ),
    Screen(
        "studio-live-names",
        "Long names, right-to-left names",
        studio("live", has(".card"), after(3)),
        "strange",
    ),
    Screen(
        "studio-recordings-names",
        "Recordings with such names",
        studio("recordings", ROWS, DRAWN),
        "strange",
    ),
    Screen(
        "studio-german",
        "In German",
        studio("live", has(".card"), after(3)),
        "many",
        locale="de-DE",
    ),
)
