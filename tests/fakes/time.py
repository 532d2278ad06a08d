from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable

from adapters.runtime.asyncio_runtime import BackgroundTasks

EPOCH = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
_STEP_S = 0.05
_TURNS = 10


class FakeClock:
    """A clock that only moves when told to, and wakes sleepers when they are due."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for due, sleeper in list(self._sleepers):
            if due <= self.now:
                self._sleepers.remove((due, sleeper))
                if not sleeper.done():
                    sleeper.set_result(None)

    async def run(self, seconds: float) -> None:
        """Advance in small steps, and let other tasks run after each."""
        until = self.now + seconds
        while self.now < until - 1e-9:
            self.advance(min(_STEP_S, until - self.now))
            for _ in range(_TURNS):
                await asyncio.sleep(0)

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> datetime.datetime:
        return EPOCH + datetime.timedelta(seconds=self.now - 1000.0)

    async def sleep(self, seconds: float) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, sleeper))
        await sleeper


class Spawned(BackgroundTasks):
    """Background work whose failures are raised by `join` instead of logged."""

    def __init__(self) -> None:
        super().__init__()
        self._failures: list[BaseException] = []
        self.timers: list[Callable[[], None]] = []

    def soon(self, call: Callable[[], None]) -> None:
        """Call at once: tests feed packets one at a time."""
        call()

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Keep the call; `run_timers` makes it."""
        self.timers.append(call)

    def run_timers(self) -> None:
        timers, self.timers = self.timers, []
        for call in timers:
            call()

    async def join(self) -> None:
        await super().join()
        if self._failures:
            raise self._failures.pop(0)

    def failed(self, name: str, error: BaseException) -> None:
        self._failures.append(error)
