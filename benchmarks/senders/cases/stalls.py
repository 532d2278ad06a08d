"""Senders whose device, tab or machine stalls: the timestamps go on as if no time had passed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.senders.case import Case, case
from benchmarks.senders.expected import Expected
from benchmarks.senders.player import Offered
from benchmarks.senders.script import (
    Item,
    Packet,
    frames,
    retimed,
    with_capture_times,
    with_reports,
)

STALL_TOLERANCE_S = 0.06
_BEFORE_S, _AFTER_S = 2.3, 3.0
_CAPTURE_TIME = Offered(capture_time=True)


def stalled(stalls: int = 1) -> Expected:
    """What to expect when a sender stalled so often: silence at its place, and an event."""
    return Expected(
        tolerance_s=STALL_TOLERANCE_S, events={"stall": (1, stalls), "outage": (0, stalls)}
    )


def _with_each_evidence(name: str, packets: Sequence[Packet], expected: Expected) -> list[Case]:
    return [
        case(f"{name}, no reports", packets, expected),
        case(f"{name}, sender reports", with_reports(packets), expected),
        case(
            f"{name}, capture times", with_capture_times(packets), expected, offered=_CAPTURE_TIME
        ),
    ]


def _once(seconds: float) -> list[Case]:
    packets = frames(_BEFORE_S + _AFTER_S, stalls=[(_BEFORE_S, seconds)])
    return _with_each_evidence(f"stall of {seconds:g} s", packets, stalled())


def _like_chromium() -> Sequence[Item]:
    """Two reports around a stall: NTP advances by 7.266 s, RTP by 2.261 s."""
    packets = frames(7, stalls=[(3.0, 5.005)])
    return with_reports(packets, times=(2.2, 9.466))


def _inactive() -> list[Packet]:
    """Chromium's ``active: false`` for 4 s: the timestamps jump by 3.68 s only."""
    packets = frames(7, stalls=[(3.1, 4.0)])
    jump = round(3.68 * 48_000)
    return retimed(packets, lambda index: index * 960 + (jump if index >= 155 else 0))


def _starved() -> list[Packet]:
    """A process that gets a tenth of the time for 3 s, and loses half of its sound meanwhile."""
    packets = frames(8, stalls=[(2.5 + number * 0.06, 0.05) for number in range(30)])
    return [
        replace(packet, at=math.ceil(round(packet.at / 0.1, 6)) * 0.1)
        if 2.5 <= packet.captured < 5.8
        else packet
        for packet in packets
    ]


_TEN = frames(7, stalls=[(1.1 + number / 2, 0.2) for number in range(10)])
_THREE = frames(8, stalls=[(2.3, 1.0), (4.1, 1.0), (6.3, 1.0)])
_LONG = frames(6, stalls=[(2.3, 3.0)])
_INACTIVE = Expected(
    tolerance_s=STALL_TOLERANCE_S, events={"stall": (1, 1), "outage": (0, 1), "timestamps": (0, 1)}
)

STALLS = [
    *(item for seconds in (0.2, 0.5, 1, 3, 10) for item in _once(seconds)),
    *_with_each_evidence("three stalls of 1 s", _THREE, stalled(3)),
    *_with_each_evidence("ten stalls of 0.2 s", _TEN, stalled(10)),
    *_with_each_evidence(
        "stall of 25 s", frames(_BEFORE_S + _AFTER_S, stalls=[(_BEFORE_S, 25.0)]), stalled()
    )[:2],
    case("stall of 3 s, reports go on", with_reports(_LONG, while_stalled=True), stalled()),
    case("stall of 5 s, Chromium's reports", _like_chromium(), stalled()),
    case(
        "thirty stalls of 0.05 s, sound in blocks of 0.1 s",
        _starved(),
        # where so short a stall was is not known
        Expected(
            tolerance_s=0.2, events={"stall": (1, 30), "outage": (0, 30)}, spans=61, places=False
        ),
    ),
    case("active: false for 4 s, no reports", _inactive(), _INACTIVE),
    case("active: false for 4 s, sender reports", with_reports(_inactive()), _INACTIVE),
]
