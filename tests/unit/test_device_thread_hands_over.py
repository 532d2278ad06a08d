"""Blocks go from the driver's thread to another: bounded, and every lost sample is counted."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from adapters.capture import handoff
from adapters.capture.handoff import Handoff, OverflowMeter
from domain.errors import DeviceLost
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


def test_blocks_that_wait_when_a_device_is_lost_are_not_delivered() -> None:
    queue = Handoff(MONO, queue_s=10)
    queue.put(block(1))
    assert queue.get() is not None
    queue.put(block(2))
    queue.fail(DeviceLost("moved"))
    queue.put(block(3))
    for _ in range(2):
        with pytest.raises(DeviceLost, match="moved"):
            queue.get()


def test_losses_are_measured_by_the_clock_when_the_driver_tells_of_them() -> None:
    meter = OverflowMeter(sample_rate_hz=1000)
    assert meter.missing(frames=100, overflowed=False, now=10.1) == 0
    assert meter.missing(frames=100, overflowed=True, now=10.5) == 300
    assert meter.missing(frames=100, overflowed=True, now=10.6) == 0
