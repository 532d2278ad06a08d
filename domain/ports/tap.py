"""Ports for those who listen to a recording while it is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from domain.recording.effects import EndReason
from domain.recording.ledger import SampleKind
from domain.sound.formats import Samples

UNKNOWN = "no sound of such a session, or of such a track of it, is being recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class TapStart:
    """What is listened to, and from where on."""

    session_id: str
    recording: str
    """The id of the recording."""
    track: int
    sample_rate_hz: int
    channels: int
    """Of the sound at `position`."""
    position: int
    """Samples per channel since the recording began."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Sound as it is recorded."""

    position: int
    length: int
    """Samples per channel."""
    kind: SampleKind
    channels: int
    samples: Samples | None
    """Shape (length, channels), s16; None for a gap, which is silence in the recording."""


@dataclass(frozen=True, slots=True)
class Missed:
    """Sound that was recorded, and forgotten before the listener read it."""

    position: int
    length: int


@dataclass(frozen=True, slots=True)
class TapEnded:
    """The recording has ended."""

    reason: EndReason


TapItem: TypeAlias = Heard | Missed | TapEnded


class SoundTap(Protocol):
    """One listener's place in the sound of one recording."""

    on_news: Callable[[], None]
    """Called whenever there is something to read. It must return at once, and not read."""

    @property
    def start(self) -> TapStart:
        """What is listened to, and from where on."""

    def read(self) -> Sequence[TapItem]:
        """Return what has come since the last call, or a part of it; empty if there is nothing.

        Positions follow each other without gaps. A listener that reads too late gets `Missed`.
        """

    def close(self) -> None:
        """Stop listening. May be called twice."""


class SoundTaps(Protocol):
    """Opens taps. Listeners are never waited for."""

    def open(self, session_id: str, track: int, *, from_start: bool) -> SoundTap:
        """Listen from now on, or from the oldest sound on that is still in memory.

        Raises `SessionUnknown`, and `ServerFull` if there are as many listeners as there may be.
        """
