"""Sender reports that are wrong: they must not make a recording worse than without them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.senders.case import case
from benchmarks.senders.cases.stalls import stalled
from benchmarks.senders.expected import Expected
from benchmarks.senders.script import Item, Packet, Report, frames, with_reports

_EXACT = Expected()
_STEADY = frames(8)
_STALL = frames(6, stalls=[(2.3, 3.0)])


def _changed(packets: Sequence[Packet], change: Callable[[Report], Report]) -> list[Item]:
    return [change(item) if isinstance(item, Report) else item for item in with_reports(packets)]


def _without_time(report: Report) -> Report:
    return replace(report, ntp=None)


def _set_by(seconds: float) -> Callable[[Report], Report]:
    """The sender's wall clock is set in the middle."""

    def change(report: Report) -> Report:
        assert report.ntp is not None
        return replace(report, ntp=report.ntp + seconds * (report.at > 4.0))

    return change


def _ahead(report: Report) -> Report:
    """The RTP timestamps of the reports are a second ahead of those of the packets."""
    return replace(report, rtp_timestamp=(report.rtp_timestamp + 48_000) % 2**32)


def _unrelated() -> Callable[[Report], Report]:
    chance = random.Random(5)
    return lambda report: replace(report, rtp_timestamp=chance.getrandbits(32))


def _vague() -> Callable[[Report], Report]:
    """The wall clock is read up to 80 ms too late."""
    chance = random.Random(6)

    def change(report: Report) -> Report:
        assert report.ntp is not None
        return replace(report, ntp=report.ntp + chance.uniform(0, 0.08))

    return change


REPORTS = [
    case("reports without a time", _changed(_STEADY, _without_time), _EXACT),
    case("stall of 3 s, reports without a time", _changed(_STALL, _without_time), stalled()),
    case("wall clock set ahead by 3 s", _changed(_STEADY, _set_by(3.0)), _EXACT),
    case("wall clock set back by 3 s", _changed(_STEADY, _set_by(-3.0)), _EXACT),
    case("reports 1 s ahead of the packets", _changed(_STEADY, _ahead), _EXACT),
    case("stall of 3 s, reports 1 s ahead", _changed(_STALL, _ahead), stalled()),
    case("reports with unrelated timestamps", _changed(_STEADY, _unrelated()), _EXACT),
    case("stall of 3 s, unrelated reports", _changed(_STALL, _unrelated()), stalled()),
    case("reports up to 80 ms vague", _changed(_STEADY, _vague()), _EXACT),
    case("stall of 3 s, vague reports", _changed(_STALL, _vague()), stalled()),
]
