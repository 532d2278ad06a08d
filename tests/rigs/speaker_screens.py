"""The states of the speaker's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playwright.async_api import Page

from tests.rigs.screens import Screen, Show, Stage
from tests.rigs.staged import LONG, RIGHT_TO_LEFT, ROOM, UNBROKEN

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
"""A function of the changes to the page's first state, which shows the result."""


async def without_script(page: Page, url: str) -> None:
    """Open the speaker's page without its own script, so that `RENDER` decides what it shows."""
    await page.route("**/pages/speaker/main.js", lambda route: route.fulfill(body=""))
    await page.goto(f"{url}/")


def _guest(name: str, room: str, *, is_expired: bool = False) -> dict[str, Any]:
    return {"name": name, "room": room, "isInvited": True, "isExpired": is_expired}


def _debt(identity: str, name: str, state: str, **more: object) -> dict[str, Any]:
    return {
        "id": identity, "name": name, "startedAt": "2026-03-04T09:30:00Z", "seconds": 1845,
        "owedS": 312, "state": state, "isAlive": False, **more,
    }  # fmt: skip


GOOD = [{"peak_dbfs": -12.0, "rms_dbfs": -24.0, "clipped": 0}]
LOUD = [
    {"peak_dbfs": 0.0, "rms_dbfs": -6.0, "clipped": 12},
    {"peak_dbfs": -3.0, "rms_dbfs": -14.0, "clipped": 0},
]
SILENT = [{"peak_dbfs": None, "rms_dbfs": None, "clipped": 0}]
NOTHING = {"level": SILENT, "hearing": "silent"}
HURRY = {"id": "1", "at": "2026-03-04T10:05:00Z", "text": "One minute left, please come to an end."}
ARABIC = {"id": "2", "at": "2026-03-04T10:06:00Z", "text": "دقيقة واحدة متبقية (1:00)"}
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
STRANGE = {
    "messages": [HURRY, ARABIC],
    "microphones": [{"id": "1", "label": UNBROKEN}],
    "label": UNBROKEN,
}
GUEST: dict[str, Any] = {
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
"""A guest with a good microphone: what the states below are changes of."""


def _state(title: str, screen: str, **changes: object) -> tuple[str, dict[str, Any]]:
    return title, GUEST | changes | {"screen": screen}


def _running(title: str, **changes: object) -> tuple[str, dict[str, Any]]:
    return _state(title, "recording", **changes)


def _connected(title: str, state: str, **changes: object) -> tuple[str, dict[str, Any]]:
    return _running(title, connection={"state": state}, **changes)


def _done(title: str, state: str, **outcome: object) -> tuple[str, dict[str, Any]]:
    what = {"state": state, "seconds": 754.2, "sha256": None, **outcome}
    return _state(title, "finished", outcome=what)


STATES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "ask": _state("Before the browser asks", "opening", permission="ask"),
    "asking": _state(
        "The browser asks", "opening", permission="asking", guest=_guest(LONG, UNBROKEN)
    ),
    "denied": _state("No permission", "opening", permission="denied"),
    "no-microphone": _state("No microphone", "opening", permission="none"),
    "busy": _state("A microphone that cannot be opened", "opening", permission="busy"),
    "insecure": _state("No HTTPS", "opening", permission="insecure"),
    "unsupported": _state("A browser that cannot record", "opening", permission="unsupported"),
    "ready": _state("A microphone is open", "ready"),
    "silent": _state("Nothing is heard", "ready", **NOTHING),
    "clips": _state("Too loud, as music", "ready", mode="music", level=LOUD, hearing="clips"),
    "virtual": _state("Perhaps no microphone", "ready", label="Monitor of Built-in audio"),
    "expired": _state(
        "A link that has expired", "ready", guest=_guest("Ana", ROOM, is_expired=True)
    ),
    "names-right-to-left": _state(
        "A name and a room from right to left",
        "ready",
        guest=_guest(RIGHT_TO_LEFT[0], "غرفة الجمعة"),
    ),
    "names-long": _state(
        "A long name", "ready", **(STRANGE | NOTHING | {"guest": _guest(LONG, UNBROKEN)})
    ),
    "debts": _state(
        "What an earlier page owes",
        "ready",
        debts=[
            _debt("1", "Ana", "sending", isAlive=True),
            _debt("2", RIGHT_TO_LEFT[0], "refused", detail="the session is over"),
            _debt("3", "", "waiting"),
            _debt("4", "Ben", "elsewhere"),
        ],
    ),
    "recording": _running("Recording", messages=[HURRY]),
    "messages": _running("Messages of all sorts", **STRANGE),
    "muted": _running("Muted", isMuted=True, level=SILENT),
    "paused": _running("Paused", isPaused=True, level=SILENT, safeS=754, owedS=0),
    "reconnecting": _connected("The network is gone", "restarting", safeS=730, owedS=24),
    "waiting": _connected("The server is away", "waiting", safeS=700, owedS=54),
    "later": _running(
        "The server is full",
        connection={"state": "waiting", "status": 503, "detail": "The server is full."},
        owedS=40,
    ),
    "blocked": _connected("The network blocks UDP", "blocked", safeS=741, owedS=13),
    "unkept": _connected("No network, and no copy", "offline", keeping="none", safeS=0),
    "over": _running("The server has ended it", connection={"state": "over", "status": 404}),
    "unplugged": _running(
        "The microphone is unplugged",
        incident={"type": "ended", "text": "Desk microphone (USB)"},
        keeping="memory",
        **NOTHING,
    ),
    "stall": _running("The device slept", incident={"type": "stall", "seconds": 12.0}),
    "full": _running("The device is full", incident={"type": "full"}, keeping="none"),
    "finishing": _state("Sending the rest", "finishing", owedS=212),
    "finished": _done("All of it is on the server", "safe", sha256=SHA256),
    "owed": _done("Not all of it has been sent", "owed", detail="too many"),
    "lost": _done("Nothing was recorded", "lost", seconds=12.0),
    "refused": _state(
        "The link is not valid any more",
        "refused",
        refusal={"status": 401, "detail": "the token has expired"},
    ),
}
"""By the names of their pictures: what they are in words, and what they change of the first."""


def _shown(state: dict[str, Any]) -> Show:
    async def show(page: Page, stage: Stage) -> None:
        await without_script(page, stage.url)
        await page.evaluate(RENDER, state)

    return show


SPEAKER_SCREENS = (
    *(Screen(f"speaker-{name}", title, _shown(state)) for name, (title, state) in STATES.items()),
    Screen("speaker-german", "In German", _shown(STATES["recording"][1]), locale="de-DE"),
)
