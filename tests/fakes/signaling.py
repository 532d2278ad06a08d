from __future__ import annotations

from domain.ports.signaling import Answer
from domain.recording.restoring import SpoolInfo
from domain.session.ice import IceCandidate, IceDescription


class FakeSignaling:
    """A server that accepts offers, except those for which `refusals` holds an error."""

    def __init__(self, *refusals: Exception | None) -> None:
        self._refusals = list(refusals)
        self.offers: list[tuple[str, str]] = []
        self.rooms: list[str] = []
        self.resumed: list[str | None] = []
        self.spools: list[SpoolInfo | None] = []
        self.candidates: list[tuple[str, IceCandidate]] = []
        self.restarts: list[tuple[str, str]] = []
        self.deleted: list[str] = []
        self.secrets: list[str] = []
        self.unreachable: Exception | None = None
        self.unreachable_at_end: Exception | None = None
        self.reason: str | None = None
        """Why it has ended the session."""
        self.deletions = 0
        self.closed = 0

    async def offer(
        self,
        sdp: str,
        *,
        name: str,
        room: str = "",
        resume: str | None = None,
        spool: SpoolInfo | None = None,
    ) -> Answer:
        refusal = self._refusals.pop(0) if self._refusals else None
        if (error := self.unreachable or refusal) is not None:
            raise error
        self.offers.append((sdp, name))
        self.rooms.append(room)
        self.resumed.append(resume)
        self.spools.append(spool)
        return Answer("v=0 answer", "session", "secret")

    async def send_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        self.candidates.append((session_id, candidate))

    async def restart_ice(
        self, resume: str, local: IceDescription, *, ice_tag: str
    ) -> IceDescription:
        if self.unreachable is not None:
            raise self.unreachable
        self.restarts.append((resume, ice_tag))
        return IceDescription("server", "password", ("candidate",), complete=True)

    async def delete(self, session_id: str, *, resume: str | None = None) -> float | None:
        self.deletions += 1
        if (error := self.unreachable or self.unreachable_at_end) is not None:
            raise error
        self.deleted.append(session_id)
        if resume is not None:
            self.secrets.append(resume)
        return 1.0

    async def reason_of_end(self, session_id: str) -> str | None:
        return self.reason

    async def close(self) -> None:
        self.closed += 1
