"""Calls into the audio driver: one at a time, each with a time limit.

PortAudio is not thread-safe, and a call into it may hang for as long as a driver likes. So all
calls of the process are made in one thread, one after another. A caller whose time is up stops
waiting, but the call itself cannot be stopped: no other call begins before it returns, and a
device that it still opens is closed at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from domain.errors import DeviceUnusable, DriverBusy

_T = TypeVar("_T")
_BUSY = (
    "the audio driver has not returned from an earlier call; nothing else is tried until it returns"
)


class Driver:
    """Makes calls into the audio driver one after another, in a thread that ends when idle.

    While a call is made, stderr is silent: ALSA and JACK print hundreds of lines there. A failure
    is reported as an exception anyway, and a lost device is looked for twice a second.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[_Call[Any]] = deque()
        self._current: _Call[Any] | None = None
        self._has_thread = False

    @property
    def is_busy(self) -> bool:
        """Whether a call is being made at the moment."""
        return self._current is not None

    @property
    def is_hung(self) -> bool:
        """Whether a call has not returned although its caller has given up."""
        current = self._current
        return current is not None and current.is_given_up

    async def open(
        self, function: Callable[[], _T], close: Callable[[_T], object], *, timeout_s: float
    ) -> _T:
        """Return the result of `function`, which opens a device.

        If nobody waits any more when `function` returns, because the time was up or the caller
        was cancelled, its result is passed to `close`.

        Raises `DriverBusy` when the driver hangs in an earlier call, `DeviceUnusable` when this
        call takes longer than `timeout_s`, and whatever `function` raises.
        """
        call = self._submit(_Call(function, close))
        try:
            async with asyncio.timeout(timeout_s) as limit:
                await _until_done(call.outcome)
            return call.outcome.result()
        except BaseException as error:
            was_made = self._give_up(call)
            if isinstance(error, TimeoutError) and limit.expired():
                raise _late(timeout_s, was_made=was_made) from None
            raise

    def wait_for(self, function: Callable[[], _T], *, timeout_s: float) -> _T:
        """Return the result of `function`, which opens nothing, to a caller in any other thread.

        Raises what `open` raises.
        """
        call = self._submit(_Call(function, None))
        try:
            is_done = bool(concurrent.futures.wait([call.outcome], timeout_s).done)
        except BaseException:
            self._give_up(call)
            raise
        if not is_done:
            raise _late(timeout_s, was_made=self._give_up(call))
        return call.outcome.result()

    async def close(self, function: Callable[[], object], *, timeout_s: float) -> None:
        """Call `function`, which closes a device, and wait for at most `timeout_s`.

        The call is made in any case, as soon as the driver is free. Its errors are dropped: a
        driver whose device is gone may fail, and nothing in it is worth saving.
        """
        call = self._submit(_closing(function), always=True)
        try:
            async with asyncio.timeout(timeout_s):
                await _until_done(call.outcome)
        except TimeoutError:
            self._stop_waiting(call)
        except BaseException:
            self._stop_waiting(call)
            raise

    def _submit(self, call: _Call[_T], *, always: bool = False) -> _Call[_T]:
        with self._lock:
            if self.is_hung and not always:
                raise DriverBusy(_BUSY)
            self._enqueue(call)
        return call

    def _enqueue(self, call: _Call[Any]) -> None:
        self._queue.append(call)
        if not self._has_thread:
            self._has_thread = True
            threading.Thread(target=self._run, name="gapless-driver", daemon=True).start()

    def _stop_waiting(self, call: _Call[Any]) -> None:
        with self._lock:
            call.give_up()

    def _give_up(self, call: _Call[Any]) -> bool:
        """Drop a call, or see to it that its result is closed; return whether it was begun."""
        with self._lock:
            outcome = call.outcome
            if outcome.cancel():
                return False
            if not outcome.done():
                call.give_up()
            elif outcome.exception() is None and call.close is not None:
                # it has opened the device at the very moment at which its caller gave up
                close, opened = call.close, outcome.result()
                self._enqueue(_closing(lambda: close(opened)))
            return True

    def _run(self) -> None:
        while (call := self._next()) is not None:
            call.make(self._lock)

    def _next(self) -> _Call[Any] | None:
        """Return the next call that somebody still wants, or None to end the thread."""
        with self._lock:
            self._current = None
            while self._queue:
                call = self._queue.popleft()
                if call.outcome.set_running_or_notify_cancel():
                    self._current = call
                    return call
            self._has_thread = False
            return None


@dataclass(slots=True, eq=False)
class _Call(Generic[_T]):
    """A call into the driver."""

    function: Callable[[], _T]
    close: Callable[[_T], object] | None
    """Closes what the call returns."""
    outcome: Future[_T] = field(default_factory=Future)
    is_given_up: bool = False
    silence: _Silence | None = None

    def give_up(self) -> None:
        """Note that nobody waits any more; the driver's lock is held."""
        self.is_given_up = True
        if self.silence is not None:
            self.silence.lift()

    def make(self, lock: threading.Lock) -> None:
        try:
            # stderr is back before the caller hears of the outcome and writes about it
            with _silent_stderr() as silence:
                with lock:
                    self.silence = silence
                    if self.is_given_up:
                        silence.lift()
                result = self.function()
        except BaseException as error:
            self.outcome.set_exception(error)
            return
        with lock:
            if not self.is_given_up:
                self.outcome.set_result(result)
                return
        if self.close is not None:
            with contextlib.suppress(Exception):
                self.close(result)


async def _until_done(outcome: Future[Any]) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    def tell(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(wake)

    outcome.add_done_callback(tell)
    await done


def _closing(function: Callable[[], object]) -> _Call[None]:
    def close() -> None:
        with contextlib.suppress(Exception):
            function()

    return _Call(close, None)


def _late(timeout_s: float, *, was_made: bool) -> Exception:
    if not was_made:
        return DriverBusy(_BUSY)
    return DeviceUnusable(f"the audio driver did not answer within {timeout_s:g} s")


# -- stderr ------------------------------------------------------------------------------------


class _Silence:
    """One reason for stderr to be silent."""

    def __init__(self) -> None:
        self.is_lifted = False

    def lift(self) -> None:
        """Let others write to stderr again, though the call has not returned."""
        with _STDERR.lock:
            self.is_lifted = True
            _STDERR.update()


class _Stderr:
    """The process' stderr, which is silent as long as there is a reason for it.

    A library may itself redirect stderr during a call and restore what it found (sounddevice
    does). The original is therefore kept, and restored again, until the last call has returned.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._reasons: list[_Silence] = []
        self._original: int | None = None
        self._nowhere: int | None = None

    def begin(self, reason: _Silence) -> None:
        with self.lock:
            if not self._reasons:
                self._open()
            self._reasons.append(reason)
            self.update()

    def end(self, reason: _Silence) -> None:
        with self.lock:
            self._reasons.remove(reason)
            self.update()
            if not self._reasons:
                self._close()

    def update(self) -> None:
        """Redirect stderr, or restore it; the lock is held."""
        if self._original is None or self._nowhere is None:
            return
        is_silent = any(not reason.is_lifted for reason in self._reasons)
        os.dup2(self._nowhere if is_silent else self._original, 2)

    def _open(self) -> None:
        with contextlib.suppress(OSError):  # the process has no stderr, or too many files
            self._original = os.dup(2)
            self._nowhere = os.open(os.devnull, os.O_WRONLY)

    def _close(self) -> None:
        for descriptor in (self._original, self._nowhere):
            if descriptor is not None:
                os.close(descriptor)
        self._original = self._nowhere = None


_STDERR = _Stderr()


@contextlib.contextmanager
def _silent_stderr() -> Iterator[_Silence]:
    reason = _Silence()
    _STDERR.begin(reason)
    try:
        yield reason
    finally:
        _STDERR.end(reason)


DRIVER = Driver()
"""The only one of the process: PyAudio and sounddevice use the same PortAudio."""
