"""Who is told what happens, so that a person can see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from domain.audio import AudioFormat
from domain.levels import Levels
from domain.recording import EndReason


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """What a client is doing, once per frame."""

    seconds: float
    """Sound sent so far."""
    levels: Levels
    """Of the latest frame."""
    overrun_s: float
    """Sound lost so far because it was not read from the device in time."""


class StreamObserver(Protocol):
    """Watches a client."""

    def connecting(self) -> None:
        """The capture runs; the connection is being made."""

    def connected(self, session_id: str) -> None:
        """The media path is there; sound is being sent."""

    def progressed(self, progress: StreamProgress) -> None:
        """Another frame was sent."""

    def finishing(self) -> None:
        """The source has ended; what is left is being sent."""


class ServerObserver(Protocol):
    """Watches a server."""

    def session_opened(self, session_id: str, name: str) -> None:
        """An offer was answered."""

    def recording_started(self, session_id: str, audio_format: AudioFormat) -> None:
        """The first packet of a session was decoded."""

    def recording_finished(self, session_id: str, location: str, seconds: float) -> None:
        """The recording is complete and can be found at `location`."""

    def session_ended(self, session_id: str, reason: EndReason) -> None:
        """The session is over and everything of it is released."""

    def failed(self, session_id: str, error: Exception) -> None:
        """Something broke; other sessions are not affected."""
