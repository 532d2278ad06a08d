"""Threads beside the event loop: for driver calls, and for delivering sound."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from domain.errors import DeviceUnusable
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


async def in_driver_thread(call: Callable[[], _T], *, timeout_s: float) -> _T:
    """Run a driver call in a thread of its own, because it may block or hang.

    Raises `DeviceUnusable` when the call takes longer than `timeout_s`; its thread is abandoned.
    """
    with _quiet_stderr():
        try:
            async with asyncio.timeout(timeout_s):
                return await _start(call, name="gapless-driver")
        except TimeoutError:
            raise DeviceUnusable(f"the driver did not answer within {timeout_s:g} s") from None


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


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Silence stderr, where ALSA and JACK print hundreds of lines.

    A failure is reported as an exception anyway, and a lost device is looked for twice a second.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # the process has no stderr
        yield
        return
    with contextlib.ExitStack() as restoring:
        restoring.callback(os.close, stderr)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        restoring.callback(os.close, nowhere)
        os.dup2(nowhere, 2)
        restoring.callback(os.dup2, stderr, 2)
        yield
