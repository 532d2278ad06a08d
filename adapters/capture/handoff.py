"""From a driver's callback to whoever reads, in one place for every callback backend."""

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
"""A device that delivers nothing for so long is lost: many drivers do not say so."""
_CLOSE_S = 2.0
_MAX_SKEW = 0.001


class Handoff:
    """A bounded queue of blocks: `put` in the driver's thread, `get` in another one.

    When it is full, blocks are dropped and their time counted: the next block's position is
    later by what is missing.
    """

    def __init__(self, audio_format: AudioFormat, *, queue_s: float) -> None:
        self._format = audio_format
        self._limit = round(queue_s * audio_format.sample_rate_hz)
        self._blocks: queue.SimpleQueue[AudioFrame | None] = queue.SimpleQueue()
        self._queued = self._got = 0  # samples, each counted by one thread
        self._position = 0
        self._is_over = False
        self.overrun_samples = 0

    def put(self, data: bytes | memoryview, *, missing: int = 0) -> None:
        """Queue a block; `missing` samples before it were lost by the driver already."""
        # the driver uses its buffer again as soon as its callback returns
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
        """Nothing more comes; what is queued can still be got. Safe from any thread."""
        self._blocks.put(None)

    def get(self) -> AudioFrame | None:
        """Wait for the next block; None at the end.

        Raises `DeviceLost` when nothing comes any more.
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
    """An `AudioSource` fed by a driver's callback through a `Handoff`."""

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
            # a driver whose device is gone may fail or hang; there is nothing left to save in it
            with contextlib.suppress(Exception):
                await in_driver_thread(release, timeout_s=_CLOSE_S)


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
    same = [device for device in devices if _without_place(device.name) == _without_place(wanted)]
    alike = [device for device in devices if wanted.lower() in device.name.lower()]
    for fitting in (same, alike):
        if len(fitting) == 1:
            return fitting[0]
    raise NoSuchDevice(wanted, listing)


def _without_place(name: str) -> str:
    """ALSA's names end with a card's number, which is another one after it was plugged in again."""
    return re.sub(r" \(hw:\d+,\d+\)$", "", name)


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
