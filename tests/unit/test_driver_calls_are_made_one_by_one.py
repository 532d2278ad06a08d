"""Calls into the audio driver: one at a time, closed when given up, with stderr restored."""

from __future__ import annotations

import asyncio
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from adapters.capture.driver import Driver
from adapters.capture.sounddevice_backend import _leave_busy_driver
from domain.errors import DeviceUnusable, DriverBusy


class Hanging:
    """A call that returns "device" when it is released."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self.closed: list[str] = []

    def __call__(self) -> str:
        self.entered.set()
        assert self.released.wait(20)
        return "device"

    async def until_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 10)


@pytest.fixture
def call() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.released.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def what_stderr_is() -> tuple[int, int]:
    status = os.fstat(2)
    return status.st_dev, status.st_ino


def open_files() -> int:
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


async def test_a_driver_that_hangs_does_not_hang_the_program(call: Hanging) -> None:
    driver = Driver()
    with pytest.raises(DeviceUnusable):
        await driver.open(call, call.closed.append, timeout_s=0.05)
    call.released.set()
    await until(lambda: not driver.is_busy)
    assert await driver.open(lambda: 5, lambda _: None, timeout_s=5) == 5


async def test_a_drivers_error_arrives_as_it_is() -> None:
    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await Driver().open(fail, lambda _: None, timeout_s=5)
    with pytest.raises(OSError, match="no"):
        Driver().wait_for(fail, timeout_s=5)


async def test_a_time_out_of_the_driver_itself_is_its_own_error() -> None:
    def fail() -> None:
        raise TimeoutError("the device is slow")

    with pytest.raises(TimeoutError, match="the device is slow"):
        await Driver().open(fail, lambda _: None, timeout_s=5)
    with pytest.raises(TimeoutError, match="the device is slow"):
        Driver().wait_for(fail, timeout_s=5)


async def test_what_is_opened_after_its_time_is_closed_at_once(call: Hanging) -> None:
    driver = Driver()
    with pytest.raises(DeviceUnusable, match="did not answer"):
        await driver.open(call, call.closed.append, timeout_s=0.05)
    assert call.closed == []
    call.released.set()
    await until(lambda: call.closed == ["device"])


async def test_what_is_opened_for_a_cancelled_caller_is_closed(call: Hanging) -> None:
    opening = asyncio.create_task(Driver().open(call, call.closed.append, timeout_s=20))
    await call.until_entered()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    call.released.set()
    await until(lambda: call.closed == ["device"])


async def test_what_is_opened_when_its_caller_is_just_being_cancelled_is_closed() -> None:
    closed: list[str] = []
    driver, begun = Driver(), threading.Event()

    def open_device() -> str:
        begun.set()
        return "device"

    opening = asyncio.create_task(driver.open(open_device, closed.append, timeout_s=20))
    await asyncio.sleep(0)
    assert begun.wait(10)
    while driver.is_busy:  # the event loop stands still, so the caller does not hear of the result
        time.sleep(0.001)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await until(lambda: closed == ["device"])


async def test_no_call_is_made_beside_one_that_hangs(call: Hanging) -> None:
    driver = Driver()
    made: list[str] = []
    with pytest.raises(DeviceUnusable):
        await driver.open(call, call.closed.append, timeout_s=0.05)
    for _ in range(3):
        with pytest.raises(DriverBusy, match="has not returned"):
            await driver.open(lambda: made.append("open"), made.append, timeout_s=5)
        with pytest.raises(DriverBusy, match="has not returned"):
            driver.wait_for(lambda: made.append("list"), timeout_s=5)
    assert made == []
    call.released.set()
    await until(lambda: not driver.is_hung)
    await driver.open(lambda: made.append("open"), lambda _: None, timeout_s=5)
    assert made == ["open"]


async def test_calls_of_several_callers_follow_each_other(call: Hanging) -> None:
    driver = Driver()
    first = asyncio.create_task(driver.open(call, call.closed.append, timeout_s=20))
    await call.until_entered()
    order: list[str] = []
    second = asyncio.create_task(
        driver.open(lambda: order.append("second"), lambda _: None, timeout_s=20)
    )
    with pytest.raises(DriverBusy):
        await driver.open(lambda: order.append("too late"), lambda _: None, timeout_s=0.05)
    with pytest.raises(DriverBusy):
        driver.wait_for(lambda: order.append("too late"), timeout_s=0.05)
    assert order == []
    call.released.set()
    assert await first == "device"
    await second
    assert order == ["second"]
    assert call.closed == []


async def test_a_device_is_closed_as_soon_as_the_driver_returns(call: Hanging) -> None:
    driver = Driver()
    with pytest.raises(DeviceUnusable):
        await driver.open(call, call.closed.append, timeout_s=0.05)
    await driver.close(lambda: call.closed.append("another"), timeout_s=0.05)
    assert call.closed == []
    call.released.set()
    await until(lambda: call.closed == ["device", "another"])


async def test_a_driver_that_hangs_in_closing_gets_no_other_call(call: Hanging) -> None:
    driver = Driver()
    await driver.close(call, timeout_s=0.05)
    with pytest.raises(DriverBusy):
        await driver.open(lambda: 5, lambda _: None, timeout_s=5)
    call.released.set()
    await until(lambda: not driver.is_hung)
    assert await driver.open(lambda: 5, lambda _: None, timeout_s=5) == 5


async def test_a_driver_that_fails_in_closing_goes_on() -> None:
    driver = Driver()

    def fail(_: object = None) -> None:
        raise OSError("gone")

    await driver.close(fail, timeout_s=5)
    assert await driver.open(lambda: 5, fail, timeout_s=5) == 5


async def test_the_drivers_thread_ends_when_there_is_nothing_to_do() -> None:
    driver = Driver()
    await driver.open(lambda: None, lambda _: None, timeout_s=5)
    await until(lambda: "gapless-driver" not in {thread.name for thread in threading.enumerate()})
    assert await driver.open(lambda: 5, lambda _: None, timeout_s=5) == 5


async def test_stderr_is_silent_during_a_call_only() -> None:
    before = what_stderr_is()
    during = await Driver().open(what_stderr_is, lambda _: None, timeout_s=5)
    assert what_stderr_is() == before
    nowhere = pathlib.Path(os.devnull).stat()
    assert during == (nowhere.st_dev, nowhere.st_ino)


async def test_stderr_is_there_when_a_caller_hears_of_an_error() -> None:
    before, during = what_stderr_is(), []

    def fail() -> None:
        raise OSError("no")

    for _ in range(100):
        try:
            Driver().wait_for(fail, timeout_s=5)
        except OSError:
            during.append(what_stderr_is())
    assert set(during) == {before}


async def test_stderr_is_there_though_a_call_hangs(call: Hanging) -> None:
    before = what_stderr_is()
    with pytest.raises(DeviceUnusable):
        await Driver().open(call, call.closed.append, timeout_s=0.05)
    assert what_stderr_is() == before


async def test_stderr_is_restored_exactly_after_calls_that_overlap() -> None:
    before, descriptors = what_stderr_is(), open_files()
    calls = [Hanging() for _ in range(3)]
    tasks = [
        asyncio.create_task(Driver().open(call, call.closed.append, timeout_s=20)) for call in calls
    ]
    for call in calls:
        await call.until_entered()
    for call, task in zip(calls, tasks, strict=True):  # the first to silence it ends first
        assert what_stderr_is() != before
        call.released.set()
        await task
    assert what_stderr_is() == before
    await until(lambda: open_files() <= descriptors)


async def test_stderr_is_restored_after_a_library_that_silences_it_itself(call: Hanging) -> None:
    """As sounddevice does while PortAudio starts: it restores what it has found."""
    before = what_stderr_is()

    def initialize() -> str:
        found = os.dup(2)
        device = call()
        os.dup2(found, 2)
        os.close(found)
        return device

    driver = Driver()
    with pytest.raises(DeviceUnusable):
        await driver.open(initialize, call.closed.append, timeout_s=0.05)
    call.released.set()
    await until(lambda: not driver.is_busy)
    assert what_stderr_is() == before


async def test_a_process_ends_without_a_call_beside_one_that_hangs(call: Hanging) -> None:
    driver, module = Driver(), SimpleNamespace(_initialized=1)
    _leave_busy_driver(module, driver)
    assert module._initialized == 1
    with pytest.raises(DeviceUnusable):
        await driver.open(call, call.closed.append, timeout_s=0.05)
    _leave_busy_driver(module, driver)
    assert module._initialized == 0
