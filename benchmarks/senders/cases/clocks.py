"""Sampling clocks that are wrong: the recording is as long as its samples say, and says so."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.senders.case import Case, case
from benchmarks.senders.expected import Expected
from benchmarks.senders.script import frames, held, with_reports
from benchmarks.senders.sound import TICKS_PER_S

_REAL_S = 14
"""The skew must be known after 10 s."""
_SAMPLES_HEARD = 0.2
"""The share by which the stated skew may be off."""


def _clock(name: str, pace: float, events: Mapping[str, tuple[int, int]]) -> list[Case]:
    packets = frames(_REAL_S * pace // 1, pace=pace)
    ppm = (pace - 1) * 1e6
    margin = max(700.0, abs(ppm) * _SAMPLES_HEARD)
    expected = Expected(events=events, skew_ppm=(ppm - margin, ppm + margin))
    reported = with_reports(packets, ticks_per_s=TICKS_PER_S * pace)
    return [
        case(f"{name}, no reports", packets, expected),
        case(f"{name}, sender reports", reported, expected),
    ]


_TOLD = {"clock": (1, 1)}

CLOCKS = [
    *_clock("44.1 kHz called 48 kHz", 44.1 / 48, _TOLD),
    *_clock("clock 1 % fast", 1.01, _TOLD),
    *_clock("clock 1 % slow", 0.99, _TOLD),
    *_clock("clock half as fast", 0.5, _TOLD),
    *_clock("clock twice as fast", 2.0, _TOLD),
    *_clock("clock 2000 ppm fast", 1.002, _TOLD),
    *_clock("clock 2000 ppm slow", 0.998, _TOLD),
    case(
        "clock 1 % slow, hold of 3 s, delivered at once",
        held(frames(13, pace=0.99), begin=4.5, length=3, drain=None),
        Expected(events=_TOLD),
    ),
    *_clock("clock 200 ppm slow", 0.9998, {}),
]
