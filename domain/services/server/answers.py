"""Remembers answers, so that an offer that is sent again gets the same answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from domain.ports.clock import Spawner
from domain.session.ice import IceServer


@dataclass(frozen=True, slots=True)
class Accepted:
    """An offer that was answered."""

    session_id: str
    resume: str = field(repr=False)
    """The secret that opens the session: to resume, change or end it."""
    answer_sdp: str = field(repr=False)
    ice_tag: str
    """Names the ICE session of the answer."""
    ice_servers: Sequence[IceServer]
    """STUN and TURN servers for the client."""


class Answers:
    """Answers by the digests of their offers, kept as long as their connections exist."""

    def __init__(self, spawner: Spawner) -> None:
        self._spawner = spawner
        self._pending: dict[str, _Pending] = {}

    async def get(
        self, offer: str, answer: Callable[[], Coroutine[Any, Any, Accepted]]
    ) -> Accepted:
        """Return the answer to an offer; `answer` makes it the first time. Raises its errors.

        `answer` runs in the background, so that a client that gives up waiting can ask again.
        """
        pending = self._pending.get(offer)
        if pending is None:
            pending = self._pending[offer] = _Pending()
            pending.done = self._spawner.spawn(
                self._make(offer, pending, answer), name="answer offer"
            )
        if pending.done is not None:
            await pending.done
        if pending.error is not None:
            raise pending.error
        assert pending.accepted is not None
        return pending.accepted

    def forget(self, offer: str) -> None:
        """Forget an offer: if it is sent again, it counts as a new one."""
        self._pending.pop(offer, None)

    async def _make(
        self,
        offer: str,
        pending: _Pending,
        answer: Callable[[], Coroutine[Any, Any, Accepted]],
    ) -> None:
        try:
            pending.accepted = await answer()
        except Exception as error:
            pending.error = error
            del self._pending[offer]
        finally:
            pending.done = None  # keep the answer, but release the work


class _Pending:
    def __init__(self) -> None:
        self.done: Awaitable[None] | None = None
        """The work that makes the answer; None once there is an answer or an error."""
        self.accepted: Accepted | None = None
        self.error: Exception | None = None
