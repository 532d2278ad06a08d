"""A jump of the sequence is an outage of the same stream, a restarted sender, or a stray packet.

The limits are those of RFC 3550 § A.1: 3000 packets ahead, 100 behind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace

import pytest

from domain.rtp.counters import signed
from domain.rtp.order import Lost, ReorderBuffer, Restarted, Slot
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import Recovered

HOLD_S = 0.2
FAR = 8000


class Stream:
    """A sender, and the buffer that receives its packets."""

    def __init__(
        self, *, sequence: int = 0, timestamp: int = 12_345, ticks: int = 960, passed: int = 10
    ) -> None:
        self.sequence, self.timestamp, self.ticks = sequence, timestamp, ticks
        self.buffer = ReorderBuffer(hold_s=HOLD_S)
        self.push(0, at=-1.0)
        self.buffer.poll(now=0.0)  # no packet precedes the first
        for n in range(1, passed):
            assert self.push(n) == [self.packet(n)]

    def packet(self, n: int, *, at: float = 0.0, timestamp: int | None = None) -> RtpPacket:
        """Make the `n`th packet; `timestamp` is relative to the first packet's."""
        ticks = n * self.ticks if timestamp is None else timestamp
        timestamp = (self.timestamp + ticks) % 2**32
        return RtpPacket(111, (self.sequence + n) % 2**16, timestamp, 1, b"x", arrived=at)

    def push(self, n: int, *, at: float = 0.0, timestamp: int | None = None) -> list[Slot]:
        return self.buffer.push(self.packet(n, at=at, timestamp=timestamp))

    def is_believed(self, n: int, *, timestamp: int | None = None) -> bool:
        """Whether a packet far away is accepted as part of the same stream."""
        packet = self.packet(n, timestamp=timestamp)
        assert self.buffer.push(packet) == []
        return self.buffer.suspect is not packet


def foreign(numbers: Iterable[int], *, timestamp: int = 777) -> list[RtpPacket]:
    """Make packets of a restarted sender with an unrelated clock."""
    return [RtpPacket(111, n % 2**16, (timestamp + n) % 2**32, 1, b"y") for n in numbers]


def push_all(buffer: ReorderBuffer, packets: Iterable[RtpPacket]) -> list[Slot]:
    return [slot for packet in packets for slot in buffer.push(packet)]


# -- how far a jump may be -------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 65_000], ids=["plain", "wrapping"])
def test_three_thousand_packets_ahead_are_a_loss_and_one_more_is_not_believed(start: int) -> None:
    near, far = foreign([start + 10 + 3000, start + 10 + 3001])
    stream = Stream(sequence=start)
    assert stream.buffer.push(near) == []
    assert stream.buffer.suspect is None
    assert stream.buffer.flush() == [Lost(3000), near]
    stream = Stream(sequence=start)
    assert stream.buffer.push(far) == []
    assert stream.buffer.suspect is far


@pytest.mark.parametrize("start", [0, 1000], ids=["wrapping", "plain"])
def test_a_hundred_packets_behind_are_late_and_one_more_is_not_believed(start: int) -> None:
    near, far = foreign([start + 10 - 100, start + 10 - 101])
    stream = Stream(sequence=start)
    stream.buffer.push(near)
    assert (stream.buffer.suspect, stream.buffer.duplicates) == (None, 1)
    stream.buffer.push(far)
    assert stream.buffer.suspect is far


def test_a_hundred_packets_before_the_first_that_came_may_still_be_the_first() -> None:
    first, before, too_early = (
        RtpPacket(111, n, n * 960, 1, b"x", arrived=0.0) for n in (500, 400, 399)
    )
    buffer = ReorderBuffer(hold_s=HOLD_S)
    assert buffer.push(first) == []
    assert buffer.push(before) == [before]  # no packet can precede this one
    assert buffer.push(too_early) == []
    assert (buffer.duplicates, buffer.late, buffer.suspect) == (1, 0, None)
    assert buffer.flush() == [Lost(99), first]


def test_a_marked_first_packet_waits_for_35_ms() -> None:
    for hold_s, waits_s in ((HOLD_S, 0.035), (0.01, 0.01)):
        buffer = ReorderBuffer(hold_s=hold_s)
        marked = replace(Stream().packet(0), marker=True)
        assert buffer.push(marked) == []
        assert buffer.poll(now=waits_s - 0.001) == []
        assert buffer.poll(now=waits_s + 0.001) == [marked]


# -- what passes at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 65_526], ids=["plain", "wrapping"])
def test_only_the_next_packet_passes_at_once(start: int) -> None:
    stream = Stream(sequence=start)
    for n in (9, 11, 10 + 2**8, 10 + 2**14, 10 + 2**15):
        assert not stream.buffer.pass_in_order(stream.packet(n))
    assert stream.buffer.pass_in_order(stream.packet(10))
    assert not stream.buffer.pass_in_order(stream.packet(10))
    assert stream.buffer.pass_in_order(stream.packet(11))
    stream.push(13)
    assert not stream.buffer.pass_in_order(stream.packet(12))  # another packet waits behind it


@pytest.mark.parametrize("start", [0, 65_526, 65_525], ids=["plain", "wrapping", "at the wrap"])
def test_a_packet_that_fills_a_hole_releases_the_packets_behind_it(start: int) -> None:
    stream = Stream(sequence=start)
    assert stream.push(12) == []
    assert stream.push(11) == []
    assert stream.push(10) == [stream.packet(n) for n in (10, 11, 12)]


# -- an outage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [3001, FAR, 20_000, 32_000, -500])
@pytest.mark.parametrize("start", [0, 65_535 - 9, 30_000])
@pytest.mark.parametrize("timestamp", [0, 2**32 - 9 * 960, 2**32 - FAR * 960])
@pytest.mark.parametrize("ticks", [1, 120, 960, 9600])
def test_a_jump_whose_timestamp_jumps_as_far_is_the_same_stream(
    jump: int, start: int, timestamp: int, ticks: int
) -> None:
    stream = Stream(sequence=start, timestamp=timestamp, ticks=ticks)
    assert stream.is_believed(9 + jump)
    if jump > 0:
        assert stream.buffer.flush() == [Lost(jump - 1), stream.packet(9 + jump)]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_timestamp_may_be_off_by_half_of_the_jump(sign: int) -> None:
    """A sender that pauses sends fewer packets than the time would allow."""
    off = FAR * 960 // 2
    fits = (9 + FAR) * 960
    assert Stream().is_believed(9 + FAR, timestamp=fits + sign * off)
    assert not Stream().is_believed(9 + FAR, timestamp=fits + sign * (off + 1))
    assert not Stream().is_believed(9 + FAR, timestamp=fits + sign * 2**31)


def test_two_packets_tell_how_long_packets_are() -> None:
    assert Stream(passed=2).is_believed(1 + FAR)
    assert Stream(passed=2, sequence=65_535).is_believed(1 + FAR)
    assert Stream(passed=2, timestamp=2**32 - 960).is_believed(1 + FAR)


@pytest.mark.parametrize("timestamp", [0, 1 + FAR, 960 * (1 + FAR)])
def test_one_packet_does_not_tell_how_long_packets_are(timestamp: int) -> None:
    assert not Stream(passed=1).is_believed(FAR, timestamp=timestamp)


def test_packets_that_had_to_wait_tell_it_as_well() -> None:
    stream = Stream(passed=1)
    for n in range(1, 11, 2):
        stream.push(n + 1)
        stream.push(n)
    assert stream.is_believed(10 + FAR)


def test_a_jump_is_measured_from_the_latest_packet() -> None:
    stream = Stream(passed=40_000)
    assert stream.is_believed(40_000 + FAR)


@pytest.mark.parametrize("pause", [0, 9601, 2**16 + 480, 2**31 + 480])
def test_a_pause_does_not_change_how_long_packets_are(pause: int) -> None:
    stream = Stream()
    at = 9 * 960 + pause
    stream.push(10, timestamp=at)
    assert stream.is_believed(10 + FAR, timestamp=at + FAR * 960)


@pytest.mark.parametrize(("ticks", "lost"), [(960, 3), (20, 256)])
def test_a_loss_does_not_change_how_long_packets_are(ticks: int, lost: int) -> None:
    stream = Stream(ticks=ticks)
    stream.push(10 + lost)
    stream.buffer.poll(now=1.0)
    assert stream.is_believed(10 + lost + FAR)


def test_steps_of_more_than_200_ms_are_pauses() -> None:
    assert Stream(ticks=9600).is_believed(9 + FAR)
    assert not Stream(ticks=9601).is_believed(9 + FAR)


# -- strays and restarts ---------------------------------------------------------------------------


@pytest.mark.parametrize("start", [30_000, 65_535, 65_436])
@pytest.mark.parametrize("distance", [1, 50, 100])
def test_a_second_packet_within_a_hundred_confirms_a_restart(start: int, distance: int) -> None:
    stream = Stream(sequence=10_000)
    first, second, third = foreign([start, start + distance, start + distance + 1])
    assert stream.buffer.push(first) == []
    slots = [*stream.buffer.push(second), *stream.buffer.flush()]
    lost = [Lost(distance - 1)] if distance > 1 else []
    assert slots == [Restarted(), first, *lost, second]
    assert stream.buffer.push(third) == [third]
    assert (stream.buffer.strays, stream.buffer.suspect) == (0, None)


@pytest.mark.parametrize("distance", [101, 257, 2**15 + 1, -1])
def test_packets_that_do_not_follow_each_other_are_strays(distance: int) -> None:
    stream = Stream()
    first, second = foreign([20_000, 20_000 + distance])
    assert push_all(stream.buffer, [first, second]) == []
    assert stream.buffer.strays == 1
    assert stream.push(10) == [stream.packet(10)]
    assert stream.push(11) == [stream.packet(11)]
    assert (stream.buffer.strays, stream.buffer.suspect) == (2, None)


def test_a_stray_that_comes_twice_confirms_nothing() -> None:
    stream = Stream()
    assert push_all(stream.buffer, foreign([20_000, 20_000])) == []
    assert stream.push(10) == [stream.packet(10)]


def test_packet_length_is_measured_again_after_a_restart() -> None:
    for timestamp in (777 + 20_002, 777 + 20_002 + FAR, 777 + 20_002 + FAR * 960):
        stream = Stream()
        push_all(stream.buffer, foreign([20_000, 20_002]))
        stream.buffer.flush()
        far = RtpPacket(111, 20_002 + FAR, timestamp, 1, b"y")
        assert stream.buffer.push(far) == []
        assert stream.buffer.suspect is far


def test_losses_before_a_restart_are_forgotten() -> None:
    stream = Stream(sequence=30_000)
    for n in range(11, 300):
        stream.push(n)
    stream.buffer.poll(now=1.0)  # 30_010 is lost
    again = foreign([30_009, 30_010, 30_010], timestamp=2**31)
    assert stream.buffer.push(again[0]) == []
    assert stream.buffer.push(again[1]) == [Restarted(), *again[:2]]
    assert stream.buffer.push(again[2]) == []
    assert (stream.buffer.late, stream.buffer.duplicates) == (0, 1)


# -- what comes late -------------------------------------------------------------------------------


def test_a_packet_is_late_once_and_a_duplicate_after_that() -> None:
    stream = Stream()
    stream.push(12)
    stream.buffer.poll(now=1.0)
    for _ in range(3):
        assert stream.push(10) == []
    assert (stream.buffer.late, stream.buffer.duplicates) == (1, 2)


def test_a_thousand_losses_are_remembered() -> None:
    stream = Stream()
    stream.push(10 + 1001)
    stream.buffer.poll(now=1.0)
    stream.push(10)
    assert (stream.buffer.late, stream.buffer.duplicates) == (0, 1)
    stream.push(11)
    assert (stream.buffer.late, stream.buffer.duplicates) == (1, 1)


# -- copies ----------------------------------------------------------------------------------------


def copy_of(packet: RtpPacket) -> Recovered:
    return Recovered(
        packet.payload_type, packet.sequence, packet.timestamp, packet.ssrc, packet.payload
    )


@pytest.mark.parametrize("start", [0, 65_520, 65_530, 65_535], ids=str)
@pytest.mark.parametrize("lost", [1, 2, 300, 20_000])
def test_a_copy_fills_the_hole_of_its_packet(start: int, lost: int) -> None:
    stream = Stream(sequence=start)
    copy = copy_of(stream.packet(9 + lost))
    carrier = replace(stream.packet(10 + lost), copies=[copy])
    assert stream.buffer.push(carrier) == []
    missing = [Lost(lost - 1)] if lost > 1 else []
    assert stream.buffer.poll(now=HOLD_S) == [*missing, copy, carrier]


def test_copies_of_received_packets_are_dropped() -> None:
    stream = Stream()
    copies = [copy_of(stream.packet(n)) for n in (10, 11)]
    carrier = replace(stream.packet(12), copies=copies)
    held = [sys.getrefcount(copy) for copy in copies]
    stream.buffer.push(carrier)
    assert stream.push(10) == [stream.packet(10)]
    assert stream.push(11) == [stream.packet(11), carrier]
    assert [sys.getrefcount(copy) for copy in copies] == held


# -- counters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_a_difference_is_the_smaller_one_modulo_the_wrap(bits: int) -> None:
    half = 2 ** (bits - 1)
    for difference in (0, 1, -1, half - 1, half, -half, half + 1, 3 * half, half // 2, -half // 2):
        short = signed(difference, bits=bits)
        assert -half <= short < half
        assert (short - difference) % 2**bits == 0
