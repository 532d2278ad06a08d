"""Repeats requests while the network is away for a moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from domain.errors import GaplessError, Refusal, ServerRefused, ServerUnreachable, WrongServer
from domain.ports.clock import Clock
from domain.session.backoff import Backoff

GIVE_UP_S = 10.0
"""Requests are repeated for this long after the first one that failed."""

Result = TypeVar("Result")


def is_temporary(error: GaplessError) -> bool:
    """Return whether what a server was asked for may succeed later."""
    if isinstance(error, ServerRefused):
        return error.refusal is Refusal.TEMPORARY
    return not isinstance(error, WrongServer)


def delay_s(error: GaplessError, backoff: Backoff) -> float:
    """Return how long to wait before a request is repeated: what the server asks for, and more.

    Clients that are told the same do not come back all at once.
    """
    asked_s = error.retry_after_s if isinstance(error, ServerRefused) else None
    return (asked_s or 0.0) + backoff.next_delay_s()


class Retrying:
    """Repeats requests to one server; several may be under way at once."""

    def __init__(self, clock: Clock, random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self._failing_since: float | None = None

    async def run(self, request: Callable[[], Awaitable[Result]]) -> Result:
        """Return what `request` returns.

        Raises its error if repeating cannot help, or if no request to this server has succeeded for
        `GIVE_UP_S`.
        """
        backoff = Backoff(self._random)
        while True:
            try:
                result = await request()
            except (ServerRefused, ServerUnreachable) as error:
                if not is_temporary(error):
                    raise
                now = self._clock.monotonic()
                if self._failing_since is None:
                    self._failing_since = now
                left_s = self._failing_since + GIVE_UP_S - now
                if left_s <= 0:
                    raise
                await self._clock.sleep(min(left_s, delay_s(error, backoff)))
            else:
                self._failing_since = None
                return result
