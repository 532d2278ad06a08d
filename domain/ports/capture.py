"""Ports for capturing sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from domain.sound.formats import AudioFormat, AudioFrame

BlockConsumer: TypeAlias = Callable[[AudioFrame], bool]
"""Consumes a block; returns whether it wants another one."""


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A device that can record."""

    index: int
    name: str
    channels: int
    """Maximum number of channels."""
    default_rate_hz: int
    is_default: bool


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """What to capture. A backend ignores the fields that do not apply to it."""

    sample_rate_hz: int
    channels: int
    device: str | None = None
    """Name or number of the device; None for the default device."""
    path: str | None = None
    """The file to read, for a backend that reads files."""
    queue_s: float = 2.0
    """How much captured sound may wait to be delivered; more is an overrun."""


class AudioSource(Protocol):
    """A live microphone, or a stand-in for one, that delivers in real time."""

    @property
    def format(self) -> AudioFormat:
        """The format of the delivered blocks."""

    @property
    def device(self) -> str | None:
        """The name of the device it records from; None if there is no device."""

    @property
    def overrun_samples(self) -> int:
        """Samples lost so far because they were not consumed in time."""

    async def deliver(self, consume: BlockConsumer) -> None:
        """Call `consume` with each block, of any size, until it returns False or the source ends.

        The source calls `consume` in its own thread, one call at a time, so that sound never
        waits for the event loop. When `deliver` returns or raises, the last call has returned.
        Calling `deliver` again continues after the last delivered block.

        Positions start at 0 and follow the device's clock: after an overrun the next block's
        position is later than the end of the previous block. Raises `DeviceLost` when the device
        is unplugged, `InputUnreadable`, and whatever `consume` raises. Cancelling `deliver` ends
        the source.
        """

    def stop(self) -> None:
        """End the source; sound already captured is still delivered."""

    async def close(self) -> None:
        """Release the device and drop undelivered sound. May be called twice."""


class CaptureBackend(Protocol):
    """Opens sources of sound."""

    def devices(self) -> Sequence[InputDevice]:
        """List the available devices; raises `BackendMissing` if the library is not installed."""

    async def open(self, request: CaptureRequest) -> AudioSource:
        """Start capturing.

        Raises `BackendMissing`, `NoSuchDevice`, `DeviceUnusable` or `InputUnreadable`.
        """
