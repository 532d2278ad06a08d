"""A client's session: one table of states, and deadlines as functions of time.

The table follows these rules:
1. An offer creates a session. It ends once; no transition leaves ENDED.
2. The recording belongs to the session. Connections only serve it, one after another.
3. Only packets keep a session alive. A connection that claims to be up but delivers nothing
   runs into the inactivity time-out.
"""

from __future__ import annotations

import datetime
import enum
import hashlib
from dataclasses import dataclass, field

from domain.recording.effects import EndReason
from domain.session.capture import CaptureLog
from domain.session.messages import Mailbox

SILENT_AFTER_S = 2.0
"""A session without packets for this long is silent. Ordinary network hiccups are shorter."""

_NEVER = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class SessionState(enum.Enum):
    CONNECTING = "connecting"
    """The offer was answered; there is no media path yet."""
    SILENT = "silent"
    """There is a media path, but no packets arrive: not yet, or no longer."""
    RECORDING = "recording"
    """Packets are arriving."""
    INTERRUPTED = "interrupted"
    """The process that recorded it was killed; the client has not reconnected yet."""
    ENDED = "ended"


class SessionInput(enum.Enum):
    CONNECTED = "connected"
    PACKET_RECEIVED = "packet received"
    PACKETS_CEASED = "packets ceased"
    CONNECTION_CLOSED = "connection closed"
    DELETED = "deleted"
    CONNECT_DEADLINE_PASSED = "connect deadline passed"
    GAVE_WAY = "gave way"
    INACTIVITY_DEADLINE_PASSED = "inactivity deadline passed"
    NEVER_RESUMED = "never resumed"
    SHUT_DOWN = "shut down"
    FAILED = "failed"
    STORAGE_FAILED = "storage failed"
    LIMIT_PASSED = "limit passed"


_C, _S = SessionState.CONNECTING, SessionState.SILENT
_R, _I, _E = SessionState.RECORDING, SessionState.INTERRUPTED, SessionState.ENDED

TRANSITIONS: dict[tuple[SessionState, SessionInput], SessionState] = {
    (_C, SessionInput.CONNECTED): _S,
    (_C, SessionInput.PACKET_RECEIVED): _R,
    (_C, SessionInput.CONNECTION_CLOSED): _E,
    (_C, SessionInput.DELETED): _E,
    (_C, SessionInput.CONNECT_DEADLINE_PASSED): _E,
    (_C, SessionInput.GAVE_WAY): _E,
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
    (_S, SessionInput.LIMIT_PASSED): _E,
    (_R, SessionInput.PACKETS_CEASED): _S,
    (_R, SessionInput.CONNECTION_CLOSED): _E,
    (_R, SessionInput.DELETED): _E,
    (_R, SessionInput.INACTIVITY_DEADLINE_PASSED): _E,
    (_R, SessionInput.SHUT_DOWN): _E,
    (_R, SessionInput.FAILED): _E,
    (_R, SessionInput.STORAGE_FAILED): _E,
    (_R, SessionInput.LIMIT_PASSED): _E,
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
    SessionInput.GAVE_WAY: EndReason.INACTIVE,
    SessionInput.INACTIVITY_DEADLINE_PASSED: EndReason.INACTIVE,
    SessionInput.NEVER_RESUMED: EndReason.RECOVERED,
    SessionInput.SHUT_DOWN: EndReason.SHUTDOWN,
    SessionInput.FAILED: EndReason.FAILED,
    SessionInput.STORAGE_FAILED: EndReason.STORAGE_FAILED,
    SessionInput.LIMIT_PASSED: EndReason.LIMIT,
}


def digest_of(secret: str) -> str:
    """Return the SHA-256 of a resume secret (hex), which is stored instead of the secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(slots=True)
class Session:
    """A client's session, from its offer to its end. Times are monotonic seconds."""

    id: str
    resume_digest: str
    """Digest of the secret that lets this client, and no other, resume the session."""
    name: str
    connect_deadline: float
    inactivity_timeout_s: float
    room: str = ""
    """The name that it shares with the sessions that belong to it; empty if there is none."""
    state: SessionState = SessionState.CONNECTING
    active_at: float = 0.0
    """When the latest packet arrived, the media path came up, or this process resumed it."""
    opened_at: datetime.datetime = _NEVER
    """UTC, when it was opened, or the recording began that this process has found."""
    mailbox: Mailbox = field(default_factory=Mailbox, repr=False)
    """Messages for its speaker."""
    capture: CaptureLog = field(default_factory=CaptureLog, repr=False)
    """What happened to its microphone."""

    def handle(self, event: SessionInput) -> bool:
        """Apply the transition for `event`; return False if the table has none."""
        target = TRANSITIONS.get((self.state, event))
        if target is None:
            return False
        self.state = target
        if target is SessionState.ENDED:
            self.mailbox.close()
        return True

    def connected(self, *, now: float) -> bool:
        """Note that there is a media path; return whether the state changed."""
        if not self.handle(SessionInput.CONNECTED):
            return False
        self.active_at = now
        return True

    def packet_received(self, *, now: float) -> bool:
        """Note that a packet of this session arrived; return whether the state changed."""
        self.active_at = now
        return self.state is not SessionState.RECORDING and self.handle(
            SessionInput.PACKET_RECEIVED
        )

    def due(self, *, now: float) -> SessionInput | None:
        """Return the deadline that has passed at `now`, or None."""
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
