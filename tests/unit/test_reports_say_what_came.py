"""Reception reports: loss, its fraction, and jitter (RFC 3550 § 6.4.1, § A.3, § A.8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import pytest

from domain.rtp.counters import signed
from domain.rtp.packets import RtpPacket
from domain.rtp.reports import ReceptionReport, ReceptionStatistics

RATE = 48_000


def packet(sequence: int, *, timestamp: int = 0, arrived: float = 0.0) -> RtpPacket:
    return RtpPacket(111, sequence % 2**16, timestamp % 2**32, 7, b"", arrived=arrived)


def fresh() -> ReceptionStatistics:
    return ReceptionStatistics(7, clock_rate_hz=RATE)


def report(statistics: ReceptionStatistics) -> ReceptionReport:
    made = statistics.report()
    assert made is not None
    return made


def test_nothing_is_said_before_the_first_packet() -> None:
    assert fresh().report() is None
    statistics = fresh()
    statistics.received([packet(5)])
    assert report(statistics) == ReceptionReport(7, 0, 0, 5, 0)


@pytest.mark.parametrize("start", [0, 65_530])
def test_packets_that_come_together_are_counted_from_the_first_one(start: int) -> None:
    statistics = fresh()
    statistics.received([packet(start + n) for n in range(10)])
    assert report(statistics) == ReceptionReport(7, 0, 0, start + 9, 0)


def test_the_fraction_counts_packets_expected_since_the_last_report() -> None:
    statistics = fresh()
    highest = 0
    for lost in (0, 1, 3, 0, 9, 299):
        statistics.received([packet(highest + 1 + lost)] if highest else [packet(1)])
        highest += 1 + lost
        said = report(statistics)
        assert said.fraction_lost == lost * 256 // (1 + lost)
        assert said.highest_sequence == highest
    assert said.packets_lost == 1 + 3 + 9 + 299
    assert said.fraction_lost == 255  # 256 would not fit into eight bits


def test_a_report_without_new_packets_shows_no_loss() -> None:
    statistics = fresh()
    statistics.received([packet(1), packet(3)])
    assert report(statistics).fraction_lost == 85
    assert report(statistics).fraction_lost == 0


def test_duplicates_make_loss_negative_and_its_fraction_zero() -> None:
    statistics = fresh()
    statistics.received([packet(1), packet(2), packet(2), packet(2)])
    assert (report(statistics).packets_lost, report(statistics).fraction_lost) == (-2, 0)
    statistics.received([packet(3), packet(3), packet(3)])
    said = report(statistics)
    assert (said.packets_lost, said.fraction_lost) == (-4, 0)


def test_packets_that_are_overtaken_are_not_lost() -> None:
    statistics = fresh()
    statistics.received([packet(1), packet(4), packet(3), packet(2)])
    said = report(statistics)
    assert (said.packets_lost, said.highest_sequence) == (0, 4)


def test_loss_saturates_at_24_bits() -> None:
    statistics = fresh()
    statistics.received([packet(n * 32_000) for n in range(263)])
    assert report(statistics).packets_lost == 262 * 32_000 + 1 - 263
    statistics.received([packet(n * 32_000) for n in range(263, 300)])
    assert report(statistics).packets_lost == 2**23 - 1


def test_negative_loss_saturates_at_24_bits() -> None:
    statistics = fresh()
    statistics.received(Repeated(packet(1), 2**22 + 500))
    assert report(statistics).packets_lost == 1 - 2**22 - 500
    statistics.received(Repeated(packet(1), 2**23))
    assert report(statistics).packets_lost == -(2**23)


def test_the_highest_sequence_has_32_bits() -> None:
    statistics = fresh()
    statistics.received([packet(n * 32_000) for n in range(100_000)])
    assert report(statistics).highest_sequence == 99_999 * 32_000
    statistics.received([packet(n * 32_000) for n in range(100_000, 140_000)])
    assert report(statistics).highest_sequence == 139_999 * 32_000 % 2**32


@pytest.mark.parametrize(
    "step", [0, 1600, -1600, 2**30, -(2**30), 2**31 - 16, 2**31, -(2**31), 2**31 + 1600, 2**32 - 16]
)
@pytest.mark.parametrize("start", [0, 2**31, 2**32 - 1])
def test_one_step_of_transit_time_counts_a_sixteenth(step: int, start: int) -> None:
    """Timestamps wrap, but the transit time does not: the smaller difference counts."""
    statistics = fresh()
    statistics.received([packet(0, timestamp=start), packet(1, timestamp=start + step)])
    assert report(statistics).jitter == abs(signed(step, bits=32)) // 16


def test_jitter_follows_the_steps_of_transit_time() -> None:
    statistics, jitter = fresh(), 0.0
    arrivals = [0.0, 0.03, 0.04, 0.09, 0.08]
    for n, arrived in enumerate(arrivals):
        statistics.received([packet(n, timestamp=n * 960, arrived=arrived)])
        if n:
            late = (arrived - arrivals[n - 1] - 0.02) * RATE
            jitter += (abs(late) - jitter) / 16
        assert report(statistics).jitter == pytest.approx(jitter, abs=1)
    assert jitter > 100


def test_new_statistics_know_nothing_of_earlier_packets() -> None:
    statistics = fresh()
    statistics.received([packet(1, timestamp=5), packet(9, timestamp=10**6)])
    anew = statistics.begin_anew()
    assert anew.report() is None
    anew.received([packet(70)])
    assert report(anew) == ReceptionReport(7, 0, 0, 70, 0)


class Repeated(Sequence[RtpPacket]):
    """A sequence of identical packets that skips the iteration, to save time."""

    def __init__(self, item: RtpPacket, count: int) -> None:
        self._item, self._count = item, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[RtpPacket]:
        yield self._item

    @overload
    def __getitem__(self, index: int) -> RtpPacket: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[RtpPacket]: ...

    def __getitem__(self, index: int | slice) -> RtpPacket | Sequence[RtpPacket]:
        return self._item
