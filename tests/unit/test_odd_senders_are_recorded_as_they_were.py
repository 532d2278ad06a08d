"""Pauses in networks that hold packets, stalls with losses, and capture times of wrong clocks.

Each was found by playing random scripts, see `test_senders_are_recorded_as_they_were`.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.senders.case import Case, case
from benchmarks.senders.cases.stalls import stalled
from benchmarks.senders.expected import Expected, differences, truth_of
from benchmarks.senders.player import Offered
from benchmarks.senders.recorded import read_session
from benchmarks.senders.script import (
    FIRST_SEQUENCE,
    Item,
    Packet,
    frames,
    held,
    jittered,
    lost,
    with_reports,
)
from benchmarks.senders.sound import quiet, tones
from tests.unit.test_senders_are_recorded_as_they_were import SESSION, Player

_PAUSE = Expected(hole_kinds=frozenset({"dtx"}), spans=40)
_CAPTURE_TIME = Offered(capture_time=True)
_STALL_AND_LOSS = replace(
    stalled(), hole_kinds=frozenset({"silence", "concealed"}), spans=9, may_lose_s=0.2
)
_LONG = frames(12, step=5760, payloads=tones(120), frame_s=0.12)


def pausing(
    packets: Sequence[Packet], pauses: Sequence[tuple[int, int]], *, noise: int | None = None
) -> list[Packet]:
    """A sender that pauses at `pauses` (first packet, packets), with a packet of `noise` each so
    many packets."""
    kept = []
    for index, packet in enumerate(packets):
        first = next((begin for begin, length in pauses if begin <= index < begin + length), None)
        if first is None:
            kept.append(packet)
        elif noise is not None and (index - first) % noise == 0:
            kept.append(replace(packet, payload=quiet(), duration=0.02, tone=None))
    return [
        replace(packet, sequence=(FIRST_SEQUENCE + index) % 2**16)
        for index, packet in enumerate(kept)
    ]


def in_long_packets(pauses: Sequence[tuple[int, int]], *, noise: int) -> list[Packet]:
    kept = pausing(_LONG, pauses, noise=noise)
    return [replace(p, payload=tones(120)[0], duration=0.12) if p.payload == quiet() else p
            for p in kept]  # fmt: skip


def each_second(packets: Sequence[Packet]) -> list[Item]:
    """Capture times once a second, however wrong the timestamps are."""
    return [replace(packet, is_capture_time_due=n % 50 == 0) for n, packet in enumerate(packets)]


def in_blocks(stalls: int, *, phase_s: float) -> list[Packet]:
    """A process that gets too little time: it sends 0.1 s of each 0.2 s, and loses the rest."""
    packets = frames(8, stalls=[(2.5 + number * 0.1, 0.1) for number in range(stalls)])
    return [
        replace(packet, at=math.ceil(round((packet.at - phase_s) / 0.2, 6)) * 0.2 + phase_s)
        if 2.5 <= packet.captured < 2.6 + stalls * 0.2
        else packet
        for packet in packets
    ]


CASES = [
    *(
        case(
            f"{stalls} stalls of 0.1 s, sound in blocks of 0.1 s that come {phase_s} s late",
            in_blocks(stalls, phase_s=phase_s),
            # where so short a stall was is not known exactly, and the last one alone shows nothing
            Expected(tolerance_s=0.11, events={"stall": (1, stalls)}, spans=51, places=False),
        )
        for stalls in (10, 15, 23)
        for phase_s in (0.0, 0.05)
    ),
    case(
        "comfort noise each 400 ms, hold of 3 s",
        held(pausing(frames(9), [(100, 250)], noise=20), begin=3.1, length=3, drain=None),
        _PAUSE,
    ),
    case(
        "comfort noise each 400 ms, hold of 2 s, drained at twice real time",
        held(pausing(frames(9), [(100, 250)], noise=20), begin=3.1, length=2, drain=2),
        _PAUSE,
    ),
    case(
        "pause of 3 s in a hold of 4 s",
        held(pausing(frames(9), [(150, 150)]), begin=2.5, length=4, drain=None),
        _PAUSE,
    ),
    case(
        "pauses of 0.5 s in a hold of 4 s",
        held(
            pausing(frames(9), [(at, 25) for at in range(130, 330, 50)]),
            begin=2.5,
            length=4,
            drain=None,
        ),
        _PAUSE,
    ),
    case(
        "comfort noise each 480 ms in packets of 120 ms",
        in_long_packets([(20, 48)], noise=4),
        _PAUSE,
    ),
    case(
        "stall of 0.4 s, a packet lost soon after",
        lost(frames(7, stalls=[(3.0, 0.4)]), [157]),
        _STALL_AND_LOSS,
    ),
    case(
        "stall of 0.4 s, the first capture time after it lost",
        lost(each_second(frames(7, stalls=[(2.98, 0.4)])), [150]),
        _STALL_AND_LOSS,
        offered=_CAPTURE_TIME,
    ),
    case(
        "packets of 120 ms with jitter, hold of 4 s, drained at twice real time",
        jittered(held(_LONG, begin=3.5, length=4, drain=2), 0.15, in_order=False),
        Expected(),
    ),
    case(
        "hold of 3 s, drained at three times real time, its first packet lost",
        lost(held(frames(11), begin=4.0, length=3, drain=3), [200]),
        Expected(hole_kinds=frozenset({"concealed"}), may_lose_s=0.02, spans=3),
    ),
    case(
        "hold of 1 s, drained at twice real time, jitter of 0.15 s in order",
        jittered(held(frames(11), begin=5.48, length=0.95, drain=2), 0.15, in_order=True),
        Expected(),
    ),
    case(
        "hold of 1.5 s, drained at twice real time, packets of 120 ms, jitter of 0.15 s in order",
        jittered(held(_LONG, begin=2.68, length=1.48, drain=2), 0.15, in_order=True),
        Expected(),
    ),
    *(
        case(
            f"capture times and a clock that is {(pace - 1) * 100:+.1f} % fast",
            each_second(frames(14, pace=pace)),
            Expected(events={"clock": (1, 1)}, spans=1),
            offered=_CAPTURE_TIME,
        )
        for pace in (0.5, 0.9187, 0.96, 1.0884)
    ),
    case(
        "stall of 3 s of a clock that is 8 % slow, capture times",
        each_second(frames(9, pace=0.9187, stalls=[(4.5, 3.0)])),
        replace(stalled(), events={"stall": (1, 1), "outage": (0, 1), "clock": (0, 1)}),
        offered=_CAPTURE_TIME,
    ),
    case(
        "stall of 1 s of a clock that is 8 % slow, sender reports",
        with_reports(frames(9, pace=0.9187, stalls=[(4.5, 1.0)]), ticks_per_s=44_100),
        replace(stalled(), events={"stall": (1, 1), "outage": (0, 1), "clock": (0, 1)}),
    ),
]


@pytest.mark.parametrize("played", CASES, ids=[item.name for item in CASES])
async def test_an_odd_sender_is_recorded_as_it_was(played: Case, tmp_path: pathlib.Path) -> None:
    player = Player(played, tmp_path, jitter_s=0.0)
    await player.play()
    recorded = read_session(tmp_path, SESSION)
    assert differences(recorded, truth_of(player.items), played.expected) == []
