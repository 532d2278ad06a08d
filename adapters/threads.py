"""Threads for work that waits for a disk or computes for long."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


class LimitedThreads:
    """Runs each call in a thread of its own, at most `count` at a time.

    The threads do not keep a process from ending.
    """

    def __init__(self, count: int, *, name: str) -> None:
        self._name = name
        self._free = asyncio.Semaphore(count)

    async def start(self, call: Callable[[], _T]) -> asyncio.Future[_T]:
        """Wait until there is room for a call, and start it; the future gets its result.

        The call goes on if the future is cancelled.
        """
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_T] = loop.create_future()

        def resolve(value: _T | None, error: BaseException | None) -> None:
            self._free.release()
            if result.done():  # cancelled
                return
            if error is not None:
                result.set_exception(error)
            else:
                result.set_result(value)  # type: ignore[arg-type]

        def run() -> None:
            outcome: tuple[_T | None, BaseException | None]
            try:
                outcome = call(), None
            except BaseException as error:
                outcome = None, error
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(resolve, *outcome)

        try:
            threading.Thread(target=run, name=self._name, daemon=True).start()
        except BaseException:  # the system has none left
            self._free.release()
            raise
        return result

    async def run(self, call: Callable[[], _T]) -> _T:
        """Return what a call returns, or raise what it raises.

        A call that has begun goes on if it is not waited for any more.
        """
        return await asyncio.shield(await self.start(call))


class OneByOne:
    """Runs calls one after another, each in one of several `LimitedThreads`."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def run(self, threads: LimitedThreads, call: Callable[[], _T]) -> _T:
        """Return what a call returns, or raise what it raises.

        A call that has begun is not interrupted by a cancellation: the next one waits for it.
        """
        await self._lock.acquire()
        try:
            running = await threads.start(call)
        except BaseException:
            self._lock.release()
            raise
        running.add_done_callback(lambda _: self._lock.release())
        return await asyncio.shield(running)
