"""Where sound comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from domain.sound.formats import AudioFormat, AudioFrame

BlockConsumer: TypeAlias = Callable[[AudioFrame], bool]
"""Consumes a block; returns whether it wants another one."""


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A device that can be recorded from."""

    index: int
    name: str
    channels: int
    """Most channels that it delivers."""
    default_rate_hz: int
    is_default: bool


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """What is asked of a backend. A backend ignores what it has no use for."""

    sample_rate_hz: int
    channels: int
    device: str | None = None
    """Name or number; None for the default."""
    path: str | None = None
    """The file to read, for a backend that reads files."""
    queue_s: float = 2.0
    """Sound that may wait to be taken before an overrun is declared."""


class AudioSource(Protocol):
    """A live microphone, or what stands in for one: it delivers in real time."""

    @property
    def format(self) -> AudioFormat:
        """The format of what is delivered."""

    @property
    def device(self) -> str | None:
        """The name of the device that it records from; None for what is none."""

    @property
    def overrun_samples(self) -> int:
        """Samples lost so far because nobody took them in time."""

    async def deliver(self, consume: BlockConsumer) -> None:
        """Call `consume` with each block, of any size, until it wants no more or the source ends.

        It is called in a thread of the source's own, one call after the other, so that sound
        waits for nothing that is done on the event loop; when this returns, however it does, the
        last call is over. It may be called again, and goes on where it left off.

        Positions count from 0 with the device's clock: after an overrun the next block's
        position is later than the end of the one before. Raises `DeviceLost` when the device
        is unplugged, `InputUnreadable`, and what `consume` raises. One that is cancelled ends the
        source.
        """

    def stop(self) -> None:
        """End the source: what is captured already is still delivered."""

    async def close(self) -> None:
        """Release the device. What has not been delivered is gone. May be called twice."""


class CaptureBackend(Protocol):
    """A way to reach sound sources."""

    def devices(self) -> Sequence[InputDevice]:
        """The devices there are. Raises `BackendMissing` when the library is not installed."""

    async def open(self, request: CaptureRequest) -> AudioSource:
        """Start capturing.

        Raises `BackendMissing`, `NoSuchDevice`, `DeviceUnusable` or `InputUnreadable`.
        """
