from __future__ import annotations

import asyncio

from domain.events import (
    CaptureStarted,
    Event,
    MicrophoneLost,
    MicrophoneReturned,
    PartCompleted,
    RecordingCompleted,
    RecordingFailed,
    RetryScheduled,
    SessionEnded,
    SessionFailed,
    SessionOpened,
    SessionResumed,
    SessionStateChanged,
    SoundSent,
    SourceEnded,
    StreamConnected,
    StreamEnded,
    StreamInterrupted,
    StreamResumed,
    TrackStarted,
)
from domain.recording.completed import CompletedPart
from domain.recording.recording import EndReason
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
            case SessionEnded(reason=reason):
                self.ended.append(reason)
                self._endings.put_nowait(reason)


class SeenByClient:
    """Records the events that a client publishes."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.progress: list[SoundSent] = []
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
            case MicrophoneReturned():
                self.states.append("device back")
            case SoundSent():
                self.progress.append(event)
            case SourceEnded():
                self.states.append("finishing")
            case StreamEnded():
                self.ended.append(event)
