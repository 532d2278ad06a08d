"""A driver that hangs: nothing is called beside it, nothing that it opens late stays open."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Callable, Iterator

import pytest

from adapters.capture import handoff, pyaudio_backend, sounddevice_backend
from adapters.capture.driver import DRIVER
from domain.errors import DeviceUnusable, DriverBusy
from domain.ports.capture import CaptureBackend, CaptureRequest
from tests.fakes.portaudio import FakeMachine

REQUEST = CaptureRequest(48_000, 1)


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> FakeMachine:
    machine = FakeMachine(tmp_path)
    machine.plug_in("A", card=1, port="1")
    return machine


@pytest.fixture(params=["pyaudio", "sounddevice"])
def backend(
    request: pytest.FixtureRequest, machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> CaptureBackend:
    return machine.backend(request.param, monkeypatch)


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let callers wait for less than a second."""
    with monkeypatch.context() as patch:
        for module in (pyaudio_backend, sounddevice_backend):
            patch.setattr(module, "_OPEN_S", 0.5)
        patch.setattr(handoff, "_CLOSE_S", 0.1)
        yield


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def opens_again(backend: CaptureBackend, machine: FakeMachine) -> None:
    """Check that the driver is as good as new."""
    await until(lambda: not DRIVER.is_busy)
    source = await backend.open(REQUEST)
    assert machine.audio.open == ["A"]
    await source.close()
    assert machine.audio.open == []
    assert not machine.audio.was_entered_twice


@pytest.mark.usefixtures("short_limits")
@pytest.mark.parametrize("call", ["start", "list", "open"])
async def test_a_device_that_is_opened_too_late_is_closed(
    machine: FakeMachine, backend: CaptureBackend, call: str
) -> None:
    audio = machine.audio
    with audio.hang(call):
        with pytest.raises(DeviceUnusable, match="did not answer"):
            await backend.open(REQUEST)
        before = audio.calls.copy()
        for _ in range(3):
            with pytest.raises(DriverBusy):
                await backend.open(REQUEST)
            with pytest.raises(DriverBusy):
                backend.devices()
        assert audio.calls == before
    await until(lambda: audio.opened == ["A"] and audio.open == [])
    assert audio.calls["close"] == 1
    await opens_again(backend, machine)


async def test_a_device_whose_opening_is_cancelled_is_closed(
    machine: FakeMachine, backend: CaptureBackend
) -> None:
    audio = machine.audio
    with audio.hang("open") as hangs:
        opening = asyncio.create_task(backend.open(REQUEST))
        await asyncio.to_thread(hangs.wait, 10)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    await until(lambda: audio.opened == ["A"] and audio.open == [])


@pytest.mark.usefixtures("short_limits")
async def test_nothing_is_opened_while_a_device_is_being_closed(
    machine: FakeMachine, backend: CaptureBackend
) -> None:
    audio = machine.audio
    source = await backend.open(REQUEST)
    with audio.hang("close"):
        await source.close()
        with pytest.raises(DriverBusy):
            await backend.open(REQUEST)
        assert audio.open == ["A"]
    await until(lambda: audio.open == [])
    await opens_again(backend, machine)


async def test_two_callers_open_one_after_the_other(
    machine: FakeMachine, backend: CaptureBackend
) -> None:
    sources = await asyncio.gather(*[backend.open(REQUEST) for _ in range(4)])
    assert machine.audio.open == ["A"] * 4
    assert not machine.audio.was_entered_twice
    await asyncio.gather(*[source.close() for source in sources])
    assert machine.audio.open == []
    assert not machine.audio.was_entered_twice


async def test_a_driver_that_fails_in_closing_looks_for_new_devices(
    machine: FakeMachine, backend: CaptureBackend
) -> None:
    source = await backend.open(REQUEST)
    machine.audio.failing.add("close")
    await source.close()
    machine.audio.failing.clear()
    machine.audio.open.clear()
    machine.plug_in("B", card=2, port="2", name="Other: USB Audio")
    assert [device.name for device in backend.devices()] == [
        "USB Mic: USB Audio (hw:1,0)", "Other: USB Audio (hw:2,0)",
    ]  # fmt: skip


async def test_a_driver_that_failed_to_start_is_started_again(
    machine: FakeMachine, backend: CaptureBackend
) -> None:
    await (await backend.open(REQUEST)).close()
    machine.audio.failing.add("start")
    for _ in range(2):
        with pytest.raises(DeviceUnusable, match="failed to start"):
            await backend.open(REQUEST)
    machine.audio.failing.clear()
    await opens_again(backend, machine)
