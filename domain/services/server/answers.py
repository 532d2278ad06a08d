"""Offers on their way to an answer: the same offer sent again gets the same answer."""

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
    """The secret with which the session can be resumed and its connection be reached."""
    answer_sdp: str = field(repr=False)
    ice_tag: str
    """Names the ICE session of the answer."""
    ice_servers: Sequence[IceServer]
    """What the client may use to find a path."""


class Answers:
    """Answers by the digests of their offers, as long as the connections live."""

    def __init__(self, spawner: Spawner) -> None:
        self._spawner = spawner
        self._pending: dict[str, _Pending] = {}

    async def get(
        self, offer: str, answer: Callable[[], Coroutine[Any, Any, Accepted]]
    ) -> Accepted:
        """The answer to an offer, made by `answer` the first time. Raises what that raised.

        It is made in the background: a client that gives up waiting may ask again for it.
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
        """The same offer again is a new one."""
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
            pending.done = None  # the answer is kept as long as the connection, the work is not


class _Pending:
    def __init__(self) -> None:
        self.done: Awaitable[None] | None = None
        """What to wait for, while there is neither an answer nor an error."""
        self.accepted: Accepted | None = None
        self.error: Exception | None = None
