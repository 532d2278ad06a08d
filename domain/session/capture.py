"""What happened to the microphone of a session, as its client tells."""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain.session.messages import in_one_line

MAX_KEPT = 500
"""Events of a session that are kept; further ones are only counted."""
MAX_TEXT_CHARACTERS = 200
MAX_SECONDS = 1e7
MAX_POSITION = 2**53 - 1
"""Of a client's clock and of its spool: JavaScript counts no further."""


class CaptureChange(enum.Enum):
    """What a browser, or the system below it, does to a microphone."""

    MUTE = "mute"
    UNMUTE = "unmute"
    ENDED = "ended"
    """The microphone is gone, or the permission to use it."""
    DEVICE_CHANGE = "devicechange"
    INTERRUPTED = "interrupted"
    """The system needs the sound card for something else, such as a call."""
    RESUMED = "resumed"
    STALL = "stall"
    """Nothing was captured for some time."""
    RATE = "rate"
    """The sampling rate has changed."""
    MICROPHONE = "microphone"
    """Another microphone is used."""
    HIDDEN = "hidden"
    """The page cannot be seen any more, and may be slowed down."""
    VISIBLE = "visible"


@dataclass(frozen=True, slots=True)
class CaptureEvent:
    """One thing that has happened."""

    what: CaptureChange
    at: datetime.datetime
    """By the clock of the client; UTC."""
    position: int | None = None
    """Samples in the spool of the client, if it has one."""
    seconds: float | None = None
    """How long it took."""
    text: str = ""
    """One line for people."""

    def __post_init__(self) -> None:
        """Raises `ValueError`."""
        if self.position is not None and not 0 <= self.position <= MAX_POSITION:
            raise ValueError(f"a position is a whole number from 0 to {MAX_POSITION}")
        if self.seconds is not None and not (
            math.isfinite(self.seconds) and 0 <= self.seconds <= MAX_SECONDS
        ):
            raise ValueError(f"seconds are from 0 to {MAX_SECONDS:.0f}")
        if len(self.text) > MAX_TEXT_CHARACTERS or self.text != in_one_line(self.text):
            raise ValueError(f"a text is one line of at most {MAX_TEXT_CHARACTERS} characters")


def capture_details(event: CaptureEvent) -> Mapping[str, Any]:
    """Return an event as ledgers and watchers have it, without what it does not say."""
    at = event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    details: dict[str, Any] = {"what": event.what.value, "client_at": at}
    if event.position is not None:
        details["spool_position"] = event.position
    if event.seconds is not None:
        details["seconds"] = event.seconds
    if event.text:
        details["text"] = event.text
    return details


class CaptureLog:
    """The events of one session: it keeps the first ones, and counts the others."""

    def __init__(self) -> None:
        self._known: set[tuple[CaptureChange, datetime.datetime, int | None]] = set()
        self.left_out = 0
        """How many were not kept."""

    def take(self, events: Sequence[CaptureEvent]) -> Sequence[CaptureEvent]:
        """Return those that are to be kept.

        A client that got no answer sends its events again: those that are known are not new.
        """
        kept = []
        for event in events:
            key = event.what, event.at, event.position
            if key in self._known:
                continue
            if len(self._known) >= MAX_KEPT:
                self.left_out += 1
                continue
            self._known.add(key)
            kept.append(event)
        return kept
