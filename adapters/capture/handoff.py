"""Hands blocks from a driver's callback to the consumer, for every callback backend."""

from __future__ import annotations

import contextlib
import queue
import re
from collections.abc import Callable, Sequence

from adapters.capture.threads import deliver_in_thread, in_driver_thread
from domain.errors import DeviceLost, NoSuchDevice
from domain.ports.capture import BlockConsumer, InputDevice
from domain.sound.conversion import unpack
from domain.sound.formats import AudioFormat, AudioFrame

STALL_S = 2.0
"""A device that delivers nothing for this long counts as lost: many drivers report no error."""
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

    def get(self) -> AudioFrame | None:
        """Wait for the next block; return None at the end.

        Raises `DeviceLost` when no block arrives within `STALL_S`.
        """
        if self._is_over:
            return None
        try:
            block = self._blocks.get(timeout=STALL_S)
        except queue.Empty:
            raise DeviceLost(f"the device has delivered nothing for {STALL_S:g} s") from None
        if block is None:
            self._is_over = True
        else:
            self._got += len(block)
        return block


class CallbackSource:
    """An `AudioSource` that a driver's callback feeds through a `Handoff`."""

    def __init__(
        self,
        audio_format: AudioFormat,
        handoff: Handoff,
        release: Callable[[], object],
        *,
        device: str,
    ) -> None:
        self.format = audio_format
        self.device = device
        self._handoff = handoff
        self._release: Callable[[], object] | None = release

    @property
    def overrun_samples(self) -> int:
        return self._handoff.overrun_samples

    async def deliver(self, consume: BlockConsumer) -> None:
        await deliver_in_thread(self._handoff.get, consume, interrupt=self.stop)

    def stop(self) -> None:
        self._handoff.end()

    async def close(self) -> None:
        self._handoff.end()
        if (release := self._release) is not None:
            self._release = None
            # a driver whose device is gone may fail or hang; nothing in it is worth saving
            with contextlib.suppress(Exception):
                await in_driver_thread(release, timeout_s=_CLOSE_S)


def choose(devices: Sequence[InputDevice], wanted: str | None) -> InputDevice:
    """Return the device with the wanted number or name, or the default if `wanted` is None.

    Part of a name is enough if it fits only one device. Raises `NoSuchDevice` with a list of the
    available devices.
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
    same = [device for device in devices if _without_place(device.name) == _without_place(wanted)]
    alike = [device for device in devices if wanted.lower() in device.name.lower()]
    for fitting in (same, alike):
        if len(fitting) == 1:
            return fitting[0]
    raise NoSuchDevice(wanted, listing)


def _without_place(name: str) -> str:
    """Strip the card number from an ALSA name; replugging a device changes the number."""
    return re.sub(r" \(hw:\d+,\d+\)$", "", name)


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
