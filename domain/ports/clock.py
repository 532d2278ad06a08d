"""Ports for time and background work."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""

    def utc(self) -> datetime.datetime:
        """Return the date and time in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""


class Work(Protocol):
    """Background work; await it to wait for its end."""

    def __await__(self) -> Generator[Any, None, None]: ...

    @property
    def done(self) -> bool:
        """Whether the work has ended."""

    async def cancel(self) -> None:
        """Cancel the work and wait until it has ended."""


class Spawner(Protocol):
    """Runs work in the background and logs its failures."""

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> Work:
        """Start `work` in the background."""

    def soon(self, call: Callable[[], None]) -> None:
        """Schedule `call` to run right after the current work."""

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Schedule `call` to run after `seconds`. It is dropped if the program ends before."""

    async def join(self) -> None:
        """Wait until all background work has ended."""
