"""Timestamps that are wrong, of senders whose sound is complete and comes in real time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

from benchmarks.senders.case import Case, case
from benchmarks.senders.expected import Expected
from benchmarks.senders.player import Offered
from benchmarks.senders.script import (
    FIRST_TIMESTAMP,
    G722,
    PCMU,
    Packet,
    frames,
    held,
    lost,
    retimed,
    with_reports,
)
from benchmarks.senders.sound import g722, pcmu, tones

_SECONDS = 6
_COUNT = _SECONDS * 50
_WRONG_STEPS = Expected(tolerance_s=0.02, events={"timestamps": (1, 1)}, spans=3)
_DISTURBED = Expected(tolerance_s=0.04, events={"timestamps": (1, 1)}, spans=3)
_ZERO = -FIRST_TIMESTAMP
"""What leads to timestamp 0."""


def _steps(step: int) -> list[Case]:
    packets = frames(_SECONDS, step=step)
    reported = with_reports(packets, ticks_per_s=step * 50)
    name = f"+{step} for 20 ms"
    return [
        case(f"{name}, no reports", packets, _WRONG_STEPS),
        case(f"{name}, sender reports", reported, _WRONG_STEPS),
    ]


def _disturbed(name: str, timestamp: Callable[[int], int], expected: Expected = _DISTURBED) -> Case:
    return case(name, retimed(frames(_SECONDS), timestamp), expected)


def _trembling(largest: int) -> list[int]:
    """Steps of 960 ± `largest`, added up."""
    chance = random.Random(3)
    steps = [chance.randint(960 - largest, 960 + largest) for _ in range(_COUNT)]
    return [0, *itertools.accumulate(steps)]


def _shaking(largest: int) -> list[int]:
    """The right timestamps, each changed by up to `largest`."""
    chance = random.Random(4)
    return [index * 960 + chance.randint(-largest, largest) for index in range(_COUNT)]


def _telephone(payload_type: int, step: int) -> list[Packet]:
    """Codecs that count in 8 kHz, G.722 included (RFC 3551 § 4.5.2)."""
    payloads = pcmu() if payload_type == PCMU else g722()
    return frames(4, step=step, payloads=payloads, payload_type=payload_type)


_PCMU, _G722 = Offered(codecs=("0 PCMU/8000",)), Offered(codecs=("9 G722/8000",))
_TREMBLES = Expected(events={"timestamps": (0, 1)}, spans=1)
_SIXTY_MS = frames(_SECONDS, step=960, payloads=tones(60), frame_s=0.06)

TIMESTAMPS = [
    *(item for step in (160, 320, 480, 1920, 2880) for item in _steps(step)),
    *(
        case(f"{step:+d} for 20 ms", frames(_SECONDS, step=step), _WRONG_STEPS)
        for step in (0, 20, 1800, -960)
    ),
    _disturbed(
        "+320 for 20 ms from the middle on",
        lambda index: 960 * min(index, 150) + 320 * max(0, index - 150),
        _WRONG_STEPS,
    ),
    case(
        "+320 for 20 ms, 5 packets lost",
        lost(frames(_SECONDS, step=320), range(120, 125)),
        replace(
            _WRONG_STEPS,
            tolerance_s=0.04,
            hole_kinds=frozenset({"silence", "concealed", "recovered"}),
            spans=6,
        ),
    ),
    case(
        "+320 for 20 ms, hold of 2 s, delivered at once",
        held(frames(_SECONDS, step=320), begin=2.5, length=2, drain=None),
        _WRONG_STEPS,
    ),
    case("+960 for 60 ms", _SIXTY_MS, _WRONG_STEPS),
    case("PCMU, +320 for 20 ms", _telephone(PCMU, 320), _WRONG_STEPS, offered=_PCMU),
    case("G.722, +320 for 20 ms", _telephone(G722, 320), _WRONG_STEPS, offered=_G722),
    case("G.722, +160 for 20 ms, which is right", _telephone(G722, 160), Expected(), offered=_G722),
    _disturbed("steps of 953 to 967", _trembling(7).__getitem__, _TREMBLES),
    _disturbed("timestamps 7 off", _shaking(7).__getitem__, _TREMBLES),
    _disturbed("timestamps 3 ms off", _shaking(144).__getitem__, _TREMBLES),
    case(
        "steps of 963",
        frames(14, step=963),
        # 0.3 % more than was captured adds up to 44 ms
        Expected(tolerance_s=0.045, events={"timestamps": (0, 2), "clock": (0, 1)}, spans=5),
    ),
    _disturbed(
        "stand still for 5 packets, then right",
        lambda index: 960 * (100 if 100 <= index < 105 else index),
    ),
    _disturbed(
        "stand still for 5 packets, then on from there",
        lambda index: 960 * (index if index < 100 else max(100, index - 5)),
    ),
    _disturbed("0 once, then right", lambda index: _ZERO if index == 100 else 960 * index),
    _disturbed(
        "0, then on from there",
        lambda index: 960 * index if index < 100 else _ZERO + 960 * (index - 100),
    ),
    _disturbed("back by 1 s for one packet", lambda index: 960 * (index - 50 * (index == 100))),
    _disturbed(
        "back by 1 s, then on from there", lambda index: 960 * (index - 50 * (index >= 100))
    ),
    _disturbed(
        "back by 0.5 s each second",
        lambda index: 960 * (index - 25 * (index // 50)),
        Expected(tolerance_s=0.04, events={"timestamps": (1, 2)}, spans=3),
    ),
    _disturbed("ahead by 1 s for one packet", lambda index: 960 * (index + 50 * (index == 100))),
    _disturbed(
        "ahead by 1 s, then on from there", lambda index: 960 * (index + 50 * (index >= 100))
    ),
]
