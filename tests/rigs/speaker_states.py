"""States of the speaker's page, which its view shows without a microphone or a recording."""

from __future__ import annotations

from typing import Any

SHOW = """
async (changes) => {
  const { initialState } = await import("/pages/speaker/state.js");
  const { viewIn } = await import("/pages/speaker/view.js");
  // the page's own goes on in an element that nobody sees
  const page = document.getElementById("page");
  const root = page.cloneNode(false);
  page.replaceWith(root);
  viewIn(root, {})({ ...initialState(), ...changes });
  document.activeElement?.blur();
}
"""
"""A function of the changes to the page's first state: shows the result in place of the page."""

_GUEST = {"name": "Ana", "room": "Friday", "isInvited": True, "isExpired": False}
_LONG = {
    "name": "Dr. Anastasia-Konstantina Papadopoulou-Wolfeschlegelsteinhausenbergerdorff " * 2,
    "room": "The-room-of-a-name-without-any-space-that-does-not-fit-into-a-line-of-a-phone",
    "isInvited": True,
    "isExpired": False,
}
_ARABIC = {"name": "ليلى (Layla)", "room": "غرفة 3", "isInvited": True, "isExpired": False}
_MICROPHONES = [
    {"id": "a", "label": "Built-in microphone"},
    {"id": "b", "label": "USB Audio CODEC: a microphone with a name that is longer than a phone"},
]
_READY = {
    "screen": "ready",
    "guest": _GUEST,
    "microphones": _MICROPHONES,
    "microphone": "a",
    "label": "Built-in microphone",
    "level": [{"peak_dbfs": -14.0, "rms_dbfs": -26.0, "clipped": 0}],
    "hearing": "good",
}
_RECORDING = {
    **_READY,
    "screen": "recording",
    "connection": {"state": "live"},
    "elapsedS": 754.2,
    "safeS": 751.0,
    "owedS": 3.2,
}
_DEBT = {
    "id": "one",
    "name": "Ana",
    "startedAt": "2026-01-31T12:00:00Z",
    "seconds": 754.0,
    "owedS": 42.0,
    "state": "waiting",
    "isAlive": False,
}
_MESSAGES = [
    {"id": "1", "text": "Please move a little closer.", "at": "2026-01-31T12:10:00Z"},
    {"id": "2", "text": "שתי דקות נשארו", "at": "2026-01-31T12:12:00Z"},
]
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

STATES: dict[str, dict[str, Any]] = {
    "ask": {"permission": "ask", "guest": _GUEST},
    "asking": {"permission": "asking", "guest": _LONG},
    "denied": {"permission": "denied", "guest": _GUEST},
    "no-microphone": {"permission": "none"},
    "insecure": {"permission": "insecure"},
    "ready": _READY,
    "ready-music-clips": {
        **_READY,
        "guest": _ARABIC,
        "mode": "music",
        "hearing": "clips",
        "level": [
            {"peak_dbfs": 0.0, "rms_dbfs": -9.0, "clipped": 4},
            {"peak_dbfs": -3.0, "rms_dbfs": -14.0, "clipped": 0},
        ],
    },
    "ready-silent-long-names": {
        **_READY,
        "guest": _LONG,
        "microphone": "b",
        "hearing": "silent",
        "level": [{"peak_dbfs": -120.0, "rms_dbfs": -120.0, "clipped": 0}],
    },
    "ready-virtual-expired": {
        **_READY,
        "guest": {**_GUEST, "isExpired": True},
        "label": "Monitor of Built-in audio",
    },
    "ready-owed": {
        **_READY,
        "debts": [
            {**_DEBT, "isAlive": True},
            {**_DEBT, "id": "two", "name": "", "state": "sending"},
            {**_DEBT, "id": "three", "name": "ليلى", "state": "refused", "detail": "It waited."},
        ],
    },
    "recording": _RECORDING,
    "recording-messages": {**_RECORDING, "messages": _MESSAGES},
    "recording-paused": {**_RECORDING, "isPaused": True, "owedS": 0.0, "safeS": 754.0},
    "recording-muted": {**_RECORDING, "isMuted": True},
    "recording-lost": {
        **_RECORDING,
        "connection": {"state": "restarting"},
        "safeS": 731.0,
        "owedS": 23.2,
    },
    "recording-waiting": {
        **_RECORDING,
        "connection": {"state": "waiting", "status": 503, "detail": "The server is full."},
        "owedS": 40.0,
    },
    "recording-blocked": {
        **_RECORDING,
        "connection": {"state": "blocked"},
        "safeS": 0.0,
        "owedS": 754.2,
        "keeping": "memory",
    },
    "recording-lost-unkept": {
        **_RECORDING,
        "connection": {"state": "offline"},
        "keeping": "none",
        "safeS": 0.0,
    },
    "recording-over": {**_RECORDING, "connection": {"state": "over", "status": 404}},
    "recording-microphone-gone": {
        **_RECORDING,
        "incident": {"type": "ended", "text": "USB Audio CODEC"},
        "hearing": "silent",
        "level": [{"peak_dbfs": -120.0, "rms_dbfs": -120.0, "clipped": 0}],
    },
    "recording-stall": {**_RECORDING, "incident": {"type": "stall", "seconds": 12.0}},
    "recording-full": {**_RECORDING, "keeping": "none", "incident": {"type": "full"}},
    "finishing": {**_RECORDING, "screen": "finishing", "owedS": 240.0},
    "safe": {
        "screen": "finished",
        "outcome": {"state": "safe", "seconds": 754.2, "sha256": _SHA256},
    },
    "owed": {
        "screen": "finished",
        "outcome": {
            "state": "owed",
            "seconds": 754.2,
            "sha256": None,
            "detail": "the session is over",
        },
    },
    "lost": {"screen": "finished", "outcome": {"state": "lost", "seconds": 12.0, "sha256": None}},
    "refused": {
        "screen": "refused",
        "guest": _GUEST,
        "refusal": {"status": 401, "detail": "a bearer token is needed, and this one is wrong"},
    },
}
"""What differs from the first state, by the names of the pictures."""
