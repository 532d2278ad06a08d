"""Reconstruction gives every sample a kind and a place, whatever is lost, late or invalid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import PayloadInvalid
from domain.recording.ledger import SampleKind
from domain.recording.reconstruction import Reconstructor, Run
from domain.rtp.order import Lost, Restarted, Slot
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import Recovered
from domain.sound.pieces import Sound

RECEIVED, RECOVERED = SampleKind.RECEIVED, SampleKind.RECOVERED
CONCEALED, SILENCE, DTX = SampleKind.CONCEALED, SampleKind.SILENCE, SampleKind.DTX
_VALUES = {1: {RECEIVED, RECOVERED}, 2: {RECOVERED}, 3: {CONCEALED}}
MAX_GAP = 60 * 48_000


class ExactDecoder:
    """Decodes to ones, recovers to twos, conceals to threes: exactly as long as asked.

    Payloads: ``p`` is plain, ``f`` has FEC for 960 samples, ``x`` cannot be decoded, ``b`` is so
    broken that not even its FEC can be looked at.
    """

    def __init__(self) -> None:
        self._gathered: list[Sound] = []

    def decode(self, payload: bytes) -> int:
        if payload in (b"x", b"b"):
            raise PayloadInvalid("broken")
        return self._gather(960, 1)

    def recoverable(self, payload: bytes) -> int:
        if payload == b"b":
            raise PayloadInvalid("broken")
        return 960 if payload == b"f" else 0

    def recover(self, payload: bytes) -> int:
        assert payload == b"f"
        return self._gather(960, 2)

    def conceal(self, length: int) -> int:
        assert length >= 0
        return self._gather(length, 3) if length else 0

    def collect(self) -> list[Sound]:
        gathered, self._gathered = self._gathered, []
        return gathered

    def _gather(self, length: int, value: int) -> int:
        self._gathered.append(np.full((length, 1), value, dtype="<i2"))
        return length


def reconstructor() -> Reconstructor:
    return Reconstructor(
        ExactDecoder(), clock_rate_hz=48_000, sample_rate_hz=48_000, max_gap_s=MAX_GAP / 48_000
    )


def packet(
    n: int, payload: bytes = b"p", *, at: int | None = None, copy: bool = False
) -> RtpPacket:
    """The `n`th packet of 960 samples; `at` is its timestamp where that is another."""
    made = Recovered if copy else RtpPacket
    timestamp = (n * 960 if at is None else at) % 2**32
    return made(111, n % 2**16, timestamp, 1, payload, arrived=n * 0.02)


def check(runs: Sequence[Run]) -> list[tuple[int, int, SampleKind, SampleKind]]:
    """Place, length and kind of each run, and of the gap before it; its sound is its own."""
    for run in runs:
        assert sum(len(piece) for piece in run.pieces) == run.length
        for piece in run.pieces:
            assert isinstance(piece, np.ndarray)
            (value,) = set(piece[:, 0].tolist())
            assert run.kind in _VALUES[value]
        assert run.arrived <= run.completed
    return [(run.timestamp, run.length, run.kind, run.gap_kind) for run in runs]


_slots = st.one_of(
    st.integers(1, 12).map(Lost),
    st.just(Restarted()),
    st.sampled_from([b"p", b"p", b"f", b"x", b"b", b""]),
)


@given(st.lists(st.lists(st.tuples(_slots, st.booleans()), max_size=6), max_size=8))
def test_runs_follow_one_another_and_each_holds_its_own_sound(
    batches: list[list[tuple[Lost | Restarted | bytes, bool]]],
) -> None:
    made, place, end = reconstructor(), 2**16 - 20, None
    for batch in batches:
        slots: list[Slot] = []
        for what, copy in batch:
            if isinstance(what, Lost):
                place += what.count
            elif isinstance(what, bytes):
                slots.append(packet(place, what, copy=copy))
                place += 1
                continue
            slots.append(what)
        for timestamp, length, _, _ in check(made.process(slots)):
            assert end is None or timestamp >= end
            end = timestamp + length


def test_contiguous_sound_of_one_kind_is_one_run() -> None:
    made = reconstructor()
    runs = made.process(
        [packet(0), packet(1), packet(2, copy=True), packet(3), packet(4), packet(5)]
    )
    assert check(runs) == [
        (0, 1920, RECEIVED, DTX), (1920, 960, RECOVERED, DTX), (2880, 2880, RECEIVED, DTX),
    ]  # fmt: skip
    assert [(run.arrived, run.completed) for run in runs] == [
        (0.0, 0.02), (0.04, 0.04), (pytest.approx(0.06), pytest.approx(0.1)),
    ]  # fmt: skip


def test_a_stream_continues_across_the_wrap_of_its_timestamps() -> None:
    start = 2**32 - 1920
    made = reconstructor()
    runs = made.process([packet(n, at=start + n * 960) for n in range(4)])
    assert check(runs) == [(start, 4 * 960, RECEIVED, DTX)]


@pytest.mark.parametrize("start", [0, 100_000, 2**31 - 1920, 2**32 - 1920, 2**32 - 2880])
def test_fec_before_and_behind_the_wrap_is_put_in_its_place(start: int) -> None:
    made = reconstructor()
    made.process([packet(0, at=start)])
    runs = made.process([Lost(2), packet(3, b"f", at=start + 2880)])
    assert check(runs) == [
        ((start + 960) % 2**32, 960, CONCEALED, SILENCE),
        ((start + 1920) % 2**32, 960, RECOVERED, SILENCE),
        ((start + 2880) % 2**32, 960, RECEIVED, SILENCE),
    ]


def test_after_a_loss_all_is_as_before_it() -> None:
    made = reconstructor()
    made.process([packet(0), Lost(1)])
    assert check(made.process([packet(2), packet(3), packet(10)])) == [
        (960, 960, CONCEALED, SILENCE),
        (2 * 960, 1920, RECEIVED, SILENCE),
        (10 * 960, 960, RECEIVED, DTX),
    ]


@pytest.mark.parametrize("gap", [1, 479, 959])
def test_a_loss_that_is_shorter_than_its_fec_is_concealed(gap: int) -> None:
    made = reconstructor()
    made.process([packet(0)])
    runs = made.process([Lost(1), packet(2, b"f", at=960 + gap)])
    assert [entry[:3] for entry in check(runs)] == [
        (960, gap, CONCEALED), (960 + gap, 960, RECEIVED),
    ]  # fmt: skip


@pytest.mark.parametrize(("more", "concealed"), [(0, 4800), (1, 0)])
def test_a_gap_that_is_too_long_is_left_to_the_timeline(more: int, concealed: int) -> None:
    made = reconstructor()
    made.process([packet(0)])
    runs = made.process([Lost(5), packet(9, at=960 + MAX_GAP + more)])
    assert sum(run.length for run in runs if run.kind is CONCEALED) == concealed
    assert check(runs)[-1][3] is SILENCE


@pytest.mark.parametrize("back", [960, 2**31 - 1920, 2**31 - 960])
def test_timestamps_that_step_back_behind_a_loss_are_not_bridged(back: int) -> None:
    made = reconstructor()
    made.process([packet(0, at=2**31)])
    at = (2**31 + 960 - back) % 2**32
    assert check(made.process([Lost(1), packet(2, b"f", at=at)])) == [(at, 960, RECEIVED, SILENCE)]


def test_nothing_is_guessed_over_a_restart() -> None:
    made = reconstructor()
    made.process([packet(0)])
    assert check(made.process([Restarted(), packet(5, b"f")])) == [(4800, 960, RECEIVED, SILENCE)]
    made.restart()
    assert check(made.process([packet(6)])) == [(5760, 960, RECEIVED, SILENCE)]


def test_concealment_ends_after_100_ms_however_many_packets_are_broken() -> None:
    made = reconstructor()
    made.process([packet(0)])
    runs = made.process([Lost(9), packet(10, b"x"), packet(11, b"x"), packet(12)])
    assert check(runs) == [(960, 4800, CONCEALED, SILENCE), (12 * 960, 960, RECEIVED, SILENCE)]
    assert made.rejected == {"payload": 2}


def test_concealment_continues_after_an_invalid_packet() -> None:
    made = reconstructor()
    made.process([packet(0)])
    runs = made.process([Lost(1), packet(2, b"x"), packet(3)])
    assert check(runs) == [
        (960, 960, CONCEALED, SILENCE),
        (2 * 960, 960, CONCEALED, SILENCE),
        (3 * 960, 960, RECEIVED, SILENCE),
    ]


def test_a_packet_whose_fec_cannot_be_looked_at_is_lost_itself() -> None:
    made = reconstructor()
    made.process([packet(0)])
    assert made.process([Lost(1), packet(2, b"b")]) == []
    assert made.rejected == {"payload": 1}
    assert check(made.process([packet(3, b"f")])) == [
        (960, 960, CONCEALED, SILENCE), (1920, 960, RECOVERED, SILENCE),
        (2880, 960, RECEIVED, SILENCE),
    ]  # fmt: skip


# -- packets without sound -------------------------------------------------------------------------


@pytest.mark.parametrize("later", [1, 2, 960, 40_000, 2**30 + 1, 2**31 - 1])
@pytest.mark.parametrize("start", [0, 2**32 - 960, 2**32 - 961])
def test_an_empty_packet_says_that_time_went_by_in_silence(later: int, start: int) -> None:
    made = reconstructor()
    made.process([packet(0, at=start)])
    end = (start + 960) % 2**32
    at = (end + later) % 2**32
    runs = made.process([packet(1, b"", at=at)])
    assert check(runs) == [(at, 0, SILENCE, SILENCE)]


@pytest.mark.parametrize("earlier", [0, 1, 960, 2**30, 2**31])
def test_an_empty_packet_from_before_the_end_says_nothing(earlier: int) -> None:
    made = reconstructor()
    made.process([packet(0)])
    assert made.process([packet(1, b"", at=960 - earlier)]) == []


def test_sound_behind_an_empty_packet_is_not_guessed_from_sound_before_it() -> None:
    made = reconstructor()
    runs = made.process([packet(0), packet(1, b"", at=9600), packet(2, at=19_200)])
    assert check(runs) == [
        (0, 960, RECEIVED, DTX), (9600, 0, SILENCE, SILENCE), (19_200, 960, RECEIVED, SILENCE),
    ]  # fmt: skip


def test_an_empty_packet_first_says_nothing() -> None:
    made = reconstructor()
    assert made.process([packet(0, b"")]) == []
    assert check(made.process([packet(1)])) == [(960, 960, RECEIVED, SILENCE)]


def test_an_empty_packet_between_sound_begins_another_run() -> None:
    made = reconstructor()
    runs = made.process([packet(0), packet(1, b"", at=960), packet(2, at=1920)])
    assert check(runs) == [
        (0, 960, RECEIVED, DTX), (960, 960, CONCEALED, SILENCE), (1920, 960, RECEIVED, SILENCE),
    ]  # fmt: skip
