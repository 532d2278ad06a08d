"""Captures with sounddevice (PortAudio)."""

from __future__ import annotations

import atexit
import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

from adapters.boot_time import boot_time
from adapters.capture.devices import DeviceOpener, OpenedDevice, working_rates
from adapters.capture.driver import DRIVER, Driver
from adapters.capture.handoff import CallbackSource, Handoff, OverflowMeter
from adapters.capture.sound_cards import SoundCards
from adapters.capture.sound_server import SoundServer
from domain.errors import BackendMissing, DeviceUnusable
from domain.ports.capture import AudioSource, CaptureRequest, InputDevice
from domain.sound.formats import AudioFormat, SampleFormat

_OPEN_S = 10.0
_open_streams: set[Any] = set()
"""The streams of this process; used in the driver's thread only."""


class SoundDeviceCapture:
    """Captures through the sounddevice package."""

    def __init__(self, cards: SoundCards | None = None, server: SoundServer | None = None) -> None:
        self._opener = DeviceOpener(cards or SoundCards(), server or SoundServer())

    def devices(self) -> Sequence[InputDevice]:
        return DRIVER.wait_for(lambda: self._opener.locate(_devices(_load())), timeout_s=_OPEN_S)

    def rates(self, device: InputDevice) -> Sequence[int]:
        def look() -> Sequence[int]:
            module = _import()

            def is_supported(rate_hz: int, channels: int) -> bool:
                try:
                    module.check_input_settings(
                        device=device.index, channels=channels, dtype="int16", samplerate=rate_hz
                    )
                except (module.PortAudioError, ValueError):
                    return False
                return True

            return working_rates(device, is_supported)

        return DRIVER.wait_for(look, timeout_s=_OPEN_S)

    async def open(self, request: CaptureRequest) -> AudioSource:
        audio_format = request.format
        handoff = Handoff(audio_format, queue_s=request.queue_s)

        def start() -> OpenedDevice:
            module = _load()
            return self._opener.open(
                request,
                _devices(module),
                lambda device: _open_stream(module, device, handoff, audio_format),
                handoff.fail,
            )

        opened = await DRIVER.open(start, lambda opened: opened.close(), timeout_s=_OPEN_S)
        return CallbackSource(audio_format, handoff, opened.identity, opened.close)


def _open_stream(
    module: Any, device: InputDevice, handoff: Handoff, audio_format: AudioFormat
) -> Callable[[], object]:
    """Open and start a stream; return what closes it."""
    is_24_bit = audio_format.sample_format is SampleFormat.S24
    meter = OverflowMeter(sample_rate_hz=audio_format.sample_rate_hz)

    def callback(data: Any, frames: int, _time: Any, status: Any) -> None:
        missing = meter.missing(frames=frames, overflowed=status.input_overflow, now=boot_time())
        handoff.put(bytes(data), missing=missing)

    def close() -> None:
        try:
            stream.close(ignore_errors=True)
        finally:
            _open_streams.discard(stream)

    try:
        stream = module.RawInputStream(
            samplerate=audio_format.sample_rate_hz,
            channels=audio_format.channels,
            dtype="int24" if is_24_bit else "int16",
            device=device.index,
            callback=callback,
        )
        _open_streams.add(stream)
        try:
            stream.start()
        except BaseException:
            close()
            raise
    except module.PortAudioError as error:
        raise DeviceUnusable(
            f"cannot record {audio_format} from {device.name!r}: {error.args[0]}"
        ) from error
    return close


def _devices(module: Any) -> list[InputDevice]:
    default = module.default.device[0]
    host_apis = module.query_hostapis()
    return [
        InputDevice(
            index=info["index"],
            name=info["name"],
            channels=info["max_input_channels"],
            default_rate_hz=round(info["default_samplerate"]),
            is_default=info["index"] == default,
            host_api=host_apis[info["hostapi"]]["name"],
        )
        for info in module.query_devices()
        if info["max_input_channels"] > 0
    ]


def _load() -> Any:
    """Import sounddevice; if it is imported already, let PortAudio look for new devices.

    PortAudio lists devices only when it starts. It is not restarted while a stream is open,
    because that would end the stream.
    """
    is_loaded = "sounddevice" in sys.modules
    module = _import()
    _guard_exit(module)
    if is_loaded and not _open_streams:
        with contextlib.suppress(module.PortAudioError):  # it does not run if it failed to start
            module._terminate()
        try:
            module._initialize()
        except module.PortAudioError as error:
            raise DeviceUnusable(f"PortAudio failed to start: {error.args[0]}") from error
    return module


@functools.cache
def _guard_exit(module: Any) -> None:
    """Let the process end without calling PortAudio if the driver hangs then.

    sounddevice terminates PortAudio when the interpreter exits.
    """
    atexit.register(_leave_busy_driver, module, DRIVER)


def _leave_busy_driver(module: Any, driver: Driver) -> None:
    if driver.is_busy:
        module._initialized = 0  # sounddevice's own handler, which runs later, does nothing then


def _import() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise BackendMissing(
            "sounddevice is not installed; get it with: pip install sounddevice"
        ) from error
    except OSError as error:  # the package is installed, but PortAudio itself is not
        raise BackendMissing(
            "PortAudio is not installed; get it with: apt install libportaudio2"
        ) from error
    except Exception as error:  # sounddevice's own error if PortAudio does not start
        raise DeviceUnusable(f"PortAudio failed to start: {error}") from error
    return sounddevice
