"""What happens at the client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from domain.recording.ledger import RestoreState
from domain.sound.levels import Levels


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
class MessageReceived:
    """Somebody at the server has sent the speaker a message."""

    text: str


@dataclass(frozen=True, slots=True)
class MicrophoneLost:
    """The input device has gone; silence is sent until it is back."""

    reason: str


@dataclass(frozen=True, slots=True)
class MicrophoneNotReopened:
    """The lost device is not opened again yet, for a reason that a user may remove.

    Published once for each reason; the client goes on waiting.
    """

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
class SoundCaptured:
    """Sound was captured and kept since the last event of this type, but not sent."""

    seconds: float
    """Sound captured since the stream began."""
    levels: Levels
    """Levels of the sound since the last event of this type."""
    lost_s: float
    """As in `SoundSent`."""


@dataclass(frozen=True, slots=True)
class SpoolEnded:
    """What is captured from now on is not kept on this machine; the stream goes on."""

    reason: str


@dataclass(frozen=True, slots=True)
class LiveRecordingEnded:
    """The server has ended the session; what is captured is kept, and sent to it later."""

    reason: str


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


@dataclass(frozen=True, slots=True)
class SpoolDelivered:
    """The server has everything that it wants of what was captured; the spool is removed."""

    captured_s: float
    state: RestoreState
    """What the server says of its recording."""
    sha256: str | None
    """The hash of what was captured and of what is recorded, if they are the same."""
    is_all: bool
    """Whether everything that was captured was kept."""


@dataclass(frozen=True, slots=True)
class PieceSent:
    """The server has got another piece of what was captured."""

    end_s: float
    """Where the piece ends in what was captured; others before it may still be under way."""
    captured_s: float
    """Length of all that was captured."""
    size: int
    """Of the piece as it was sent, in bytes."""


@dataclass(frozen=True, slots=True)
class OwedSpoolFound:
    """A spool that an earlier run has left is being sent."""

    spool_id: str
    name: str
    captured_s: float
    server: str


@dataclass(frozen=True, slots=True)
class OwedSpoolDelivered:
    """The server has everything that it wants of a spool; the spool is removed."""

    spool_id: str
    captured_s: float
    sha256: str
    """Of the PCM that was captured."""
    is_same: bool
    """Whether the recording is the same, bit for bit."""


@dataclass(frozen=True, slots=True)
class OwedSpoolKept:
    """A spool could not be delivered, and is kept."""

    spool_id: str
    reason: str


ClientEvent: TypeAlias = (
    CaptureStarted
    | StreamConnected
    | RetryScheduled
    | StreamInterrupted
    | StreamResumed
    | MessageReceived
    | MicrophoneLost
    | MicrophoneNotReopened
    | MicrophoneReturned
    | SoundSent
    | SourceEnded
    | StreamEnded
    | SoundCaptured
    | SpoolEnded
    | LiveRecordingEnded
    | SpoolDelivered
    | PieceSent
    | OwedSpoolFound
    | OwedSpoolDelivered
    | OwedSpoolKept
)
