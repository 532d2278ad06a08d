"""Captures with sounddevice (PortAudio)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from adapters.capture.handoff import CallbackSource, Handoff, OverflowMeter, choose
from adapters.capture.threads import in_driver_thread
from domain.errors import BackendMissing, DeviceUnusable
from domain.ports.capture import AudioSource, CaptureRequest, InputDevice
from domain.sound.formats import AudioFormat, SampleFormat

_OPEN_S = 10.0


class SoundDeviceCapture:
    """Captures through the sounddevice package."""

    def __init__(self) -> None:
        self._was_opened = False

    def devices(self) -> Sequence[InputDevice]:
        module = _import()
        default = module.default.device[0]
        return [
            InputDevice(
                index=info["index"],
                name=info["name"],
                channels=info["max_input_channels"],
                default_rate_hz=round(info["default_samplerate"]),
                is_default=info["index"] == default,
            )
            for info in module.query_devices()
            if info["max_input_channels"] > 0
        ]

    async def open(self, request: CaptureRequest) -> AudioSource:
        module = _import()
        audio_format = AudioFormat(request.sample_rate_hz, request.channels, SampleFormat.S16)
        handoff = Handoff(audio_format, queue_s=request.queue_s)
        meter = OverflowMeter(sample_rate_hz=request.sample_rate_hz)

        def callback(data: Any, frames: int, _time: Any, status: Any) -> None:
            missing = meter.missing(
                frames=frames, overflowed=status.input_overflow, now=time.monotonic()
            )
            handoff.put(bytes(data), missing=missing)

        def start() -> tuple[Any, str]:
            if self._was_opened:
                # PortAudio lists devices only when it starts, so restart it to see new ones
                module._terminate()
                module._initialize()
            self._was_opened = True
            device = choose(self.devices(), request.device)
            try:
                stream = module.RawInputStream(
                    samplerate=request.sample_rate_hz,
                    channels=request.channels,
                    dtype="int16",
                    device=device.index,
                    callback=callback,
                )
                try:
                    stream.start()
                except BaseException:
                    stream.close()
                    raise
            except module.PortAudioError as error:
                raise DeviceUnusable(
                    f"cannot record {audio_format} from {device.name!r}: {error.args[0]}"
                ) from error
            return stream, device.name

        try:
            stream, name = await in_driver_thread(start, timeout_s=_OPEN_S)
        except module.PortAudioError as error:
            raise DeviceUnusable(f"PortAudio failed to start: {error.args[0]}") from error
        return CallbackSource(
            audio_format, handoff, lambda: stream.close(ignore_errors=True), device=name
        )


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
