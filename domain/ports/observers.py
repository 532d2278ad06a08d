"""Who is told what happens, so that a person can see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from domain.recording.recording import EndReason
from domain.session.session import SessionState
from domain.sound.formats import AudioFormat
from domain.sound.levels import Levels


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """What a client is doing, every `StreamObserver.progress_s`."""

    seconds: float
    """Sound sent so far."""
    levels: Levels
    """Of what was sent since the last time."""
    lost_s: float
    """Sound lost so far before it could be sent: the device had gone, or was not read in time."""


class StreamObserver(Protocol):
    """Watches a client."""

    @property
    def progress_s(self) -> float:
        """The time from one `progressed` to the next."""

    def connecting(self) -> None:
        """The capture runs; the connection is being made."""

    def connected(self, session_id: str) -> None:
        """The media path is there; sound is being sent."""

    def waiting(self, reason: str, retry_in_s: float) -> None:
        """The server cannot be reached yet, or not again; it will be tried after a while."""

    def interrupted(self) -> None:
        """The server is not heard of any more; a way back to it is looked for."""

    def resumed(self, after_s: float) -> None:
        """The server is heard of again, in the same session."""

    def device_lost(self, reason: str) -> None:
        """The device has gone; silence is sent until it is back."""

    def device_back(self, after_s: float) -> None:
        """The device is back; its sound goes on."""

    def progressed(self, progress: StreamProgress) -> None:
        """Sound was sent."""

    def finishing(self) -> None:
        """The source has ended; what is left is being sent."""


class ServerObserver(Protocol):
    """Watches a server."""

    def session_opened(self, session_id: str, name: str) -> None:
        """An offer was answered."""

    def session_changed(self, session_id: str, state: SessionState) -> None:
        """The session has a media path, brings packets, or has ceased to."""

    def session_resumed(self, session_id: str, attempt: int) -> None:
        """Another connection serves the session: its `attempt`th."""

    def recording_started(self, session_id: str, audio_format: AudioFormat) -> None:
        """The first packet of a session was decoded."""

    def recording_finished(self, session_id: str, location: str, seconds: float) -> None:
        """The recording is complete and can be found at `location`."""

    def session_ended(self, session_id: str, reason: EndReason) -> None:
        """The session is over and everything of it is released."""

    def failed(self, session_id: str, error: Exception) -> None:
        """Something broke; other sessions are not affected."""
