from __future__ import annotations

from domain.ports.restoring import Confirmed, Pace, Wanted
from domain.recording.restoring import Captured


class FakeRestoringClient:
    """A server that wants nothing."""

    def __init__(self) -> None:
        self.closed = 0

    async def wanted(self, session_id: str, resume: str) -> Wanted:
        return Wanted((), "live")

    async def put(
        self, session_id: str, resume: str, start: int, flac: bytes, pace: Pace | None = None
    ) -> None:
        raise AssertionError("nothing is wanted")

    async def captured(self, session_id: str, resume: str, captured: Captured) -> Confirmed:
        return Confirmed("complete", captured.sha256)

    async def close(self) -> None:
        self.closed += 1
