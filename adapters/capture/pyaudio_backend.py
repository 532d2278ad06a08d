"""Captures with PyAudio (PortAudio)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from adapters.capture.handoff import CallbackSource, Handoff, OverflowMeter, choose
from adapters.capture.threads import in_driver_thread
from domain.errors import BackendMissing, DeviceUnusable
from domain.ports.capture import AudioSource, CaptureRequest, InputDevice
from domain.sound.formats import AudioFormat, SampleFormat

FRAMES_PER_BUFFER = 960
_OPEN_S = 10.0


class PyAudioCapture:
    """Captures through the PyAudio package, which compiles against PortAudio."""

    def devices(self) -> Sequence[InputDevice]:
        port_audio = _start(_import())
        try:
            return _devices(port_audio)
        finally:
            port_audio.terminate()

    async def open(self, request: CaptureRequest) -> AudioSource:
        module = _import()
        audio_format = AudioFormat(request.sample_rate_hz, request.channels, SampleFormat.S16)
        handoff = Handoff(audio_format, queue_s=request.queue_s)
        meter = OverflowMeter(sample_rate_hz=request.sample_rate_hz)

        def callback(data: bytes, frames: int, _time: Any, status: int) -> tuple[None, int]:
            overflowed = bool(status & module.paInputOverflow)
            missing = meter.missing(frames=frames, overflowed=overflowed, now=time.monotonic())
            handoff.put(data, missing=missing)
            return None, module.paContinue

        def start() -> tuple[Any, Any, str]:
            port_audio = _start(module)
            try:
                device = choose(_devices(port_audio), request.device)
            except BaseException:
                port_audio.terminate()
                raise
            try:
                stream = port_audio.open(
                    rate=request.sample_rate_hz,
                    channels=request.channels,
                    format=module.paInt16,
                    input=True,
                    input_device_index=device.index,
                    frames_per_buffer=FRAMES_PER_BUFFER,
                    stream_callback=callback,
                )
            except (OSError, ValueError) as error:
                port_audio.terminate()
                raise DeviceUnusable(
                    f"cannot record {audio_format} from {device.name!r}: {_reason(error)}"
                ) from error
            return port_audio, stream, device.name

        port_audio, stream, name = await in_driver_thread(start, timeout_s=_OPEN_S)

        def release() -> None:
            stream.close()
            port_audio.terminate()

        return CallbackSource(audio_format, handoff, release, device=name)


def _devices(port_audio: Any) -> list[InputDevice]:
    try:
        default = port_audio.get_default_input_device_info()["index"]
    except OSError:
        default = None
    infos = [
        port_audio.get_device_info_by_index(index) for index in range(port_audio.get_device_count())
    ]
    return [
        InputDevice(
            index=info["index"],
            name=info["name"],
            channels=info["maxInputChannels"],
            default_rate_hz=round(info["defaultSampleRate"]),
            is_default=info["index"] == default,
        )
        for info in infos
        if info["maxInputChannels"] > 0
    ]


def _start(module: Any) -> Any:
    try:
        return module.PyAudio()
    except OSError as error:
        raise DeviceUnusable(f"PortAudio failed to start: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return the text of a PyAudio error, whose arguments are (code, text) or (text, code)."""
    return next((str(arg) for arg in error.args if isinstance(arg, str)), repr(error))


def _import() -> Any:
    try:
        import pyaudio
    except ImportError as error:
        raise BackendMissing(
            "PyAudio is not installed; get it with: apt install portaudio19-dev gcc python3-dev, "
            "then: pip install PyAudio"
        ) from error
    return pyaudio
