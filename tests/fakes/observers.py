from __future__ import annotations

import asyncio

from domain.ports.observers import StreamProgress
from domain.recording.recording import EndReason
from domain.session.session import SessionState
from domain.sound.formats import AudioFormat


class SeenByServer:
    """Keeps what a server reports."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.started: list[AudioFormat] = []
        self.finished: list[tuple[str, float]] = []
        self.ended: list[EndReason] = []
        self.states: list[SessionState] = []
        self.resumed: list[int] = []
        self.failures: list[Exception] = []
        self._endings: asyncio.Queue[EndReason] = asyncio.Queue()

    async def next_end(self) -> EndReason:
        """Wait until a session has ended, each of them once."""
        return await self._endings.get()

    def session_opened(self, session_id: str, name: str) -> None:
        self.opened.append(name)

    def session_changed(self, session_id: str, state: SessionState) -> None:
        self.states.append(state)

    def session_resumed(self, session_id: str, attempt: int) -> None:
        self.resumed.append(attempt)

    def recording_started(self, session_id: str, audio_format: AudioFormat) -> None:
        self.started.append(audio_format)

    def recording_finished(self, session_id: str, location: str, seconds: float) -> None:
        self.finished.append((location, seconds))

    def session_ended(self, session_id: str, reason: EndReason) -> None:
        self.ended.append(reason)
        self._endings.put_nowait(reason)

    def failed(self, session_id: str, error: Exception) -> None:
        self.failures.append(error)


class SeenByClient:
    """Keeps what a client reports."""

    progress_s = 0.1

    def __init__(self) -> None:
        self.states: list[str] = []
        self.progress: list[StreamProgress] = []
        self.delays: list[float] = []
        self.outages: list[float] = []

    def connecting(self) -> None:
        self.states.append("connecting")

    def connected(self, session_id: str) -> None:
        self.states.append("connected")

    def waiting(self, reason: str, retry_in_s: float) -> None:
        self.states.append(f"waiting: {reason}")
        self.delays.append(retry_in_s)

    def interrupted(self) -> None:
        self.states.append("interrupted")

    def resumed(self, after_s: float) -> None:
        self.states.append("resumed")
        self.outages.append(after_s)

    def device_lost(self, reason: str) -> None:
        self.states.append(f"device lost: {reason}")

    def device_back(self, after_s: float) -> None:
        self.states.append("device back")

    def progressed(self, progress: StreamProgress) -> None:
        self.progress.append(progress)

    def finishing(self) -> None:
        self.states.append("finishing")
