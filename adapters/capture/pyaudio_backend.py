"""Captures with PyAudio (PortAudio)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adapters.boot_time import boot_time
from adapters.capture.devices import DeviceOpener, OpenedDevice, working_rates
from adapters.capture.driver import DRIVER
from adapters.capture.handoff import CallbackSource, Handoff, OverflowMeter
from adapters.capture.sound_cards import SoundCards
from adapters.capture.sound_server import SoundServer
from domain.errors import BackendMissing, DeviceUnusable
from domain.ports.capture import AudioSource, CaptureRequest, InputDevice
from domain.sound.formats import AudioFormat, SampleFormat

FRAMES_PER_BUFFER = 960
_OPEN_S = 10.0


class PyAudioCapture:
    """Captures through the PyAudio package, which compiles against PortAudio."""

    def __init__(self, cards: SoundCards | None = None, server: SoundServer | None = None) -> None:
        self._opener = DeviceOpener(cards or SoundCards(), server or SoundServer())

    def devices(self) -> Sequence[InputDevice]:
        def look() -> list[InputDevice]:
            port_audio = _start(_import())
            try:
                return self._opener.locate(_devices(port_audio))
            finally:
                port_audio.terminate()

        return DRIVER.wait_for(look, timeout_s=_OPEN_S)

    def rates(self, device: InputDevice) -> Sequence[int]:
        def look() -> Sequence[int]:
            module = _import()
            port_audio = _start(module)

            def is_supported(rate_hz: int, channels: int) -> bool:
                try:
                    return bool(
                        port_audio.is_format_supported(
                            rate_hz,
                            input_device=device.index,
                            input_channels=channels,
                            input_format=module.paInt16,
                        )
                    )
                except (OSError, ValueError):
                    return False

            try:
                return working_rates(device, is_supported)
            finally:
                port_audio.terminate()

        return DRIVER.wait_for(look, timeout_s=_OPEN_S)

    async def open(self, request: CaptureRequest) -> AudioSource:
        audio_format = request.format
        handoff = Handoff(audio_format, queue_s=request.queue_s)

        def start() -> OpenedDevice:
            module = _import()
            port_audio = _start(module)

            def open_stream(device: InputDevice) -> Callable[[], object]:
                close: Callable[[], object] = _open_stream(
                    module, port_audio, device, handoff, audio_format
                ).close
                return close

            try:
                opened = self._opener.open(request, _devices(port_audio), open_stream, handoff.fail)
            except BaseException:
                port_audio.terminate()
                raise

            def close() -> None:
                try:
                    opened.close()
                finally:
                    # as long as one instance is left, PortAudio does not look for new devices
                    port_audio.terminate()

            return OpenedDevice(opened.identity, close)

        opened = await DRIVER.open(start, lambda opened: opened.close(), timeout_s=_OPEN_S)
        return CallbackSource(audio_format, handoff, opened.identity, opened.close)


def _open_stream(
    module: Any, port_audio: Any, device: InputDevice, handoff: Handoff, audio_format: AudioFormat
) -> Any:
    is_24_bit = audio_format.sample_format is SampleFormat.S24
    meter = OverflowMeter(sample_rate_hz=audio_format.sample_rate_hz)

    def callback(data: bytes, frames: int, _time: Any, status: int) -> tuple[None, int]:
        overflowed = bool(status & module.paInputOverflow)
        missing = meter.missing(frames=frames, overflowed=overflowed, now=boot_time())
        handoff.put(data, missing=missing)
        return None, module.paContinue

    try:
        return port_audio.open(
            rate=audio_format.sample_rate_hz,
            channels=audio_format.channels,
            format=module.paInt24 if is_24_bit else module.paInt16,
            input=True,
            input_device_index=device.index,
            frames_per_buffer=FRAMES_PER_BUFFER,
            stream_callback=callback,
        )
    except (OSError, ValueError) as error:
        raise DeviceUnusable(
            f"cannot record {audio_format} from {device.name!r}: {_reason(error)}"
        ) from error


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
            host_api=port_audio.get_host_api_info_by_index(info["hostApi"])["name"],
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
