"""After an unplug, that microphone and no other is opened again, with both backends."""

from __future__ import annotations

import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from domain.errors import DeviceUncertain, NoSuchDevice
from domain.ports.capture import AudioSource, CaptureBackend, CaptureRequest, DeviceIdentity
from tests.fakes.portaudio import FakeMachine

MICROPHONE = "USB Mic: USB Audio"


class Rig:
    """A machine, and a backend that sees it."""

    def __init__(self, machine: FakeMachine, backend: CaptureBackend) -> None:
        self.machine = machine
        self.audio = machine.audio
        self.backend = backend

    @asynccontextmanager
    async def opened(
        self, device: str | None = None, *, same_as: DeviceIdentity | None = None
    ) -> AsyncIterator[AudioSource]:
        request = CaptureRequest(48_000, 1, device=device, same_as=same_as)
        source = await self.backend.open(request)
        try:
            yield source
        finally:
            await source.close()

    async def identity(self, device: str) -> DeviceIdentity:
        """Open a device and close it; return what is known of it."""
        async with self.opened(device) as source:
            assert source.device is not None
            return source.device

    async def reopens(self, lost: DeviceIdentity) -> str:
        """Return the label of the device that is opened for the lost one."""
        async with self.opened(same_as=lost):
            (label,) = self.audio.open
            return label

    async def waits(self, lost: DeviceIdentity, *, saying: str) -> None:
        """Check that nothing is opened for the lost device."""
        before = list(self.audio.opened)
        with pytest.raises(DeviceUncertain, match=saying):
            await self.backend.open(CaptureRequest(48_000, 1, same_as=lost))
        assert self.audio.opened == before


@pytest.fixture(params=["pyaudio", "sounddevice"])
def backend_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def rig(
    folder: pathlib.Path,
    backend_name: str,
    patch: pytest.MonkeyPatch,
    *,
    has_sysfs: bool = True,
    has_proc: bool = True,
) -> Rig:
    machine = FakeMachine(folder, has_sysfs=has_sysfs, has_proc=has_proc)
    return Rig(machine, machine.backend(backend_name, patch))


@pytest.fixture
def whole(backend_name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return rig(tmp_path, backend_name, monkeypatch)


@pytest.fixture(params=["sysfs and proc", "sysfs", "proc"])
def linux(
    request: pytest.FixtureRequest, backend_name: str, tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Rig:  # fmt: skip
    """A machine whose kernel tells the ports, in one of two ways or in both."""
    has_sysfs, has_proc = "sysfs" in request.param, "proc" in request.param
    return rig(tmp_path, backend_name, monkeypatch, has_sysfs=has_sysfs, has_proc=has_proc)


@pytest.fixture
def bare(backend_name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A machine that tells nothing of ports."""
    return rig(tmp_path, backend_name, monkeypatch, has_sysfs=False, has_proc=False)


async def test_the_twin_that_stays_is_not_recorded(linux: Rig) -> None:
    linux.machine.plug_in("A", card=1, port="1")
    linux.machine.plug_in("B", card=2, port="2")
    lost = await linux.identity(f"{MICROPHONE} (hw:2,0)")
    linux.machine.unplug("B")
    await linux.waits(lost, saying=r"port .*2.* may be another microphone")
    linux.machine.plug_in("B", card=2, port="2")
    assert await linux.reopens(lost) == "B"
    assert linux.audio.opened == ["B", "B"]


async def test_a_twin_that_comes_first_and_gets_the_number_is_not_recorded(linux: Rig) -> None:
    linux.machine.plug_in("B", card=2, port="2")
    lost = await linux.identity("0")
    linux.machine.unplug("B")
    linux.machine.plug_in("A", card=2, port="1")
    await linux.waits(lost, saying="may be another microphone")
    linux.machine.plug_in("B", card=3, port="2")
    assert await linux.reopens(lost) == "B"


async def test_twins_that_exchanged_their_numbers_are_not_exchanged(linux: Rig) -> None:
    linux.machine.plug_in("A", card=1, port="1")
    linux.machine.plug_in("B", card=2, port="2.3")
    lost = {"A": await linux.identity("0"), "B": await linux.identity("1")}
    linux.machine.unplug("A")
    linux.machine.unplug("B")
    linux.machine.plug_in("B", card=1, port="2.3")
    linux.machine.plug_in("A", card=2, port="1")
    assert await linux.reopens(lost["A"]) == "A"
    assert await linux.reopens(lost["B"]) == "B"


async def test_a_port_whose_number_begins_alike_is_another_one(linux: Rig) -> None:
    linux.machine.plug_in("B", card=1, port="1")
    lost = await linux.identity("0")
    linux.machine.unplug("B")
    linux.machine.plug_in("A", card=1, port="1.1")
    await linux.waits(lost, saying="may be another microphone")


async def test_another_kind_of_device_in_the_port_is_not_the_lost_one(linux: Rig) -> None:
    linux.machine.plug_in("B", card=1, port="1")
    lost = await linux.identity("0")
    linux.machine.unplug("B")
    linux.machine.plug_in("camera", card=1, port="1", name="Webcam: USB Audio")
    with pytest.raises(NoSuchDevice):
        await linux.reopens(lost)


async def test_a_twin_with_another_serial_number_in_the_port_is_not_recorded(whole: Rig) -> None:
    whole.machine.plug_in("B", card=1, port="1", serial="0001")
    lost = await whole.identity("0")
    whole.machine.unplug("B")
    whole.machine.plug_in("A", card=1, port="1", serial="0002")
    await whole.waits(lost, saying="another serial number")
    whole.machine.unplug("A")
    whole.machine.plug_in("B", card=1, port="1", serial="0001")
    assert await whole.reopens(lost) == "B"


async def test_a_twin_that_gets_the_number_during_the_opening_is_closed(whole: Rig) -> None:
    whole.machine.plug_in("B", card=1, port="1")
    lost = await whole.identity("0")

    def exchange() -> None:
        whole.machine.unplug("B")
        whole.machine.plug_in("A", card=1, port="2")

    whole.audio.when_opening = exchange
    with pytest.raises(DeviceUncertain, match="unplugged while it was being opened"):
        await whole.backend.open(CaptureRequest(48_000, 1, same_as=lost))
    assert whole.audio.opened == ["B", "A"]
    assert whole.audio.open == []


async def test_without_ports_a_name_that_was_never_shared_is_enough(bare: Rig) -> None:
    bare.machine.plug_in("B", card=1, port="1")
    lost = await bare.identity("0")
    bare.machine.unplug("B")
    with pytest.raises(NoSuchDevice):
        await bare.reopens(lost)
    bare.machine.plug_in("B", card=4, port="1")
    assert await bare.reopens(lost) == "B"


async def test_without_ports_twins_are_not_told_apart(bare: Rig) -> None:
    bare.machine.plug_in("A", card=1, port="1")
    bare.machine.plug_in("B", card=2, port="2")
    lost = await bare.identity("1")
    bare.machine.unplug("B")
    await bare.waits(lost, saying="nothing tells whether the one that is left")
    bare.machine.plug_in("B", card=2, port="2")
    await bare.waits(lost, saying="nothing tells which of them")


async def test_without_ports_a_twin_that_comes_too_is_not_recorded(bare: Rig) -> None:
    bare.machine.plug_in("B", card=1, port="1")
    lost = await bare.identity("0")
    bare.machine.unplug("B")
    bare.machine.plug_in("A", card=1, port="2")
    bare.machine.plug_in("B", card=2, port="1")
    await bare.waits(lost, saying="2 input devices are called")


@pytest.mark.parametrize("host_api", ["PulseAudio", "WASAPI"])
async def test_names_of_a_sound_server_are_as_good_as_they_are(whole: Rig, host_api: str) -> None:
    whole.machine.add("A", "Mic Mono", host_api=host_api)
    whole.machine.add("B", "Desk Mono", host_api=host_api)
    lost = await whole.identity("Desk Mono")
    whole.machine.unplug("B")
    with pytest.raises(NoSuchDevice):
        await whole.reopens(lost)
    whole.machine.add("B", "Desk Mono", host_api=host_api)
    assert await whole.reopens(lost) == "B"
    whole.machine.add("C", "Desk Mono", host_api=host_api)
    await whole.waits(lost, saying="2 input devices are called 'Desk Mono'")


async def test_a_device_is_not_opened_through_another_interface_of_the_system(whole: Rig) -> None:
    whole.machine.add("B", "Desk Mono", host_api="WASAPI")
    lost = await whole.identity("0")
    whole.machine.unplug("B")
    whole.machine.add("B", "Desk Mono", host_api="PulseAudio")
    with pytest.raises(NoSuchDevice):
        await whole.reopens(lost)


async def test_devices_are_listed_with_their_ports(whole: Rig) -> None:
    whole.machine.plug_in("B", card=1, port="1.4", serial="0007")
    whole.machine.add("pulse", "pulse", host_api="ALSA")
    microphone, pulse = whole.backend.devices()
    assert microphone.host_api == pulse.host_api == "ALSA"
    assert microphone.port is not None
    assert microphone.port.endswith("usb1/1-1.4/1-1.4:1.0")
    assert (microphone.serial, pulse.port, pulse.serial) == ("0007", None, None)


async def test_a_default_that_leads_to_the_twin_is_not_recorded(whole: Rig) -> None:
    machine = whole.machine
    machine.add("default", "default", host_api="ALSA")
    machine.plug_in("B", card=1, port="2")
    machine.card_behind_default = 1
    lost = await whole.identity("default")
    assert lost.port is not None
    machine.unplug("B")
    machine.plug_in("A", card=1, port="1")
    with pytest.raises(DeviceUncertain, match="leads to the microphone in port 1-1 and not"):
        await whole.reopens(lost)
    assert whole.audio.open == []
    machine.card_behind_default = None
    with pytest.raises(DeviceUncertain, match="in an unknown port"):
        await whole.reopens(lost)
    machine.unplug("A")
    machine.plug_in("A", card=2, port="1")
    machine.plug_in("B", card=1, port="2")
    machine.card_behind_default = 1
    assert await whole.reopens(lost) == "default"


async def test_a_default_whose_card_is_unknown_is_known_by_its_name(whole: Rig) -> None:
    whole.machine.add("default", "default", host_api="ALSA")
    lost = await whole.identity("default")
    assert lost.port is None
    assert await whole.reopens(lost) == "default"
