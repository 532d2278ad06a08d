"""Ports for capturing sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat

BlockConsumer: TypeAlias = Callable[[AudioFrame], bool]
"""Consumes a block; returns whether it wants another one."""


USUAL_RATES_HZ = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000)
"""Sample rates at which microphones record."""


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A device that can record."""

    index: int
    name: str
    channels: int
    """Maximum number of channels."""
    default_rate_hz: int
    is_default: bool
    host_api: str = ""
    """The system's interface through which it is reached, such as ALSA or WASAPI."""
    port: str | None = None
    """Where it is plugged in, such as the path of a USB port; None if that is unknown."""
    serial: str | None = None
    """The serial number of the hardware; None if it has none, or if that is unknown."""


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What tells a device from others of its kind when it was unplugged and is plugged in again."""

    name: str
    host_api: str = ""
    port: str | None = None
    """Where it was plugged in; None if that is unknown."""
    serial: str | None = None
    source: str | None = None
    """What the sound server recorded from, if the device is a sound server; None if unknown."""
    is_only_one: bool = True
    """Whether no other device looked the same when it was opened, apart from its port."""


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """What to capture. A backend ignores the fields that do not apply to it."""

    sample_rate_hz: int
    channels: int
    sample_format: SampleFormat = SampleFormat.S16
    """S16 or S24."""
    device: str | None = None
    """Name or number of the device; None for the default device."""
    same_as: DeviceIdentity | None = None
    """A device that was opened before: open that one and no other, whatever `device` says."""
    path: str | None = None
    """The file to read, for a backend that reads files."""
    queue_s: float = 30.0
    """How much captured sound may wait to be delivered; more is an overrun."""

    @property
    def format(self) -> AudioFormat:
        return AudioFormat(self.sample_rate_hz, self.channels, self.sample_format)


class AudioSource(Protocol):
    """A live microphone, or a stand-in for one, that delivers in real time."""

    @property
    def format(self) -> AudioFormat:
        """The format of the delivered blocks, with integer samples: what was captured, exactly."""

    @property
    def device(self) -> DeviceIdentity | None:
        """The device it records from; None if there is no device."""

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
        """List the available devices.

        Raises `BackendMissing` if the library is not installed, `DeviceUnusable` or `DriverBusy`.
        """

    def rates(self, device: InputDevice) -> Sequence[int]:
        """Return which of `USUAL_RATES_HZ` a listed device can record at, at the moment.

        Nothing is recorded. A device that another program uses alone has none. Raises as `devices`.
        """

    async def open(self, request: CaptureRequest) -> AudioSource:
        """Start capturing.

        Raises `BackendMissing`, `NoSuchDevice`, `DeviceUncertain`, `DeviceUnusable`, `DriverBusy`
        or `InputUnreadable`. If it is cancelled, no device stays open.
        """
