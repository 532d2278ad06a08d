"""A simulated session of 24 hours: wraps, skew, loss and outages are exact to the sample."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest

from domain.recording.effects import Appended, EndReason, GapFilled, Noted
from domain.recording.ledger import Ledger, SampleKind
from domain.recording.reconstruction import Reconstructor
from domain.recording.recording import Recording
from domain.rtp.order import ReorderBuffer, Restarted
from domain.rtp.packets import RtpPacket
from domain.rtp.reports import ReceptionStatistics
from domain.sound.formats import AudioFormat
from domain.sound.pieces import Sound

RATE, FRAME = 48_000, 23_040  # packets of 480 ms, so that a day has 180,000 of them
FRAMES_A_DAY = 24 * 3600 * RATE // FRAME


class Counting:
    """A decoder that only counts samples, so that it needs no memory for sound."""

    _samples = np.broadcast_to(np.zeros((1, 1), dtype="<i2"), (FRAME, 1))
    _length = 0

    def decode(self, payload: bytes) -> int:
        self._length += FRAME
        return FRAME

    def recoverable(self, payload: bytes) -> int:
        return 0

    def recover(self, payload: bytes) -> int:
        raise AssertionError

    def conceal(self, length: int) -> int:
        self._length += min(length, 4800)
        return min(length, 4800)

    def collect(self) -> list[Sound]:
        length, self._length = self._length, 0
        whole, rest = divmod(length, FRAME)
        return [self._samples] * whole + [self._samples[:rest]] * bool(rest)


@pytest.mark.parametrize("ppm", [-200, 200])
def test_a_day_has_its_exact_length(ppm: float) -> None:
    dice = random.Random(ppm)
    reorder = ReorderBuffer(hold_s=0.2)
    reconstructor = Reconstructor(Counting(), clock_rate_hz=RATE, sample_rate_hz=RATE, max_gap_s=60)
    recording = Recording(max_gap_s=60)
    recording.open(AudioFormat(RATE, 1), clock_rate_hz=RATE)
    statistics = ReceptionStatistics(1, clock_rate_hz=RATE)
    ledger = Ledger()
    events: list[str] = []
    first_sequence, first_timestamp = 65_000, 2**32 - 5 * RATE
    outage_until = 0
    received = 0
    grown = 0

    def apply(effects: list[object]) -> None:
        for effect in effects:
            match effect:
                case Appended(pieces, kind):
                    ledger.add(kind, sum(map(len, pieces)))
                case GapFilled(length, kind):
                    ledger.add(kind, length)
                case Noted(event, _):
                    events.append(event.type)

    for n in range(FRAMES_A_DAY):
        if n % 15_000 == 1000:
            outage_until = n + 50  # 24 s, every two hours
        if n < outage_until:
            continue
        received += 1
        now = n * 0.48 / (1 + ppm / 1e6) + dice.uniform(0, 0.05)
        packet = RtpPacket(
            111, (first_sequence + n) % 2**16, (first_timestamp + n * FRAME) % 2**32, 1, b"p",
            arrived=now,
        )  # fmt: skip
        statistics.received([packet])
        slots = reorder.push(packet)
        assert not any(isinstance(slot, Restarted) for slot in slots)
        for run in reconstructor.process(slots):
            apply(recording.add(run))
        if n == 160_000:
            tracemalloc.start()
        elif n == 165_000:
            grown = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
    for run in reconstructor.process(reorder.flush()):
        apply(recording.add(run))
    ending = recording.end(EndReason.CLOSED, now=0.0)

    assert recording.length == ledger.length == FRAMES_A_DAY * FRAME
    assert "discontinuity" not in events
    spans = list(ledger.spans())
    assert sum(s.length for s in spans if s.kind is SampleKind.RECEIVED) == received * FRAME
    outages = [s for s in spans if s.kind is SampleKind.SILENCE]
    assert [s.length for s in outages] == [50 * FRAME - 4800] * 12
    report = statistics.report()
    assert report is not None
    assert report.packets_lost == FRAMES_A_DAY - received
    assert report.highest_sequence == first_sequence + FRAMES_A_DAY - 1
    (clock,) = [e.event for e in ending if isinstance(e, Noted)]
    assert clock.details["skew_ppm"] == pytest.approx(ppm, abs=2)
    # the last forty minutes add only one anchor per minute
    assert 0 < grown < 200_000
