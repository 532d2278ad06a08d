"""From a device's thread to the event loop, in one place for every callback backend."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from domain.audio import AudioFormat, AudioFrame
from domain.conversion import unpack
from domain.errors import DeviceLost, DeviceUnusable, NoSuchDevice
from domain.ports.capture import InputDevice

STALL_S = 2.0
"""A device that delivers nothing for so long is lost: many drivers do not say so."""
_CLOSE_S = 2.0
_MAX_SKEW = 0.001

_T = TypeVar("_T")


class Handoff:
    """A bounded queue of blocks: `put` in the device's thread, `get` on the event loop.

    When it is full, blocks are dropped and their time counted: the next block's position is
    later by what is missing.
    """

    def __init__(self, audio_format: AudioFormat, *, queue_s: float) -> None:
        self._format = audio_format
        self._limit = round(queue_s * audio_format.sample_rate_hz)
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._lock = threading.Lock()
        self._blocks: deque[AudioFrame] = deque()
        self._waiting = 0
        self._position = 0
        self._ended = False
        self.overrun_samples = 0

    def put(self, data: bytes | memoryview, *, missing: int = 0) -> None:
        """Queue a block; `missing` samples before it were lost by the driver already."""
        # the driver uses its buffer again as soon as its callback returns
        samples = unpack(bytes(data), self._format)
        with self._lock:
            self._position += missing
            self.overrun_samples += missing
            position = self._position
            self._position += len(samples)
            if self._blocks and self._waiting + len(samples) > self._limit:
                self.overrun_samples += len(samples)
                return
            self._waiting += len(samples)
            self._blocks.append(AudioFrame(self._format, samples, position))
        self._notify()

    def end(self) -> None:
        """Nothing more comes; what is queued can still be got. Safe from any thread."""
        self._ended = True
        self._notify()

    async def get(self) -> AudioFrame | None:
        """The next block, or None at the end. Raises `DeviceLost` when nothing comes any more."""
        while True:
            self._wake.clear()
            with self._lock:
                if self._blocks:
                    block = self._blocks.popleft()
                    self._waiting -= len(block)
                    return block
            if self._ended:
                return None
            try:
                async with asyncio.timeout(STALL_S):
                    await self._wake.wait()
            except TimeoutError:
                raise DeviceLost(f"the device has delivered nothing for {STALL_S:g} s") from None

    def _notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._wake.set)


class CallbackSource:
    """An `AudioSource` fed by a driver's callback through a `Handoff`."""

    def __init__(
        self, audio_format: AudioFormat, handoff: Handoff, release: Callable[[], object]
    ) -> None:
        self.format = audio_format
        self._handoff = handoff
        self._release: Callable[[], object] | None = release

    @property
    def overrun_samples(self) -> int:
        return self._handoff.overrun_samples

    async def read(self) -> AudioFrame | None:
        return await self._handoff.get()

    def stop(self) -> None:
        self._handoff.end()

    async def close(self) -> None:
        self._handoff.end()
        if (release := self._release) is not None:
            self._release = None
            # a driver whose device is gone may fail or hang; there is nothing left to save in it
            with contextlib.suppress(Exception):
                await in_driver_thread(release, timeout_s=_CLOSE_S)


async def in_driver_thread(call: Callable[[], _T], *, timeout_s: float) -> _T:
    """Run a driver's call, which may block or hang, without the program hanging with it.

    Raises `DeviceUnusable` when it takes longer than `timeout_s`; its thread is given up then.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
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
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, *outcome)

    with _quiet_stderr():
        threading.Thread(target=run, name="gapless-driver", daemon=True).start()
        try:
            async with asyncio.timeout(timeout_s):
                return await done
        except TimeoutError:
            raise DeviceUnusable(f"the driver did not answer within {timeout_s:g} s") from None


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep what ALSA and JACK print by the hundred lines off the terminal.

    The reason for a failure comes as an error; and a device that has gone is looked for twice a
    second.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # there is none
        yield
        return
    with contextlib.ExitStack() as restoring:
        restoring.callback(os.close, stderr)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        restoring.callback(os.close, nowhere)
        os.dup2(nowhere, 2)
        restoring.callback(os.dup2, stderr, 2)
        yield


def choose(devices: Sequence[InputDevice], wanted: str | None) -> InputDevice:
    """The device of that number or name (whole, else a part that fits one); else the default.

    Raises `NoSuchDevice` with the list of those there are.
    """
    listing = [f"{device.index}: {device.name}" for device in devices]
    if wanted is None:
        for device in devices:
            if device.is_default:
                return device
        raise NoSuchDevice(None, listing)
    for device in devices:
        if wanted in (str(device.index), device.name):
            return device
    fitting = [device for device in devices if wanted.lower() in device.name.lower()]
    if len(fitting) != 1:
        raise NoSuchDevice(wanted, listing)
    return fitting[0]


class OverflowMeter:
    """How many samples a driver has lost, by the clock, each time it says that it lost some."""

    def __init__(self, *, sample_rate_hz: int) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._origin: float | None = None  # when the first sample was taken, by what came since
        self._last = 0.0
        self._accounted = 0

    def missing(self, *, frames: int, overflowed: bool, now: float) -> int:
        """Samples missing before a block of `frames` that was delivered at `now` (seconds)."""
        end = self._accounted + frames
        origin = now - end / self._sample_rate_hz
        if self._origin is None:
            self._origin, self._last = origin, now
        lost = 0
        if overflowed:
            lost = max(0, round((origin - self._origin) * self._sample_rate_hz))
        else:
            # blocks come late, never early; a device's clock may be slow, though
            self._origin = min(origin, self._origin + _MAX_SKEW * (now - self._last))
        self._last = now
        self._accounted = end + lost
        return lost
