"""Takes what clients tell of their microphones to the ledgers, and to whoever watches."""

from __future__ import annotations

from collections.abc import Sequence

from domain.events.server import CaptureReported
from domain.ports.clock import Clock
from domain.ports.events import EventPublisher
from domain.services.server.status import SessionStatuses
from domain.session.capture import CaptureEvent


class CaptureReports:
    """Notes what has happened to the microphones of the sessions of this process."""

    def __init__(self, sessions: SessionStatuses, clock: Clock, events: EventPublisher) -> None:
        self._sessions = sessions
        self._clock = clock
        self._events = events

    def add(self, session_id: str, events: Sequence[CaptureEvent]) -> None:
        """Note events of a session in the ledger of its first track, and publish them.

        The first track is the one that belongs to the client's spool. Raises `SessionUnknown`.
        """
        live = self._sessions.find(session_id)
        log, track = live.session.capture, live.tracks[0]
        for event in log.take(events):
            track.capture_reported(event, now=self._clock.monotonic())
            self._events.publish(CaptureReported(session_id, event))
        track.capture_left_out = log.left_out
