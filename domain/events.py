"""Events: what has happened. Services publish them, and subscribers cannot interfere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.ledger import RecordingInfo
from domain.recording.recording import EndReason
from domain.session.session import SessionState
from domain.sound.formats import AudioFormat
from domain.sound.levels import Levels

# -- at the server -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """An offer was answered with a new session."""

    session_id: str
    name: str
    """The name that the client gave: text from outside, which may have any content."""


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
class TrackStarted:
    """The first packet of a track was decoded; its recording has begun."""

    session_id: str
    track: int
    """Counts from 1."""
    format: AudioFormat


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


@dataclass(frozen=True, slots=True)
class RecordingRecovered:
    """A recording that an earlier process left unfinished is complete now."""

    recording: CompletedRecording


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
class ServerStarted:
    """The server listens."""

    url: str
    workers: int
    """The number of processes that share the load."""


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker process has died; another one is started in its place."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ShutdownStarted:
    """The server was told to stop: it completes all recordings."""


# -- at the client -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CaptureStarted:
    """The source delivers sound; the client connects."""


@dataclass(frozen=True, slots=True)
class StreamConnected:
    """There is a media path; sound is being sent."""

    session_id: str


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """The server could not be reached; the client will try again after a delay."""

    reason: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class StreamInterrupted:
    """The server does not respond any more; the client tries to reconnect."""


@dataclass(frozen=True, slots=True)
class StreamResumed:
    """The server responds again, and the same session goes on."""

    outage_s: float


@dataclass(frozen=True, slots=True)
class MicrophoneLost:
    """The input device has gone; silence is sent until it is back."""

    reason: str


@dataclass(frozen=True, slots=True)
class MicrophoneReturned:
    """The input device is back, and sound is sent again."""

    outage_s: float


@dataclass(frozen=True, slots=True)
class SoundSent:
    """Sound was sent since the last event of this type."""

    seconds: float
    """Sound sent since the stream began."""
    levels: Levels
    """Levels of the sound since the last event of this type."""
    lost_s: float
    """Sound lost before it could be sent, since the stream began: the device was gone, or its
    buffer was not read in time."""


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The stream is over; the server has confirmed that, or could not be asked."""

    seconds: float
    """Length of the sound that was sent."""
    lost_s: float
    """Length of the sound lost before it could be sent."""
    safe_s: float | None
    """Length of the completed recording, if the server reported it."""


@dataclass(frozen=True, slots=True)
class SourceEnded:
    """The source has ended; the sound that is left is being sent."""


# -- about events ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventsDropped:
    """A subscriber was too slow and missed `count` events before the next one."""

    count: int


ServerEvent: TypeAlias = (
    SessionOpened
    | SessionStateChanged
    | SessionResumed
    | TrackStarted
    | PartCompleted
    | RecordingCompleted
    | RecordingFailed
    | SessionFailed
    | SessionEnded
    | RecordingRecovered
    | RecordingInterrupted
    | RecordingBusy
    | RecoveryFailed
    | ServerStarted
    | WorkerDied
    | ShutdownStarted
)
ClientEvent: TypeAlias = (
    CaptureStarted
    | StreamConnected
    | RetryScheduled
    | StreamInterrupted
    | StreamResumed
    | MicrophoneLost
    | MicrophoneReturned
    | SoundSent
    | SourceEnded
    | StreamEnded
)
Event: TypeAlias = ServerEvent | ClientEvent | EventsDropped
