"""Packets that wait behind a hole cost as much as any others, however many they are."""

from __future__ import annotations

import time

import pytest

from domain.rtp.order import Lost, ReorderBuffer, Slot
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import Recovered


def packet(n: int, *, arrived: float = 0.0, copies: tuple[RtpPacket, ...] = ()) -> RtpPacket:
    return RtpPacket(111, n % 2**16, n * 960 % 2**32, 1, b"x", arrived=arrived, copies=copies)


def copy_of(n: int, *, arrived: float) -> Recovered:
    return Recovered(111, n % 2**16, n * 960 % 2**32, 1, b"copy", arrived=arrived)


def begun(*, hold_s: float = 1.0) -> ReorderBuffer:
    """A buffer that has received two packets: it knows how long they are."""
    buffer = ReorderBuffer(hold_s=hold_s)
    buffer.push(packet(-1, arrived=-5.0))
    buffer.push(packet(0, arrived=-5.0))
    assert len(buffer.poll(now=0.0)) == 2
    return buffer


def cost_s(count: int, *, step: int) -> float:
    """The time for packets behind a hole that all come at once, and for giving up their holes."""
    buffer, began, slots = begun(), time.thread_time(), 0
    for n in range(count):
        at = 2 + n * step
        slots += len(buffer.push(packet(at, copies=(copy_of(at - 1, arrived=0.0),))))
    slots += len(buffer.poll(now=2.0))
    assert slots >= count
    return time.thread_time() - began


@pytest.mark.parametrize("step", [1, 2], ids=["behind one hole", "behind a hole each"])
def test_the_cost_of_a_packet_does_not_depend_on_how_many_wait(step: int) -> None:
    few = min(cost_s(1000, step=step) for _ in range(5))
    many = min(cost_s(12_000, step=step) for _ in range(2))
    assert many / 12_000 < 4 * few / 1000


def test_a_copy_has_the_time_of_the_packet_behind_it() -> None:
    """It may come with a later packet: time must not step back then."""
    buffer = begun()
    buffer.push(packet(2, arrived=1.0))
    buffer.push(packet(3, arrived=1.5, copies=(copy_of(1, arrived=1.5),)))
    slots: list[Slot] = buffer.poll(now=2.1)
    assert slots == [
        copy_of(1, arrived=1.0),
        packet(2, arrived=1.0),
        packet(3, arrived=1.5, copies=(copy_of(1, arrived=1.5),)),
    ]


def test_the_losses_of_a_long_outage_are_counted_one_by_one() -> None:
    buffer = begun(hold_s=0.5)
    buffer.push(packet(1))
    assert not buffer.has_hole
    far = packet(20_002, arrived=400.0, copies=(copy_of(20_001, arrived=400.0),))
    assert buffer.push(far) == []
    (lost, copy, last) = buffer.poll(now=401.0)
    assert lost == Lost(19_999)
    assert copy == copy_of(20_001, arrived=400.0)
    assert last is far
