"""Time, and work that goes on in the background."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that never go back."""

    def utc(self) -> datetime.datetime:
        """The date and time, in UTC."""


class Spawner(Protocol):
    """Runs work in the background; a failure there is logged, never lost."""

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> Awaitable[None]:
        """Start `work`; who wants to can wait for its end."""

    async def join(self) -> None:
        """Wait until all that was started has ended."""
