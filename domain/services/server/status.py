"""What the sessions of this process are like now."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from domain.errors import SessionUnknown
from domain.events.server import ServerEvent, StorageDelayed, StorageWritable
from domain.ports.clock import Clock
from domain.services.server.live_session import LiveSession
from domain.services.server.restoring import RestoreService
from domain.session.session import SessionState
from domain.session.status import SessionStatus

Earlier: TypeAlias = Mapping[str, SessionStatus]
"""Earlier statuses by the ids of their sessions."""


class SessionStatuses:
    """Reads the sessions, and changes nothing: anybody may ask at any time."""

    def __init__(
        self, sessions: Mapping[str, LiveSession], restoring: RestoreService, clock: Clock
    ) -> None:
        """`sessions` has those of this process by their ids, as they come and go."""
        self._sessions = sessions
        self._restoring = restoring
        self._clock = clock
        self._fault: str | None = None  # of the disk, while all recordings wait for it

    def note(self, event: ServerEvent) -> None:
        """Note what has happened to the store."""
        match event:
            case StorageDelayed(problem):
                self._fault = problem
            case StorageWritable():
                self._fault = None

    def all(self, since: Earlier | None = None) -> list[SessionStatus]:
        """Return the status of each session that has not ended, the oldest first.

        Levels are those of the time since the status in `since`, if it has one of the session, and
        otherwise those of the latest second.
        """
        earlier = since or {}
        return [
            self._status(live, earlier.get(session_id))
            for session_id, live in self._sessions.items()
            if live.session.state is not SessionState.ENDED
        ]

    def one(self, session_id: str, since: SessionStatus | None = None) -> SessionStatus:
        """Return the status of a session. Raises `SessionUnknown` if there is none, or it is over.

        `since` is an earlier status of it, as for `all`.
        """
        return self._status(self.find(session_id), since)

    def find(self, session_id: str) -> LiveSession:
        """Return a session. Raises `SessionUnknown` if there is none, or it is over."""
        live = self._sessions.get(session_id)
        if live is None or live.session.state is SessionState.ENDED:
            raise SessionUnknown("there is no such session, or it is over")
        return live

    def _status(self, live: LiveSession, since: SessionStatus | None) -> SessionStatus:
        session, serving = live.session, live.serving
        now, utc = self._clock.monotonic(), self._clock.utc()
        if session.state is SessionState.CONNECTING:
            silent_s = (utc - session.opened_at).total_seconds()
        else:
            silent_s = now - session.active_at
        lengths = {} if since is None else {track.number: track.length for track in since.tracks}
        tracks = [
            track.status(number, since=lengths.get(number))
            for number, track in enumerate(live.tracks, start=1)
        ]
        # the client's spool belongs to the first track
        tracks[0] = replace(
            tracks[0],
            wanted=self._restoring.wanted_length(session.id),
        )
        if self._fault is not None:
            tracks = [replace(track, fault=track.fault or self._fault) for track in tracks]
        return SessionStatus(
            id=session.id,
            name=session.name,
            room=session.room,
            state=session.state,
            opened_at=session.opened_at,
            waits_for=_waits_for(live, now=now, utc=utc),
            silent_s=max(0.0, silent_s),
            round_trip_s=None if serving is None else serving.connection.round_trip_s,
            tracks=tuple(tracks),
        )


def _waits_for(live: LiveSession, *, now: float, utc: datetime.datetime) -> str | None:
    """Say what has to come before a session goes on, and until when; None while it records."""
    session = live.session
    deadline = session.active_at + session.inactivity_timeout_s
    match session.state:
        case SessionState.CONNECTING:
            deadline = session.connect_deadline
            obstacle = live.latest.obstacle if live.connections else None
            what = "a path to its client" + (f" ({obstacle})" if obstacle else "")
        case SessionState.SILENT if live.connections:
            has_begun = any(track.has_begun for track in live.tracks)
            what = "its next packet" if has_begun else "its first packet"
        case SessionState.SILENT | SessionState.INTERRUPTED:
            what = "its client"
        case _:
            return None
    until = utc + datetime.timedelta(seconds=deadline - now)
    return f"{what}, until {until:%H:%M:%S} UTC"
