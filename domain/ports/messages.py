"""Messages from a server to the speaker of a session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """One message."""

    id: str
    """Made by the server."""
    text: str
    """Made by whoever the server lets; it may have anything."""


class MessageClient(Protocol):
    """Gets messages from a server."""

    def listen(
        self, session_id: str, secret: str, *, after: str = ""
    ) -> AsyncIterator[IncomingMessage]:
        """Return the messages behind the one with the id `after`, as they come.

        It ends when the server ends it. Raises `ServerUnreachable` and `ServerRefused`.
        """

    async def close(self) -> None:
        """Release the connections."""
