"""Reordering: every packet once, in order, and no hole that was not one."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import given
from hypothesis import strategies as st

from domain.reorder import MARKED_S, Lost, Received, Recovered, ReorderBuffer, Restarted
from domain.rtp import RtpPacket, Unwrapper


def packet(sequence: int) -> RtpPacket:
    return RtpPacket(111, sequence % 2**16, sequence * 960 % 2**32, 1, b"x")


@given(
    start=st.integers(0, 2**16 - 1),
    count=st.integers(1, 200),
    lost=st.sets(st.integers(1, 198)),
    shuffle=st.integers(0, 10),
    duplicates=st.floats(0, 0.3),
    seed=st.integers(0, 2**32),
)
def test_slots_are_the_stream_with_its_holes(
    start: int, count: int, lost: set[int], shuffle: int, duplicates: float, seed: int
) -> None:
    dice = random.Random(seed)
    arriving = [n for n in range(count) if n not in lost or n == 0]
    # no packet is overtaken by more than `shuffle` others, the first one included
    order = sorted(arriving, key=lambda n: n + dice.uniform(0, shuffle))
    arrivals = [n for n in order for _ in range(2 if dice.random() < duplicates else 1)]

    buffer = ReorderBuffer(hold_s=1000)
    slots = []
    for step, n in enumerate(arrivals):
        slots += buffer.push(packet(start + n), now=step * 0.02)
    slots += buffer.flush()

    place, received = 0, []
    for slot in slots:
        assert isinstance(slot, Lost | Received)
        if isinstance(slot, Lost):
            assert slot.count > 0
            assert all(n not in arriving for n in range(place, place + slot.count))
            place += slot.count
        else:
            assert slot.packet.sequence == (start + place) % 2**16
            received.append(place)
            place += 1
    assert received == arriving
    assert buffer.late == 0
    assert buffer.duplicates == len(arrivals) - len(arriving)


@given(st.lists(st.integers(-20_000, 20_000), max_size=50), st.integers(0, 2**16 - 1))
def test_unwrapping_follows_a_counter_through_its_wraps(steps: list[int], start: int) -> None:
    unwrapper, true = Unwrapper(bits=16), start
    assert unwrapper.unwrap(start) == start
    for step in steps:
        true += step
        assert unwrapper.unwrap(true % 2**16) == true


def started(hold_s: float = 0.2) -> ReorderBuffer:
    """A buffer behind its start: packet 0 went through, packet 1 is next."""
    buffer = ReorderBuffer(hold_s=hold_s)
    assert buffer.push(packet(0), now=-1.0) == []
    assert buffer.poll(now=0.0) == [Received(packet(0), -1.0)]
    return buffer


def test_the_first_packet_waits_for_one_that_should_have_been_before_it() -> None:
    buffer = ReorderBuffer(hold_s=0.2)
    assert buffer.push(packet(5), now=0.0) == []
    assert buffer.push(packet(4), now=0.1) == []
    assert buffer.poll(now=0.19) == []
    assert buffer.poll(now=0.2) == [Received(packet(4), 0.1), Received(packet(5), 0.0)]
    assert buffer.push(packet(6), now=0.21) == [Received(packet(6), 0.21)]


def test_a_first_packet_with_the_marker_waits_a_moment_only() -> None:
    buffer = ReorderBuffer(hold_s=0.2)
    marked = [dataclasses.replace(packet(n), marker=True) for n in (5, 4)]
    assert buffer.push(marked[0], now=0.0) == []
    assert buffer.push(marked[1], now=0.01) == []
    assert buffer.push(packet(6), now=MARKED_S) == [
        Received(marked[1], 0.01),
        Received(marked[0], 0.0),
        Received(packet(6), MARKED_S),
    ]
    assert buffer.push(packet(8), now=0.06) == []
    assert buffer.poll(now=0.25) == []
    assert buffer.poll(now=0.26) == [Lost(1), Received(packet(8), 0.06)]


def test_a_hole_is_given_up_when_the_packet_behind_it_has_waited() -> None:
    buffer = started()
    assert buffer.push(packet(2), now=0.02) == []
    assert buffer.poll(now=0.21) == []
    assert buffer.poll(now=0.22) == [Lost(1), Received(packet(2), 0.02)]
    assert buffer.push(packet(1), now=0.24) == []
    assert (buffer.late, buffer.duplicates) == (1, 0)
    assert buffer.push(packet(2), now=0.24) == []
    assert (buffer.late, buffer.duplicates) == (1, 1)


def test_a_copy_stands_in_for_a_packet_only_when_that_is_given_up() -> None:
    buffer = started()
    assert buffer.push(packet(4), now=0.02, copies=[packet(2), packet(3)]) == []
    assert buffer.push(packet(3), now=0.04) == []
    assert buffer.poll(now=0.3) == [
        Lost(1),
        Recovered(packet(2), 0.04),
        Received(packet(3), 0.04),
        Received(packet(4), 0.02),
    ]


def test_one_stray_packet_derails_nothing_and_a_restart_loses_nothing() -> None:
    buffer = started()
    stray = RtpPacket(111, 30_000, 123, 1, b"y")
    other = [RtpPacket(111, 40_000 + n, 77 + n * 960, 1, b"z") for n in range(2)]
    assert buffer.push(stray, now=0.02) == []
    assert buffer.push(packet(1), now=0.04) == [Received(packet(1), 0.04)]
    assert buffer.strays == 1
    assert buffer.push(other[0], now=0.06) == []
    assert buffer.push(other[1], now=0.08) == [
        Restarted(),
        Received(other[0], 0.06),
        Received(other[1], 0.08),
    ]


def test_packets_that_come_very_late_together_are_late_and_no_restart() -> None:
    buffer = started()
    for n in range(1, 200):
        buffer.push(packet(n), now=n * 0.02)
    for n in range(20, 30):
        assert buffer.push(packet(n), now=4.0) == []
    assert buffer.duplicates == 10
    assert buffer.push(packet(200), now=4.02) == [Received(packet(200), 4.02)]


def test_an_outage_of_any_length_is_loss_when_the_timestamps_say_so() -> None:
    buffer = started()
    for n in range(1, 10):
        buffer.push(packet(n), now=n * 0.02)
    assert buffer.push(packet(8000), now=160.0) == []
    assert buffer.poll(now=160.3) == [Lost(7990), Received(packet(8000), 160.0)]


def test_a_restart_is_believed_even_when_packets_between_are_lost() -> None:
    buffer = started()
    foreign = [RtpPacket(111, 30_000 + n, 5 + n * 960, 1, b"y") for n in (0, 2, 3)]
    assert buffer.push(foreign[0], now=0.1) == []
    assert buffer.push(foreign[1], now=0.12) == [Restarted(), Received(foreign[0], 0.1)]
    assert buffer.push(foreign[2], now=0.14) == []
    assert buffer.poll(now=0.4) == [
        Lost(1),
        Received(foreign[1], 0.12),
        Received(foreign[2], 0.14),
    ]
