"""What happens at the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.effects import EndReason
from domain.recording.ledger import RecordingInfo, RestoreState
from domain.session.alarms import Alarm
from domain.session.caller import Caller
from domain.session.capture import CaptureEvent
from domain.session.session import SessionState
from domain.sound.formats import AudioFormat


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """An offer was answered with a new session."""

    session_id: str
    name: str
    """The name that the client gave: text from outside, which may have any content."""
    caller: Caller
    """Who sent the offer."""
    room: str = ""
    """The room that the client named; empty if it named none."""


@dataclass(frozen=True, slots=True)
class ConnectionAdded:
    """An offer with the secret of a session was answered with another connection."""

    session_id: str
    caller: Caller
    """Who sent the offer."""


@dataclass(frozen=True, slots=True)
class SessionDeleted:
    """A request ends a session."""

    session_id: str
    caller: Caller
    """Who sent the request."""


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """Requests of one kind were refused: the first one, or further ones that came soon after it."""

    caller: Caller
    """Who sent them; for further ones, the address is a network, and empty where many sent them."""
    request: str
    """Method and route, without what may be secret."""
    status: int
    """Of HTTP."""
    reason: str
    """Why the first one was refused; empty for further ones."""
    count: int = 1


@dataclass(frozen=True, slots=True)
class SessionStateChanged:
    """A session has a media path now, receives packets now, or receives none any more."""

    session_id: str
    state: SessionState


@dataclass(frozen=True, slots=True)
class SessionResumed:
    """Another connection serves the session from now on."""

    session_id: str
    connection: int
    """Its number in the session; the first connection is 1."""


@dataclass(frozen=True, slots=True)
class CaptureReported:
    """A client has told what happened to its microphone."""

    session_id: str
    event: CaptureEvent
    """What it says is text from outside."""


@dataclass(frozen=True, slots=True)
class TrackStarted:
    """The first packet of a track was decoded; its recording has begun."""

    session_id: str
    track: int
    """Counts from 1."""
    format: AudioFormat
    room: str = ""
    """The room of its session; empty if there is none."""


@dataclass(frozen=True, slots=True)
class TrackFormatChanged:
    """The recording of a track continues in another format, in a new part."""

    session_id: str
    track: int
    format: AudioFormat


@dataclass(frozen=True, slots=True)
class ClockFoundWrong:
    """The clock of a track's sender is further off than that of any sound card."""

    session_id: str
    track: int
    skew_ppm: float
    """Parts per million by which it is fast."""


@dataclass(frozen=True, slots=True)
class PartCompleted:
    """A file of a recording is complete."""

    session_id: str
    track: int
    part: CompletedPart
    is_last: bool


@dataclass(frozen=True, slots=True)
class RecordingCompleted:
    """A recording is complete."""

    session_id: str
    track: int
    recording: CompletedRecording


@dataclass(frozen=True, slots=True)
class RecordingFailed:
    """A recording could not be written completely."""

    session_id: str
    track: int
    error: Exception


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """An internal error ended a session."""

    session_id: str
    error: Exception


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session is over, and everything that it held is released."""

    session_id: str
    reason: EndReason
    detail: str | None = None
    """Why its connection could not be established, or which limit of the server it has passed, if
    that was the reason."""


@dataclass(frozen=True, slots=True)
class RecordingDeleted:
    """A request has deleted a recording."""

    recording_id: str
    name: str
    """Of its files."""
    caller: Caller
    """Who sent the request."""
    title: str = ""
    """The name that its client gave; empty if it gave none."""


@dataclass(frozen=True, slots=True)
class RecordingRecovered:
    """A recording that an earlier process left unfinished is complete now."""

    recording: CompletedRecording


@dataclass(frozen=True, slots=True)
class RecordingRestored:
    """A complete recording has got what its client had captured."""

    session_id: str
    state: RestoreState
    """`complete`, or `expired` if the client did not send everything in time."""
    seconds: float
    """Length of the recording."""
    restored_s: float
    """How much of it was restored."""


@dataclass(frozen=True, slots=True)
class RestoringFailed:
    """A recording could not be restored now, or not at all; it is as it was received."""

    session_id: str
    error: Exception


@dataclass(frozen=True, slots=True)
class RecordingInterrupted:
    """A recording of an earlier process can be resumed, if its client reconnects in time."""

    info: RecordingInfo
    length: int
    """Samples per channel."""


@dataclass(frozen=True, slots=True)
class RecordingBusy:
    """An unfinished recording was left alone, because another process writes it."""

    location: str


@dataclass(frozen=True, slots=True)
class RecoveryFailed:
    """A recording that an earlier process left unfinished cannot be completed."""

    error: Exception


@dataclass(frozen=True, slots=True)
class StorageDelayed:
    """Recordings cannot be written at the moment; their sound waits in memory."""

    problem: str


@dataclass(frozen=True, slots=True)
class StorageWritable:
    """Recordings can be written again, and go on where they were."""

    outage_s: float


@dataclass(frozen=True, slots=True)
class AlarmRaised:
    """Somebody should look at a session or at the server; or an alarm has got a higher level."""

    alarm: Alarm


@dataclass(frozen=True, slots=True)
class AlarmEnded:
    """What an alarm has told of is over."""

    alarm: Alarm


@dataclass(frozen=True, slots=True)
class ServerStarted:
    """The server listens."""

    url: str
    workers: int
    """The number of processes that share the load."""
    fingerprint: str | None = None
    """Of the certificate that the server has made for itself: SHA-256, as ``AA:BB:…``."""
    urls: tuple[str, ...] = ()
    """At which other machines of the network reach it, if it has such a certificate."""


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker process has died; another one is started in its place."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class RecordingsLeft:
    """The server ends without having completed all recordings: the next start completes them."""

    reason: str


@dataclass(frozen=True, slots=True)
class ShutdownStarted:
    """The server was told to stop: it completes all recordings."""


ServerEvent: TypeAlias = (
    SessionOpened
    | ConnectionAdded
    | SessionDeleted
    | RequestRefused
    | SessionStateChanged
    | SessionResumed
    | CaptureReported
    | TrackStarted
    | TrackFormatChanged
    | ClockFoundWrong
    | PartCompleted
    | RecordingCompleted
    | RecordingFailed
    | SessionFailed
    | SessionEnded
    | RecordingDeleted
    | RecordingRecovered
    | RecordingRestored
    | RestoringFailed
    | RecordingInterrupted
    | RecordingBusy
    | RecoveryFailed
    | StorageDelayed
    | StorageWritable
    | AlarmRaised
    | AlarmEnded
    | ServerStarted
    | WorkerDied
    | RecordingsLeft
    | ShutdownStarted
)
