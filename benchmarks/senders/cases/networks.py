"""Networks that hold or delay packets: the sender captures all the time, so nothing is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.senders.case import Case, case
from benchmarks.senders.expected import Expected
from benchmarks.senders.player import Offered
from benchmarks.senders.script import (
    Item,
    Packet,
    delayed,
    frames,
    held,
    jittered,
    lost,
    with_capture_times,
    with_reports,
)

EXACT = Expected()
_CAPTURE_TIME = Offered(capture_time=True)
_HOLD_AT_S = 2.5
_Network = Callable[[Sequence[Item]], Sequence[Item]]


def _both(name: str, packets: Sequence[Packet], network: _Network) -> list[Case]:
    """With and without sender reports, which the network delays as well."""
    return [
        case(f"{name}, no reports", network(packets), EXACT),
        case(f"{name}, sender reports", network(with_reports(packets)), EXACT),
    ]


def _hold(length: float, drain: float | None) -> _Network:
    return lambda items: held(items, begin=_HOLD_AT_S, length=length, drain=drain)


def _drained(length: float, drain: float) -> list[Case]:
    caught_up = length * drain / (drain - 1)  # seconds of sending until the delay is used up
    packets = frames(math.ceil(_HOLD_AT_S + caught_up + 1))
    name = f"hold of {length:g} s, drained at {drain:g} times real time"
    return _both(name, packets, _hold(length, drain))


def _slowly_later(at: float) -> float:
    return 0.3 * min(max((at - 2) / 6, 0.0), 1.0)


def _repeated(items: Sequence[Item]) -> Sequence[Item]:
    for begin in (1.5, 3.0, 4.5, 6.0, 7.5):
        items = held(items, begin=begin, length=0.3, drain=None)
    return items


def _two_paths(items: Sequence[Item]) -> Sequence[Item]:
    """Packets of one second come over an old path that is 0.9 s slower than the new one."""
    return delayed(items, lambda at: 0.9 if 2.5 <= at < 3.5 else 0.0)


def _in_blocks(packets: Sequence[Packet], block_s: float) -> list[Packet]:
    """A device that delivers its sound in blocks."""
    return [
        replace(packet, at=math.ceil(round(packet.at / block_s, 6)) * block_s) for packet in packets
    ]


NETWORKS = [
    *_both("hold of 3 s, delivered at once", frames(8), _hold(3, None)),
    case(
        "hold of 3 s, delivered at once, capture times",
        _hold(3, None)(with_capture_times(frames(8))),
        EXACT,
        offered=_CAPTURE_TIME,
    ),
    *_both("hold of 3 s, delivered at the end", frames(5), _hold(3, None)),
    *_drained(1.5, 1.2),
    *_drained(3, 1.2),
    *_drained(3, 2),
    *_drained(3, 3),
    *_both("five holds of 0.3 s", frames(9), _repeated),
    *_both("delay that rises slowly by 0.3 s", frames(12), lambda i: delayed(i, _slowly_later)),
    *_both(
        "delay that falls slowly by 0.3 s",
        frames(12),
        lambda i: delayed(i, lambda at: 0.3 - _slowly_later(at)),
    ),
    # without reports this looks like a stall of 0.3 s
    case(
        "delay that rises by 0.3 s at once, sender reports",
        delayed(with_reports(frames(8)), lambda at: 0.3 if at >= 3 else 0.0),
        EXACT,
    ),
    *_both("jitter of 0.5 s, in order", frames(8), lambda i: jittered(i, 0.5, in_order=True)),
    *_both("jitter of 0.5 s, out of order", frames(8), lambda i: jittered(i, 0.5, in_order=False)),
    *_both("a path that is 0.9 s slower for a second", frames(8), _two_paths),
    case(
        "everything lost for 3 s",
        lost(frames(9), range(115, 265)),
        Expected(
            events={"outage": (0, 1)},
            hole_kinds=frozenset({"silence", "concealed", "recovered"}),
            spans=5,
        ),
    ),
    case("sound in blocks of 0.2 s", _in_blocks(frames(8), 0.2), EXACT),
    case("sound in blocks of 0.5 s", _in_blocks(frames(8), 0.5), EXACT),
]
