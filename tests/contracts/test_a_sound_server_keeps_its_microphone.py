"""A stream through a sound server records from one microphone, whatever the server would choose."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from adapters.capture.pyaudio_backend import PyAudioCapture
from adapters.capture.sound_server import ServerSource, SoundServer
from adapters.capture.sounddevice_backend import SoundDeviceCapture
from domain.errors import DeviceLost, DeviceUncertain
from domain.ports.capture import AudioSource, CaptureBackend, CaptureRequest, DeviceIdentity
from domain.sound.formats import AudioFrame
from tests.fakes.portaudio import FakeMachine
from tests.rigs import microphone as rig

A = ServerSource("alsa_input.usb-1", "USB Mic", "pci-0000:00:14.0-usb-0:1:1.0 0")
B = ServerSource("alsa_input.usb-2", "USB Mic", "pci-0000:00:14.0-usb-0:2:1.0 0")
BACKENDS = {"pyaudio": PyAudioCapture, "sounddevice": SoundDeviceCapture}


class Desktop:
    """A machine whose device `default` is a sound server with two identical microphones."""

    def __init__(self, folder: pathlib.Path, backend_name: str, patch: pytest.MonkeyPatch) -> None:
        self.machine = FakeMachine(folder)
        self.machine.add("default", "default", host_api="ALSA")
        self.server = self.machine.server
        self.server.microphones, self.server.default = [A, B], B
        self.backend: CaptureBackend = self.machine.backend(backend_name, patch)

    async def open(self, same_as: DeviceIdentity | None = None) -> AudioSource:
        return await self.backend.open(CaptureRequest(48_000, 1, same_as=same_as))

    async def identity(self) -> DeviceIdentity:
        source = await self.open()
        await source.close()
        assert source.device is not None
        return source.device


@pytest.fixture(params=BACKENDS)
def desktop(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Desktop:
    return Desktop(tmp_path, request.param, monkeypatch)


def more(block: AudioFrame) -> bool:
    return True


async def test_a_stream_that_the_server_moves_has_lost_its_microphone(desktop: Desktop) -> None:
    source = await desktop.open()
    assert source.device is not None
    assert source.device.source == B.key
    desktop.server.microphones = [A]
    desktop.server.move(A)
    with pytest.raises(DeviceLost, match="another microphone"):
        await source.deliver(more)
    await source.close()
    assert desktop.server.watches == []


async def test_a_change_that_is_no_move_does_not_matter(desktop: Desktop) -> None:
    source = await desktop.open()
    desktop.server.move(B)  # its volume, for example
    source.stop()
    await source.deliver(more)
    await source.close()


async def test_the_twin_that_stays_is_not_opened(desktop: Desktop) -> None:
    lost = await desktop.identity()
    desktop.server.microphones, desktop.server.default = [A], A
    opened = list(desktop.machine.audio.opened)
    with pytest.raises(DeviceUncertain, match="others are left alone"):
        await desktop.open(lost)
    assert desktop.machine.audio.opened == opened


async def test_what_is_back_is_opened_though_another_is_the_default(desktop: Desktop) -> None:
    lost = await desktop.identity()
    again = ServerSource("alsa_input.usb-1.2", "USB Mic", B.key)  # names follow the order
    desktop.server.microphones, desktop.server.default = [A, again], A
    source = await desktop.open(lost)
    assert desktop.server.stream == again
    assert source.device is not None
    assert source.device.source == B.key
    await source.close()


async def test_a_server_that_chooses_by_itself_is_not_recorded(desktop: Desktop) -> None:
    lost = await desktop.identity()
    desktop.server.default, desktop.server.can_be_told = A, False
    with pytest.raises(DeviceUncertain, match="Choose that one as the system's input"):
        await desktop.open(lost)
    assert desktop.machine.audio.open == []
    desktop.server.default = B
    await (await desktop.open(lost)).close()


async def test_a_microphone_that_is_reached_directly_does_not_concern_the_server(
    desktop: Desktop,
) -> None:
    desktop.machine.plug_in("C", card=1, port="3")
    source = await desktop.backend.open(CaptureRequest(48_000, 1, device="1"))
    assert source.device is not None
    assert source.device.source is None
    await source.close()


# -- with PulseAudio -----------------------------------------------------------------------------


@pytest.fixture
def portaudio_at_rest() -> Iterator[None]:
    """Stop the PortAudio that an earlier test may have started: it would not see new devices."""
    module: Any = sys.modules.get("sounddevice")
    if module is not None:
        module._terminate()
    yield
    if module is not None:
        module._initialize()


@pytest.mark.usefixtures("portaudio_at_rest")
@pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing()))
@pytest.mark.parametrize("name", BACKENDS)
async def test_pulseaudio_does_not_exchange_the_microphone(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name, exc_type=(ImportError, OSError))
    with rig.microphone(tmp_path / "runtime") as device:
        for key, value in device.environ.items():
            monkeypatch.setenv(key, value)
        device.add("twin")
        backend, server = BACKENDS[name](), SoundServer()
        request = CaptureRequest(48_000, 1, device="default")
        source = await backend.open(request)
        lost = source.device
        assert lost is not None
        assert lost.source == "virt.monitor"
        device.remove("virt")
        with pytest.raises(DeviceLost, match="another microphone"):
            await source.deliver(more)
        await source.close()
        with pytest.raises(DeviceUncertain, match="others are left alone"):
            await backend.open(CaptureRequest(48_000, 1, device="default", same_as=lost))
        device.add("virt")
        device.make_default("twin")
        source = await backend.open(CaptureRequest(48_000, 1, device="default", same_as=lost))
        assert [recorded.name for recorded in server.recorded().values()] == ["virt.monitor"]
        await source.close()
