"""`gapless devices`: a table of the input devices, and the rates at which each of them records."""

from __future__ import annotations

import asyncio
import json
import pathlib

import pytest
from click.testing import CliRunner

from adapters.capture import pyaudio_backend, sounddevice_backend
from adapters.capture.driver import DRIVER
from adapters.capture.paced import ToneCapture
from domain.errors import DeviceUnusable
from domain.ports.capture import InputDevice
from entrypoints import client_builders
from entrypoints.cli import main
from tests.fakes.portaudio import FakeDevice, FakeMachine

BACKENDS = ("pyaudio", "sounddevice")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rate_works_with_one_channel_or_with_all(
    backend: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = FakeMachine(tmp_path)
    formats = frozenset({(16_000, 1), (48_000, 1), (192_000, 2), (12_345, 1)})
    machine.plugged.append(FakeDevice("a", "Desk", formats=formats))
    devices = machine.backend(backend, monkeypatch)
    (listed,) = devices.devices()
    assert list(devices.rates(listed)) == [16_000, 48_000]
    both = InputDevice(listed.index, "Desk", 2, 48_000, is_default=True)
    assert list(devices.rates(both)) == [16_000, 48_000, 192_000]
    assert machine.audio.open == []


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_driver_that_hangs_is_no_longer_asked(
    backend: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (pyaudio_backend, sounddevice_backend):
        monkeypatch.setattr(module, "_OPEN_S", 0.2)
    machine = FakeMachine(tmp_path)
    machine.plugged.append(FakeDevice("a", "Desk"))
    devices = machine.backend(backend, monkeypatch)
    (listed,) = devices.devices()
    with machine.audio.hang("check"), pytest.raises(DeviceUnusable):
        devices.rates(listed)
    async with asyncio.timeout(10):
        while DRIVER.is_busy:
            await asyncio.sleep(0.001)


class Microphones(ToneCapture):
    """Two devices, of which one does not answer."""

    def devices(self) -> list[InputDevice]:
        return [
            InputDevice(0, "Desk\x1b[2J", 1, 48_000, is_default=True, host_api="ALSA"),
            InputDevice(3, "Broken", 2, 44_100, is_default=False),
            InputDevice(4, "Busy", 2, 44_100, is_default=False),
        ]

    def rates(self, device: InputDevice) -> list[int]:
        if device.index == 3:
            raise DeviceUnusable("it does not answer")
        return [44_100, 48_000] if device.index == 0 else []


@pytest.fixture
def microphones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_builders, "ToneCapture", Microphones)


@pytest.mark.usefixtures("microphones")
def test_the_table_marks_the_default_and_goes_on_after_a_fault() -> None:
    result = CliRunner().invoke(main, ["devices", "--capture", "tone"])
    assert result.exit_code == 0
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines == [
        "   NUMBER  NAME         CHANNELS  DEFAULT   RATES",
        r"*  0       Desk\x1b[2J  1         48000 Hz  44100, 48000",
        "   3       Broken       2         44100 Hz  ?",
        "   4       Busy         2         44100 Hz  none",
    ]
    assert result.stderr == "gapless: Broken: it does not answer\n"


@pytest.mark.usefixtures("microphones")
def test_programs_get_json() -> None:
    result = CliRunner().invoke(main, ["devices", "--capture", "tone", "--json"])
    first, second, third = json.loads(result.stdout)
    assert first == {
        "index": 0, "name": "Desk\x1b[2J", "channels": 1, "default_rate_hz": 48_000,
        "is_default": True, "rates_hz": [44_100, 48_000], "host_api": "ALSA", "port": None,
        "serial": None,
    }  # fmt: skip
    assert (second["rates_hz"], third["rates_hz"]) == (None, [])


def test_no_device_is_no_error() -> None:
    result = CliRunner().invoke(main, ["devices", "--capture", "tone"])
    assert (result.exit_code, result.stdout) == (0, "no input devices found\n")
    result = CliRunner().invoke(main, ["devices", "--capture", "tone", "--json"])
    assert json.loads(result.stdout) == []
