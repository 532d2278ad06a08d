"""The states of the speaker's page."""

from __future__ import annotations

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
