"""Wanted sound is divided into pieces: all of it, little more, and in few requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.ports.spool import MAX_PIECE_SAMPLES
from domain.recording.ranges import Range, RangeSet
from domain.services.client.pieces import MAX_PIECE_BYTES, PiecePlan
from domain.sound.formats import AudioFormat, SampleFormat

MONO = AudioFormat(48_000, 1)
RATE = 48_000
EVERYTHING = RangeSet([Range(0, 3600 * RATE)])

ranges = st.lists(st.builds(Range, st.integers(0, 3_000_000), st.integers(1, 600_000)), max_size=20)


@given(wanted=ranges, captured=ranges, round_trip_s=st.floats(0, 2), seconds=st.floats(0, 5))
def test_everything_is_sent_that_is_wanted_and_was_captured(
    wanted: list[Range], captured: list[Range], round_trip_s: float, seconds: float
) -> None:
    plan, there = PiecePlan(MONO), RangeSet(captured)
    plan.answered(round_trip_s)
    plan.sent(48_000, 50_000, seconds)
    pieces = list(plan.pieces(wanted, there))
    assert pieces == sorted(pieces)
    assert sum(piece.length for piece in pieces) == RangeSet(pieces).total  # nothing twice
    assert all(0 < piece.length <= MAX_PIECE_SAMPLES for piece in pieces)
    assert all(there.covers(piece.start, piece.end) for piece in pieces)
    lacking = RangeSet(part for item in wanted for part in there.within(item.start, item.end))
    assert not len(lacking.minus(RangeSet(pieces)))


def pieces_for_gap(plan: PiecePlan, gap_s: float) -> int:
    wanted = [Range(0, 960), Range(960 + round(gap_s * RATE), 960)]
    return len(list(plan.pieces(wanted, EVERYTHING)))


def test_ranges_are_sent_as_one_if_that_takes_no_longer() -> None:
    slow, fast = PiecePlan(MONO), PiecePlan(MONO)
    for plan, speed in ((slow, 2_000), (fast, 300_000)):
        plan.answered(0.3)
        for _ in range(50):
            plan.sent(RATE, 50_000, 0.3 + 50_000 / speed)
    assert pieces_for_gap(slow, 0.01) == 1  # another request costs more bytes
    assert pieces_for_gap(slow, 0.05) == 2
    assert pieces_for_gap(fast, 0.4) == 1
    assert pieces_for_gap(fast, 2.0) == 2


def test_a_piece_takes_seconds() -> None:
    plan = PiecePlan(MONO)
    for _ in range(50):
        plan.sent(RATE, 50_000, 0.5)  # 100 kB/s
    assert 5.5 * RATE < plan.size < 6.5 * RATE
    plan.limit = 5_000
    assert plan.size < 0.4 * RATE
    plan.limit = None
    before = plan.size
    plan.failed()
    assert plan.size < 0.6 * before


def test_a_piece_is_limited_in_samples_and_bytes() -> None:
    wide = AudioFormat(96_000, 8, SampleFormat.S24)
    for audio_format in (AudioFormat(8_000, 1), wide):
        plan = PiecePlan(audio_format)
        for _ in range(50):
            plan.sent(100_000, 100_000, 0.001)
        most = max(piece.length for piece in plan.pieces(EVERYTHING, EVERYTHING))
        assert most == min(MAX_PIECE_SAMPLES, MAX_PIECE_BYTES // audio_format.bytes_per_frame)


def test_bytes_that_are_held_back_say_nothing_of_the_speed() -> None:
    plan = PiecePlan(MONO)
    before = plan.size
    plan.sent(RATE, RATE, None)
    assert plan.size == before
