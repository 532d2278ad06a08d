"""Hands blocks from a driver's callback to the consumer, for every callback backend."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable

from adapters.boot_time import boot_time
from adapters.capture.driver import DRIVER
from adapters.capture.threads import deliver_in_thread
from domain.errors import DeviceLost
from domain.ports.capture import BlockConsumer, DeviceIdentity
from domain.sound.conversion import unpack
from domain.sound.formats import AudioFormat, AudioFrame

STALL_S = 2.0
"""A device that delivers nothing for this long counts as lost: many drivers report no error."""
_SLICES = 4
_CLOSE_S = 2.0
_MAX_SKEW = 0.001


class Handoff:
    """A bounded queue of blocks: the driver's thread calls `put`, another thread calls `get`.

    When the queue is full, `put` drops blocks and counts their samples; the position of the next
    block is later by that much.
    """

    def __init__(self, audio_format: AudioFormat, *, queue_s: float) -> None:
        self._format = audio_format
        self._limit = round(queue_s * audio_format.sample_rate_hz)
        self._blocks: queue.SimpleQueue[AudioFrame | None] = queue.SimpleQueue()
        self._failure: DeviceLost | None = None
        self._queued = self._got = 0  # samples; each is written by one thread only
        self._position = 0
        self._is_over = False
        self.overrun_samples = 0

    def put(self, data: bytes | memoryview, *, missing: int = 0) -> None:
        """Queue a block; the driver itself lost `missing` samples before it."""
        # the driver reuses its buffer as soon as the callback returns
        samples = unpack(bytes(data), self._format)
        self._position += missing
        self.overrun_samples += missing
        position = self._position
        self._position += len(samples)
        waiting = self._queued - self._got
        if waiting and waiting + len(samples) > self._limit:
            self.overrun_samples += len(samples)
            return
        self._queued += len(samples)
        self._blocks.put(AudioFrame(self._format, samples, position))

    def end(self) -> None:
        """Mark the end; queued blocks can still be read. Safe from any thread."""
        self._blocks.put(None)

    def fail(self, error: DeviceLost) -> None:
        """Let `get` raise this error from now on: no block that waits, or comes, is the device's.

        Safe from any thread.
        """
        self._failure = error
        self._blocks.put(None)  # wakes whoever waits

    def get(self) -> AudioFrame | None:
        """Wait for the next block; return None at the end.

        Raises the error of `fail`, and `DeviceLost` when no block arrives within `STALL_S`.
        """
        if self._is_over:
            return None
        block = self._wait()
        if self._failure is not None:
            raise self._failure
        if block is None:
            self._is_over = True
        else:
            self._got += len(block)
        return block

    def _wait(self) -> AudioFrame | None:
        """Wait for at most `STALL_S`, in slices.

        A slice that took much longer than asked for is not counted: the process or the machine was
        stopped, and the device could not deliver.
        """
        slice_s = STALL_S / _SLICES
        waited = 0
        while waited < _SLICES:
            began = boot_time()
            with contextlib.suppress(queue.Empty):
                return self._blocks.get(timeout=slice_s)
            waited += boot_time() - began < 2 * slice_s
        raise DeviceLost(f"the device has delivered nothing for {STALL_S:g} s")


class CallbackSource:
    """An `AudioSource` that a driver's callback feeds through a `Handoff`."""

    def __init__(
        self,
        audio_format: AudioFormat,
        handoff: Handoff,
        device: DeviceIdentity,
        close: Callable[[], object],
    ) -> None:
        self.format = audio_format
        self.device = device
        self._handoff = handoff
        self._close_device: Callable[[], object] | None = close

    @property
    def overrun_samples(self) -> int:
        return self._handoff.overrun_samples

    async def deliver(self, consume: BlockConsumer) -> None:
        await deliver_in_thread(self._handoff.get, consume, interrupt=self.stop)

    def stop(self) -> None:
        self._handoff.end()

    async def close(self) -> None:
        self._handoff.end()
        if (close := self._close_device) is not None:
            self._close_device = None
            await DRIVER.close(close, timeout_s=_CLOSE_S)


class OverflowMeter:
    """Measures by the clock how many samples a driver has lost when it reports an overflow."""

    def __init__(self, *, sample_rate_hz: int) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._origin: float | None = None  # estimated time of the first sample
        self._last = 0.0
        self._accounted = 0

    def missing(self, *, frames: int, overflowed: bool, now: float) -> int:
        """Return the samples missing before a block of `frames` delivered at `now` (seconds)."""
        end = self._accounted + frames
        origin = now - end / self._sample_rate_hz
        if self._origin is None:
            self._origin, self._last = origin, now
        lost = 0
        if overflowed:
            lost = max(0, round((origin - self._origin) * self._sample_rate_hz))
        else:
            # blocks are late, never early; but the device's clock may be slow
            self._origin = min(origin, self._origin + _MAX_SKEW * (now - self._last))
        self._last = now
        self._accounted = end + lost
        return lost
