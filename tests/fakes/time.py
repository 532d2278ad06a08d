from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Coroutine
from typing import Any

EPOCH = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


class FakeClock:
    """Stands still until told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def monotonic(self) -> float:
        return self.now

    def utc(self) -> datetime.datetime:
        return EPOCH + datetime.timedelta(seconds=self.now - 1000.0)


class Spawned:
    """Background work, awaited by `join`; failures are raised there instead of logged."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> Awaitable[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.append(task)
        return task

    async def join(self) -> None:
        while self._tasks:
            await self._tasks.pop(0)
