"""Captured sound is sent beside a live stream at its own cost, not at that of the stream."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from domain.ports.media import PathReport
from domain.ports.restoring import PACED_BYTES
from domain.services.client.pacing import (
    FIRST_RATE,
    FRESH_S,
    HIGHEST_RATE,
    LISTENING_S,
    LOWEST_RATE,
    PathPacer,
)

ONE_WAY_S = 0.02
TICK_S = 0.001
SEGMENT_HEADERS = 52
"""IP and TCP."""
REQUEST_BYTES = 600
REPORT_BYTES = 110


@dataclass
class Path:
    """A bottleneck with a queue, a live stream through it, and captured sound beside that.

    Sizes in bytes, with all headers; `capacity` in bytes per second.
    """

    capacity: float
    live_bytes: int
    queue_bytes: int = 16_000
    loss: float = 0.0
    """Of a radio behind the bottleneck."""
    jitter_s: float = 0.0
    seed: int = 1
    is_used: bool = True
    delays: list[float] = field(default_factory=list)
    dropped: int = 0
    """Live packets that met a full queue."""
    sent: int = 0
    """Bytes of captured sound."""
    carried: int = 0
    """The same with requests and headers."""

    def run(self, seconds: float) -> PathPacer:
        chance, pacer = random.Random(self.seed), PathPacer()
        live_at, sender_at, receiver_at = (chance.random() * s for s in (0.02, 0.5, 0.5))
        free_at = piece = 0.0
        arriving: list[tuple[float, float]] = []  # sender reports: (arrival, sent)
        coming: list[tuple[float, PathReport]] = []
        latest = answered = (-1.0, -1.0)
        expected = lost = 0

        def queue(size: int, now: float) -> float | None:
            nonlocal free_at
            if (max(free_at, now) - now) * self.capacity + size > self.queue_bytes:
                return None
            free_at = max(free_at, now) + size / self.capacity
            return free_at

        for tick in range(round(seconds / TICK_S)):
            now = tick * TICK_S
            if now >= live_at:
                live_at += 0.02
                expected += 1
                through = queue(self.live_bytes, now)
                if through is None:
                    self.dropped += 1
                else:
                    self.delays.append(through - now)
                lost += through is None or chance.random() < self.loss
            if now >= sender_at:
                sender_at += 0.5
                through = queue(REPORT_BYTES, now)
                if through is not None and chance.random() >= self.loss:
                    arriving.append((through + ONE_WAY_S + chance.random() * self.jitter_s, now))
            latest = max([latest, *(item for item in arriving if item[0] <= now)])
            arriving = [item for item in arriving if item[0] > now]
            if now >= receiver_at:
                receiver_at += 0.5
                round_trip_s = latest[0] - latest[1] + ONE_WAY_S if latest != answered else None
                answered = latest
                report = PathReport(round_trip_s, lost / max(1, expected), now + ONE_WAY_S)
                coming.append((now + ONE_WAY_S, report))
                expected = lost = 0
            while coming and coming[0][0] <= now:
                pacer.reported(coming.pop(0)[1])
            while self.is_used and pacer.wait_s(now) <= 0:
                if piece <= 0:  # another request begins
                    piece = 4 * pacer.rate
                    pacer.granted(REQUEST_BYTES, now)
                    queue(REQUEST_BYTES, now)
                    self.carried += REQUEST_BYTES
                else:
                    piece -= PACED_BYTES
                    pacer.granted(PACED_BYTES, now)
                    queue(PACED_BYTES + SEGMENT_HEADERS, now)
                    self.sent += PACED_BYTES
                    self.carried += PACED_BYTES + SEGMENT_HEADERS
        return pacer


SLOW = 8_000.0
"""64 kbit/s."""
OPUS_32K = 80 + 50
"""20 ms at 32 kbit/s, with the headers of RTP, SRTP, UDP and IP: 52 kbit/s on the path."""


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("live_bytes", [80, OPUS_32K])
def test_at_64_kbit_s_live_packets_lose_nothing_and_half_of_the_rest_is_used(
    live_bytes: int, seed: int
) -> None:
    path = Path(SLOW, live_bytes, seed=seed)
    path.run(120)
    delays = sorted(path.delays)
    spare = SLOW - live_bytes * 50 - REPORT_BYTES * 2
    assert path.dropped == 0
    assert delays[len(delays) * 99 // 100] < 0.15
    assert delays[-1] < 0.25
    assert path.carried / 120 > 0.5 * spare


def test_live_packets_lose_nothing_where_the_queue_is_short() -> None:
    """A queue of 64 ms at 1 Mbit/s: the delay shows what comes before packets are dropped."""
    path = Path(125_000, OPUS_32K, queue_bytes=8_000)
    path.run(120)
    assert path.dropped <= 0.001 * len(path.delays)
    assert path.sent / 120 > 40_000


@pytest.mark.parametrize("loss", [0.02, 0.05, 0.2])
def test_a_radio_that_loses_packets_anyway_is_used(loss: float) -> None:
    path = Path(125_000, OPUS_32K, loss=loss)
    path.run(180)
    assert path.sent / 180 > 10_000
    assert path.dropped <= 0.001 * len(path.delays)


def test_a_radio_that_delays_packets_anyway_is_used() -> None:
    path = Path(125_000, OPUS_32K, jitter_s=0.03)
    path.run(120)
    assert path.sent / 120 > 20_000


def test_a_fast_path_is_used_up_to_a_limit() -> None:
    path = Path(10e6, OPUS_32K)
    assert path.run(120).rate == HIGHEST_RATE


def test_a_path_that_is_not_used_does_not_get_faster() -> None:
    assert Path(10e6, OPUS_32K, is_used=False).run(20).rate == FIRST_RATE


def report(at: float, *, round_trip_s: float | None = 0.05, lost: float = 0.0) -> PathReport:
    return PathReport(round_trip_s, lost, at)


def listened(*, lost: float = 0.0) -> tuple[PathPacer, float]:
    """Return a pacer after its first pause, and the time."""
    pacer, now = PathPacer(), 100.0
    pacer.reported(report(now, lost=lost))
    while pacer.wait_s(now) > 0 and now < 100.0 + LISTENING_S:
        now += 0.5
        pacer.reported(report(now, lost=lost))
    return pacer, now


def used(pacer: PathPacer, reports: list[PathReport]) -> float:
    """Send all that may be sent until the last report; return the time."""
    now = reports[0].at - 0.5
    for item in reports:
        while now < item.at:
            if pacer.wait_s(now) <= 0:
                pacer.granted(PACED_BYTES, now)
            now += 0.01
        pacer.reported(item)
    return reports[-1].at


def test_nothing_is_sent_before_there_is_a_report_and_until_it_was_listened() -> None:
    pacer = PathPacer()
    assert pacer.wait_s(0.0) == float("inf")
    pacer.reported(report(100.0))
    assert pacer.wait_s(100.0) == LISTENING_S
    pacer, now = listened()
    assert pacer.wait_s(now) == 0


def test_bytes_are_granted_at_the_rate() -> None:
    pacer, now = listened()
    pacer.granted(400, now)
    assert pacer.wait_s(now) == pytest.approx(400 / FIRST_RATE)
    assert pacer.wait_s(now + 400 / FIRST_RATE) == 0


def test_nothing_is_sent_without_fresh_reports() -> None:
    pacer, now = listened()
    assert pacer.wait_s(now + FRESH_S) == 0
    assert pacer.wait_s(now + FRESH_S + 0.1) == float("inf")


def test_reports_that_tell_no_round_trip_do_not_keep_the_path_open() -> None:
    pacer, now = listened()
    for step in range(1, 5):
        pacer.reported(report(now + step / 2, round_trip_s=None))
    assert pacer.wait_s(now + 2) == float("inf")


def test_after_an_outage_it_begins_anew() -> None:
    pacer, now = listened()
    now = used(pacer, [report(now + step / 2) for step in range(1, 40)])
    assert pacer.rate > 2 * FIRST_RATE
    pacer.reported(report(now + FRESH_S + 0.1))
    assert pacer.rate == FIRST_RATE
    assert pacer.wait_s(now + FRESH_S + 0.1) == LISTENING_S


def test_a_report_counts_once() -> None:
    pacer, now = listened()
    now = used(pacer, [report(now + 0.5)])
    rate = pacer.rate
    pacer.granted(5_000, now)
    pacer.reported(report(now))
    assert pacer.rate == rate


@pytest.mark.parametrize(
    "bad", [{"round_trip_s": 0.2}, {"lost": 0.04}], ids=["a long queue", "a loss"]
)
def test_a_queue_or_a_loss_slows_down_at_once_and_pauses(bad: dict[str, float]) -> None:
    pacer, now = listened()
    used(pacer, [report(now + step / 2) for step in range(1, 10)])
    rate = pacer.rate
    now = used(pacer, [report(now + 5, **bad)])
    assert pacer.rate == pytest.approx(0.7 * rate)
    assert pacer.wait_s(now) == 1.0
    pacer.reported(report(now + 0.5, **bad))  # it is about what was sent before the pause
    assert pacer.rate == pytest.approx(0.7 * rate)
    assert pacer.wait_s(now + 0.5) == 1.0


def test_a_delay_slows_down_if_it_stays() -> None:
    pacer, now = listened()
    used(pacer, [report(now + 0.5), report(now + 1, round_trip_s=0.09), report(now + 1.5)])
    assert pacer.wait_s(now + 1.5) < 0.5
    used(pacer, [report(now + step / 2, round_trip_s=0.09) for step in range(4, 7)])
    assert pacer.wait_s(now + 3) == 1.0


def test_the_rate_does_not_fall_below_a_limit() -> None:
    pacer, now = listened()
    for step in range(1, 100):
        now = used(pacer, [report(now + 0.5, lost=0.1 if step % 4 == 0 else 0.0)])
    assert pacer.rate >= LOWEST_RATE


def test_a_path_that_loses_too_much_is_left_to_the_live_stream() -> None:
    pacer, now = listened(lost=0.5)
    assert pacer.wait_s(now) == float("inf")
