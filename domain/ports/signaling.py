"""How a client reaches the server before there is a media path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.ports.transport import IceCandidate, IceDescription
from domain.settings import IceServer


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's answer to an offer."""

    sdp: str
    session_id: str
    resume: str
    """The secret with which the session can be taken up again."""
    ice_servers: Sequence[IceServer] = ()
    """STUN and TURN servers that the server recommends."""


class SignalingClient(Protocol):
    """Raises `ServerUnreachable` when nobody answers and `ServerRefused` for a refusal."""

    async def offer(self, sdp: str, *, name: str, resume: str | None = None) -> Answer:
        """Make a session, or another attempt of the one that `resume` opens."""

    async def send_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        """Hand over a candidate; an empty one ends the list."""

    async def restart_ice(
        self, resume: str, local: IceDescription, *, ice_tag: str
    ) -> IceDescription:
        """Begin a new ICE session in the place of the one that `ice_tag` names.

        Returns the server's end of it.
        """

    async def delete(self, session_id: str) -> float | None:
        """End the session; one that is over already is no error.

        Returns the seconds that are recorded and complete, where the server knows of them.
        """

    async def close(self) -> None:
        """Release the connections."""
