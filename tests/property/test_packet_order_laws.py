"""Reordering passes every packet once and in order, and reports only real holes."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import given
from hypothesis import strategies as st

from domain.rtp.counters import Unwrapper
from domain.rtp.order import MARKED_S, START_S, Lost, ReorderBuffer, Restarted
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import Recovered


def packet(sequence: int, arrived: float) -> RtpPacket:
    return RtpPacket(111, sequence % 2**16, sequence * 960 % 2**32, 1, b"x", arrived=arrived)


def copy(sequence: int, arrived: float) -> Recovered:
    return Recovered(111, sequence % 2**16, sequence * 960 % 2**32, 1, b"x", arrived=arrived)


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
    # at most `shuffle` packets overtake any packet, including the first one
    order = sorted(arriving, key=lambda n: n + dice.uniform(0, shuffle))
    arrivals = [n for n in order for _ in range(2 if dice.random() < duplicates else 1)]

    buffer = ReorderBuffer(hold_s=1000, start_s=1000)
    slots = []
    for step, n in enumerate(arrivals):
        slots += buffer.push(packet(start + n, step * 0.02))
    slots += buffer.flush()

    place, received = 0, []
    for slot in slots:
        assert isinstance(slot, Lost | RtpPacket)
        if isinstance(slot, Lost):
            assert slot.count > 0
            assert all(n not in arriving for n in range(place, place + slot.count))
            place += slot.count
        else:
            assert slot.sequence == (start + place) % 2**16
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
    """A buffer after its start: packet 0 has passed, packet 1 is next."""
    buffer = ReorderBuffer(hold_s=hold_s)
    assert buffer.push(packet(0, -1.0)) == []
    assert buffer.poll(now=0.0) == [packet(0, -1.0)]
    return buffer


def test_the_first_packet_waits_for_one_that_should_have_been_before_it() -> None:
    buffer = ReorderBuffer(hold_s=0.2)
    assert buffer.push(packet(5, 0.0)) == []
    assert buffer.push(packet(4, 0.1)) == []
    assert buffer.poll(now=0.11) == []
    assert buffer.poll(now=START_S) == [packet(4, 0.1), packet(5, 0.0)]
    assert buffer.push(packet(6, 0.21)) == [packet(6, 0.21)]


def test_a_first_packet_with_the_marker_waits_a_moment_only() -> None:
    buffer = ReorderBuffer(hold_s=0.2)
    marked = [dataclasses.replace(packet(n, at), marker=True) for n, at in ((5, 0.0), (4, 0.01))]
    assert buffer.push(marked[0]) == []
    assert buffer.push(marked[1]) == []
    assert buffer.push(packet(6, MARKED_S)) == [
        marked[1],
        marked[0],
        packet(6, MARKED_S),
    ]
    assert buffer.push(packet(8, 0.06)) == []
    assert buffer.poll(now=0.25) == []
    assert buffer.poll(now=0.26) == [Lost(1), packet(8, 0.06)]


def test_a_hole_is_given_up_when_the_packet_behind_it_has_waited() -> None:
    buffer = started()
    assert buffer.push(packet(2, 0.02)) == []
    assert buffer.poll(now=0.21) == []
    assert buffer.poll(now=0.22) == [Lost(1), packet(2, 0.02)]
    assert buffer.push(packet(1, 0.24)) == []
    assert (buffer.late, buffer.duplicates) == (1, 0)
    assert buffer.push(packet(2, 0.24)) == []
    assert (buffer.late, buffer.duplicates) == (1, 1)


def test_a_copy_replaces_a_packet_only_after_it_was_given_up() -> None:
    buffer = started()
    carrier = dataclasses.replace(packet(4, 0.02), copies=[copy(2, 0.02), copy(3, 0.02)])
    assert buffer.push(carrier) == []
    assert buffer.push(packet(3, 0.04)) == []
    assert buffer.poll(now=0.3) == [
        Lost(1),
        copy(2, 0.02),
        packet(3, 0.04),
        carrier,
    ]


def test_one_stray_packet_derails_nothing_and_a_restart_loses_nothing() -> None:
    buffer = started()
    stray = RtpPacket(111, 30_000, 123, 1, b"y", arrived=0.02)
    other = [
        RtpPacket(111, 40_000 + n, 77 + n * 960, 1, b"z", arrived=0.06 + n * 0.02) for n in range(2)
    ]
    assert buffer.push(stray) == []
    assert buffer.push(packet(1, 0.04)) == [packet(1, 0.04)]
    assert buffer.strays == 1
    assert buffer.push(other[0]) == []
    assert buffer.push(other[1]) == [
        Restarted(),
        other[0],
        other[1],
    ]


def test_packets_that_come_very_late_together_are_late_and_no_restart() -> None:
    buffer = started()
    for n in range(1, 200):
        buffer.push(packet(n, n * 0.02))
    for n in range(20, 30):
        assert buffer.push(packet(n, 4.0)) == []
    assert buffer.duplicates == 10
    assert buffer.push(packet(200, 4.02)) == [packet(200, 4.02)]


def test_an_outage_of_any_length_is_loss_when_the_timestamps_say_so() -> None:
    buffer = started()
    for n in range(1, 10):
        buffer.push(packet(n, n * 0.02))
    assert buffer.push(packet(8000, 160.0)) == []
    assert buffer.poll(now=160.3) == [Lost(7990), packet(8000, 160.0)]


def test_a_restart_is_believed_even_when_packets_between_are_lost() -> None:
    buffer = started()
    foreign = [
        RtpPacket(111, 30_000 + n, 5 + n * 960, 1, b"y", arrived=at)
        for n, at in ((0, 0.1), (2, 0.12), (3, 0.14))
    ]
    assert buffer.push(foreign[0]) == []
    assert buffer.push(foreign[1]) == [Restarted(), foreign[0]]
    assert buffer.push(foreign[2]) == []
    assert buffer.poll(now=0.4) == [
        Lost(1),
        foreign[1],
        foreign[2],
    ]
