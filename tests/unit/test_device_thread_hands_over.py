"""Blocks go from the driver's thread to another: bounded, and every lost sample is counted."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from adapters.capture import handoff
from adapters.capture.handoff import Handoff, OverflowMeter, choose
from adapters.capture.threads import in_driver_thread
from domain.errors import DeviceLost, DeviceUnusable, NoSuchDevice
from domain.ports.capture import InputDevice
from domain.sound.formats import AudioFormat

MONO = AudioFormat(1000, 1)


def block(value: int, length: int = 100) -> bytes:
    return np.full(length, value, dtype="<i2").tobytes()


def test_blocks_come_out_in_order_with_their_positions() -> None:
    queue = Handoff(MONO, queue_s=10)

    def drive() -> None:
        for n in range(50):
            queue.put(block(n))
        queue.end()

    thread = threading.Thread(target=drive)
    thread.start()
    got = []
    while (frame := queue.get()) is not None:
        got.append((frame.position, int(frame.samples[0, 0])))
    thread.join()
    assert got == [(n * 100, n) for n in range(50)]
    assert queue.overrun_samples == 0


def test_an_overrun_is_counted_and_moves_the_next_position_on() -> None:
    queue = Handoff(MONO, queue_s=0.2)
    for n in range(5):
        queue.put(block(n))
    assert queue.overrun_samples == 300
    first, second = queue.get(), queue.get()
    queue.put(block(9))
    third = queue.get()
    assert first is not None and second is not None and third is not None
    assert [frame.position for frame in (first, second, third)] == [0, 100, 500]


def test_samples_lost_by_the_driver_move_the_position_on() -> None:
    queue = Handoff(MONO, queue_s=10)
    queue.put(block(1))
    queue.put(block(2), missing=30)
    queue.get()
    frame = queue.get()
    assert frame is not None
    assert (frame.position, queue.overrun_samples) == (130, 30)


def test_a_device_that_delivers_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "STALL_S", 0.01)
    with pytest.raises(DeviceLost):
        Handoff(MONO, queue_s=1).get()


def test_losses_are_measured_by_the_clock_when_the_driver_tells_of_them() -> None:
    meter = OverflowMeter(sample_rate_hz=1000)
    assert meter.missing(frames=100, overflowed=False, now=10.1) == 0
    assert meter.missing(frames=100, overflowed=True, now=10.5) == 300
    assert meter.missing(frames=100, overflowed=True, now=10.6) == 0


async def test_a_driver_that_hangs_does_not_hang_the_program() -> None:
    release = threading.Event()
    with pytest.raises(DeviceUnusable):
        await in_driver_thread(release.wait, timeout_s=0.05)
    release.set()
    assert await in_driver_thread(lambda: 5, timeout_s=5) == 5


async def test_a_drivers_error_arrives_as_it_is() -> None:
    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await in_driver_thread(fail, timeout_s=5)
    await asyncio.sleep(0)


DEVICES = [
    InputDevice(0, "USB Audio", 1, 48_000, is_default=False),
    InputDevice(3, "USB Microphone", 2, 44_100, is_default=True),
]


@pytest.mark.parametrize(
    ("wanted", "index"), [(None, 3), ("0", 0), ("3", 3), ("USB Audio", 0), ("micro", 3)]
)
def test_devices_are_found_by_number_name_and_part_of_it(wanted: str | None, index: int) -> None:
    assert choose(DEVICES, wanted).index == index


def test_a_card_that_was_plugged_in_again_may_have_another_number() -> None:
    devices = [
        InputDevice(0, "Webcam: Audio (hw:1,0)", 1, 48_000, is_default=True),
        InputDevice(1, "USB Mic: Audio (hw:2,0)", 1, 48_000, is_default=False),
    ]
    assert choose(devices, "USB Mic: Audio (hw:1,0)").index == 1
    with pytest.raises(NoSuchDevice):
        choose(devices[:1], "USB Mic: Audio (hw:1,0)")


@pytest.mark.parametrize("wanted", ["1", "usb", "HDMI"])
def test_a_device_that_is_not_there_lists_those_that_are(wanted: str) -> None:
    with pytest.raises(NoSuchDevice, match="0: USB Audio, 3: USB Microphone"):
        choose(DEVICES, wanted)
