"""The machine's clock, and background work as asyncio tasks."""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from adapters.boot_time import boot_time

_log = logging.getLogger("gapless")


class SystemClock:
    monotonic = staticmethod(time.monotonic)

    def utc(self) -> datetime.datetime:
        return datetime.datetime.now(tz=datetime.UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class BootTimeClock(SystemClock):
    """A client's clock: it goes on while the machine sleeps, as its server's clock does."""

    monotonic = staticmethod(boot_time)


class _Work:
    """A task that keeps running when a coroutine awaiting it is cancelled."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.shield(self._task).__await__()

    @property
    def done(self) -> bool:
        return self._task.done()

    async def cancel(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


class BackgroundTasks:
    """Runs tasks that nobody awaits: keeps a reference until they end, and logs their failures."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], *, name: str) -> _Work:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return _Work(task)

    def soon(self, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(call)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, call)

    async def join(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(task.get_name(), error)

    def failed(self, name: str, error: BaseException) -> None:
        """Log a failure of background work."""
        _log.error("background work %r failed", name, exc_info=error)
