"""How a client reaches the server before there is a media path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from domain.ports.transport import IceCandidate


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's answer to an offer."""

    sdp: str
    session_id: str
    resume: str


class SignalingClient(Protocol):
    """Raises `ServerUnreachable` when nobody answers and `ServerRefused` for a refusal."""

    async def offer(self, sdp: str, *, name: str) -> Answer:
        """Make a session."""

    async def send_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        """Hand over a candidate; an empty one ends the list."""

    async def delete(self, session_id: str) -> None:
        """End the session; one that is over already is no error."""

    async def close(self) -> None:
        """Release the connections."""
