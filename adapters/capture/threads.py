"""The thread in which a source delivers its sound."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from domain.ports.capture import BlockConsumer
from domain.sound.formats import AudioFrame

_T = TypeVar("_T")


async def deliver_in_thread(
    wait: Callable[[], AudioFrame | None], consume: BlockConsumer, *, interrupt: Callable[[], None]
) -> None:
    """Call `consume` with each block from `wait`, in a thread of its own.

    Ends when `wait` returns None or `consume` returns False. The last call has returned when this
    function returns or raises. On cancellation it calls `interrupt`, which must make `wait` end.
    """

    def deliver() -> None:
        while (block := wait()) is not None and consume(block):
            pass

    thread = _start(deliver, name="gapless-media")
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        interrupt()
        while not thread.done():
            with contextlib.suppress(asyncio.CancelledError):  # cancelled again while ending
                await asyncio.wait({thread})
        thread.exception()  # mark it as retrieved, or asyncio would log it
        raise


def _start(call: Callable[[], _T], *, name: str) -> asyncio.Future[_T]:
    """Run a call in a thread of its own; the future receives its result or exception."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def resolve(result: _T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            outcome: tuple[_T | None, BaseException | None] = (call(), None)
        except BaseException as error:
            outcome = (None, error)
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(resolve, *outcome)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
