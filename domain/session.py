"""A client's session: its states in one table, its deadlines as functions of time.

Rules that hold for the table:
1. A session is made by an offer and ends once; ENDED has no way out.
2. The recording belongs to the session, the connection serves it.
3. What keeps a session alive is packets, nothing else: a connection that claims to be up but
   brings nothing runs into the inactivity time-out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from domain.recording import EndReason


class SessionState(enum.Enum):
    CONNECTING = "connecting"
    """Answered; no media path yet."""
    CONNECTED = "connected"
    """The media path is there, but it brings nothing."""
    RECORDING = "recording"
    """Packets are coming in."""
    ENDED = "ended"


class SessionEvent(enum.Enum):
    CONNECTED = "connected"
    PACKET_RECEIVED = "packet received"
    CONNECTION_CLOSED = "connection closed"
    DELETED = "deleted"
    CONNECT_DEADLINE_PASSED = "connect deadline passed"
    INACTIVITY_DEADLINE_PASSED = "inactivity deadline passed"
    SHUT_DOWN = "shut down"
    FAILED = "failed"
    STORAGE_FAILED = "storage failed"


_C, _S = SessionState.CONNECTING, SessionState.CONNECTED
_R, _E = SessionState.RECORDING, SessionState.ENDED

TRANSITIONS: dict[tuple[SessionState, SessionEvent], SessionState] = {
    (_C, SessionEvent.CONNECTED): _S,
    (_C, SessionEvent.PACKET_RECEIVED): _R,
    (_C, SessionEvent.CONNECTION_CLOSED): _E,
    (_C, SessionEvent.DELETED): _E,
    (_C, SessionEvent.CONNECT_DEADLINE_PASSED): _E,
    (_C, SessionEvent.SHUT_DOWN): _E,
    (_C, SessionEvent.FAILED): _E,
    (_C, SessionEvent.STORAGE_FAILED): _E,
    (_S, SessionEvent.PACKET_RECEIVED): _R,
    (_S, SessionEvent.CONNECTION_CLOSED): _E,
    (_S, SessionEvent.DELETED): _E,
    (_S, SessionEvent.INACTIVITY_DEADLINE_PASSED): _E,
    (_S, SessionEvent.SHUT_DOWN): _E,
    (_S, SessionEvent.FAILED): _E,
    (_S, SessionEvent.STORAGE_FAILED): _E,
    (_R, SessionEvent.PACKET_RECEIVED): _R,
    (_R, SessionEvent.CONNECTION_CLOSED): _E,
    (_R, SessionEvent.DELETED): _E,
    (_R, SessionEvent.INACTIVITY_DEADLINE_PASSED): _E,
    (_R, SessionEvent.SHUT_DOWN): _E,
    (_R, SessionEvent.FAILED): _E,
    (_R, SessionEvent.STORAGE_FAILED): _E,
}

END_REASONS: dict[SessionEvent, EndReason] = {
    SessionEvent.CONNECTION_CLOSED: EndReason.CLOSED,
    SessionEvent.DELETED: EndReason.DELETED,
    SessionEvent.CONNECT_DEADLINE_PASSED: EndReason.INACTIVE,
    SessionEvent.INACTIVITY_DEADLINE_PASSED: EndReason.INACTIVE,
    SessionEvent.SHUT_DOWN: EndReason.SHUTDOWN,
    SessionEvent.FAILED: EndReason.FAILED,
    SessionEvent.STORAGE_FAILED: EndReason.STORAGE_FAILED,
}


@dataclass(slots=True)
class Session:
    """One client's session, from its offer to its end. Times are monotonic seconds."""

    id: str
    resume: str
    """The secret with which this client, and no other, may take the session up again."""
    name: str
    connect_deadline: float
    inactivity_timeout_s: float
    state: SessionState = SessionState.CONNECTING
    active_at: float = 0.0
    """When the latest packet came, or the media path did."""

    def handle(self, event: SessionEvent) -> bool:
        """Go where the table says; False when the event changes nothing (the session is over)."""
        target = TRANSITIONS.get((self.state, event))
        if target is None:
            return False
        self.state = target
        return True

    def connected(self, *, now: float) -> None:
        """The media path is there."""
        if self.handle(SessionEvent.CONNECTED):
            self.active_at = now

    def packet_received(self, *, now: float) -> None:
        """A packet of this session's stream arrived."""
        self.active_at = now
        if self.state is not SessionState.RECORDING:
            self.handle(SessionEvent.PACKET_RECEIVED)

    def due(self, *, now: float) -> SessionEvent | None:
        """The deadline that has passed at `now`, if one has."""
        if self.state is SessionState.CONNECTING and now >= self.connect_deadline:
            return SessionEvent.CONNECT_DEADLINE_PASSED
        if (
            self.state in (SessionState.CONNECTED, SessionState.RECORDING)
            and now - self.active_at >= self.inactivity_timeout_s
        ):
            return SessionEvent.INACTIVITY_DEADLINE_PASSED
        return None
