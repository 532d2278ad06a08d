from __future__ import annotations

from domain.ports.signaling import Answer
from domain.ports.transport import IceCandidate


class FakeSignaling:
    """A server that takes every offer, or raises `refuse`."""

    def __init__(self, refuse: Exception | None = None) -> None:
        self.refuse = refuse
        self.offers: list[tuple[str, str]] = []
        self.candidates: list[tuple[str, IceCandidate]] = []
        self.deleted: list[str] = []
        self.closed = 0

    async def offer(self, sdp: str, *, name: str) -> Answer:
        if self.refuse is not None:
            raise self.refuse
        self.offers.append((sdp, name))
        return Answer("v=0 answer", "session", "secret")

    async def send_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        self.candidates.append((session_id, candidate))

    async def delete(self, session_id: str) -> None:
        self.deleted.append(session_id)

    async def close(self) -> None:
        self.closed += 1
