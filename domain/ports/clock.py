"""Time, and work that goes on in the background."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that never go back."""

    def utc(self) -> datetime.datetime:
        """The date and time, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Let so much time go by."""


class Work(Protocol):
    """Work that goes on in the background; who wants to can wait for its end."""

    def __await__(self) -> Generator[Any, None, None]: ...

    @property
    def done(self) -> bool:
        """Whether it has ended."""

    async def cancel(self) -> None:
        """End it early; returns when it has ended."""


class Spawner(Protocol):
    """Runs work in the background; a failure there is logged, never lost."""

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> Work:
        """Start `work`."""

    def soon(self, call: Callable[[], None]) -> None:
        """Call it when all that is being done at this moment is done."""

    async def join(self) -> None:
        """Wait until all that was started has ended."""
