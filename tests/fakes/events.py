from __future__ import annotations

import asyncio

from domain.events import (
    Event,
)
from domain.events.client import (
    CaptureStarted,
    LiveRecordingEnded,
    MicrophoneLost,
    MicrophoneNotReopened,
    MicrophoneReturned,
    RetryScheduled,
    SoundCaptured,
    SoundSent,
    SourceEnded,
    SpoolDelivered,
    SpoolEnded,
    StreamConnected,
    StreamEnded,
    StreamInterrupted,
    StreamResumed,
)
from domain.events.server import (
    PartCompleted,
    RecordingCompleted,
    RecordingFailed,
    SessionEnded,
    SessionFailed,
    SessionOpened,
    SessionResumed,
    SessionStateChanged,
    TrackStarted,
)
from domain.recording.completed import CompletedPart
from domain.recording.effects import EndReason
from domain.session.session import SessionState
from domain.sound.formats import AudioFormat


class SeenByServer:
    """Records the events that a server publishes."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.opened: list[str] = []
        self.started: list[AudioFormat] = []
        self.parts: list[CompletedPart] = []
        self.finished: list[tuple[str, float]] = []
        self.ended: list[EndReason] = []
        self.details: list[str | None] = []
        self.states: list[SessionState] = []
        self.resumed: list[int] = []
        self.failures: list[Exception] = []
        self._endings: asyncio.Queue[EndReason] = asyncio.Queue()

    async def next_end(self) -> EndReason:
        """Wait until another session has ended, and return its reason."""
        return await self._endings.get()

    def publish(self, event: Event) -> None:
        self.events.append(event)
        match event:
            case SessionOpened(name=name):
                self.opened.append(name)
            case SessionStateChanged(state=state):
                self.states.append(state)
            case SessionResumed(connection=connection):
                self.resumed.append(connection)
            case TrackStarted(format=audio_format):
                self.started.append(audio_format)
            case PartCompleted(part=part):
                self.parts.append(part)
            case RecordingCompleted(recording=recording):
                self.finished.append((recording.location, recording.seconds))
            case RecordingFailed(error=error) | SessionFailed(error=error):
                self.failures.append(error)
            case SessionEnded(reason=reason, detail=detail):
                self.ended.append(reason)
                self.details.append(detail)
                self._endings.put_nowait(reason)


class SeenByClient:
    """Records the events that a client publishes."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.progress: list[SoundSent] = []
        self.unsent: list[SoundCaptured] = []
        self.delivered: list[SpoolDelivered] = []
        self.delays: list[float] = []
        self.outages: list[float] = []
        self.ended: list[StreamEnded] = []

    def publish(self, event: Event) -> None:
        match event:
            case CaptureStarted():
                self.states.append("connecting")
            case StreamConnected():
                self.states.append("connected")
            case RetryScheduled(reason, delay_s):
                self.states.append(f"waiting: {reason}")
                self.delays.append(delay_s)
            case StreamInterrupted():
                self.states.append("interrupted")
            case StreamResumed(outage_s):
                self.states.append("resumed")
                self.outages.append(outage_s)
            case MicrophoneLost(reason):
                self.states.append(f"device lost: {reason}")
            case MicrophoneNotReopened(reason):
                self.states.append(f"device not reopened: {reason}")
            case MicrophoneReturned():
                self.states.append("device back")
            case SoundSent():
                self.progress.append(event)
            case SoundCaptured():
                self.unsent.append(event)
            case SpoolEnded(reason):
                self.states.append(f"spool ended: {reason}")
            case LiveRecordingEnded(reason):
                self.states.append(f"live recording ended: {reason}")
            case SpoolDelivered():
                self.delivered.append(event)
            case SourceEnded():
                self.states.append("finishing")
            case StreamEnded():
                self.ended.append(event)
