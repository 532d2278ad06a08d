"""A client's session: its states in one table, its deadlines as functions of time.

Rules that hold for the table:
1. A session is made by an offer and ends once; ENDED has no way out.
2. The recording belongs to the session; connections (its attempts) only serve it, and may
   follow one another.
3. What keeps a session alive is packets, nothing else: a connection that claims to be up but
   brings nothing runs into the inactivity time-out.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from domain.recording.recording import EndReason

SILENT_AFTER_S = 2.0
"""Without a packet for so long a session counts as silent: any network hiccup is shorter."""


class SessionState(enum.Enum):
    CONNECTING = "connecting"
    """Answered; no media path yet."""
    SILENT = "silent"
    """Connected, but the media path brings nothing: not yet, or not any more."""
    RECORDING = "recording"
    """Packets are coming in."""
    INTERRUPTED = "interrupted"
    """An earlier process was killed while it recorded; the client has not come back yet."""
    ENDED = "ended"


class SessionInput(enum.Enum):
    CONNECTED = "connected"
    PACKET_RECEIVED = "packet received"
    PACKETS_CEASED = "packets ceased"
    CONNECTION_CLOSED = "connection closed"
    DELETED = "deleted"
    CONNECT_DEADLINE_PASSED = "connect deadline passed"
    INACTIVITY_DEADLINE_PASSED = "inactivity deadline passed"
    NEVER_RESUMED = "never resumed"
    SHUT_DOWN = "shut down"
    FAILED = "failed"
    STORAGE_FAILED = "storage failed"


_C, _S = SessionState.CONNECTING, SessionState.SILENT
_R, _I, _E = SessionState.RECORDING, SessionState.INTERRUPTED, SessionState.ENDED

TRANSITIONS: dict[tuple[SessionState, SessionInput], SessionState] = {
    (_C, SessionInput.CONNECTED): _S,
    (_C, SessionInput.PACKET_RECEIVED): _R,
    (_C, SessionInput.CONNECTION_CLOSED): _E,
    (_C, SessionInput.DELETED): _E,
    (_C, SessionInput.CONNECT_DEADLINE_PASSED): _E,
    (_C, SessionInput.SHUT_DOWN): _E,
    (_C, SessionInput.FAILED): _E,
    (_C, SessionInput.STORAGE_FAILED): _E,
    (_S, SessionInput.PACKET_RECEIVED): _R,
    (_S, SessionInput.CONNECTION_CLOSED): _E,
    (_S, SessionInput.DELETED): _E,
    (_S, SessionInput.INACTIVITY_DEADLINE_PASSED): _E,
    (_S, SessionInput.SHUT_DOWN): _E,
    (_S, SessionInput.FAILED): _E,
    (_S, SessionInput.STORAGE_FAILED): _E,
    (_R, SessionInput.PACKETS_CEASED): _S,
    (_R, SessionInput.CONNECTION_CLOSED): _E,
    (_R, SessionInput.DELETED): _E,
    (_R, SessionInput.INACTIVITY_DEADLINE_PASSED): _E,
    (_R, SessionInput.SHUT_DOWN): _E,
    (_R, SessionInput.FAILED): _E,
    (_R, SessionInput.STORAGE_FAILED): _E,
    (_I, SessionInput.PACKET_RECEIVED): _R,
    (_I, SessionInput.CONNECTION_CLOSED): _E,
    (_I, SessionInput.DELETED): _E,
    (_I, SessionInput.NEVER_RESUMED): _E,
    (_I, SessionInput.SHUT_DOWN): _E,
    (_I, SessionInput.FAILED): _E,
    (_I, SessionInput.STORAGE_FAILED): _E,
}

END_REASONS: dict[SessionInput, EndReason] = {
    SessionInput.CONNECTION_CLOSED: EndReason.CLOSED,
    SessionInput.DELETED: EndReason.DELETED,
    SessionInput.CONNECT_DEADLINE_PASSED: EndReason.INACTIVE,
    SessionInput.INACTIVITY_DEADLINE_PASSED: EndReason.INACTIVE,
    SessionInput.NEVER_RESUMED: EndReason.RECOVERED,
    SessionInput.SHUT_DOWN: EndReason.SHUTDOWN,
    SessionInput.FAILED: EndReason.FAILED,
    SessionInput.STORAGE_FAILED: EndReason.STORAGE_FAILED,
}


def digest_of(secret: str) -> str:
    """What is kept of a resume secret: enough to know it again, too little to show it (hex)."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(slots=True)
class Session:
    """One client's session, from its offer to its end. Times are monotonic seconds."""

    id: str
    resume_digest: str
    """Of the secret with which this client, and no other, may take the session up again."""
    name: str
    connect_deadline: float
    inactivity_timeout_s: float
    state: SessionState = SessionState.CONNECTING
    active_at: float = 0.0
    """When the latest packet came, or the media path did, or this process took the session up."""

    def handle(self, event: SessionInput) -> bool:
        """Go where the table says; False when the event changes nothing."""
        target = TRANSITIONS.get((self.state, event))
        if target is None:
            return False
        self.state = target
        return True

    def connected(self, *, now: float) -> bool:
        """A media path is there; whether that changed the state."""
        if not self.handle(SessionInput.CONNECTED):
            return False
        self.active_at = now
        return True

    def packet_received(self, *, now: float) -> bool:
        """A packet of this session's stream arrived; whether that changed the state."""
        self.active_at = now
        return self.state is not SessionState.RECORDING and self.handle(
            SessionInput.PACKET_RECEIVED
        )

    def due(self, *, now: float) -> SessionInput | None:
        """The deadline that has passed at `now`, if one has."""
        idle_s = now - self.active_at
        match self.state:
            case SessionState.CONNECTING if now >= self.connect_deadline:
                return SessionInput.CONNECT_DEADLINE_PASSED
            case SessionState.INTERRUPTED if idle_s >= self.inactivity_timeout_s:
                return SessionInput.NEVER_RESUMED
            case SessionState.SILENT | SessionState.RECORDING if (
                idle_s >= self.inactivity_timeout_s
            ):
                return SessionInput.INACTIVITY_DEADLINE_PASSED
            case SessionState.RECORDING if idle_s >= SILENT_AFTER_S:
                return SessionInput.PACKETS_CEASED
        return None
