"""Several of these at once, and stalls at unusual moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.senders.case import case
from benchmarks.senders.cases.stalls import STALL_TOLERANCE_S, stalled
from benchmarks.senders.expected import Expected
from benchmarks.senders.player import Offered
from benchmarks.senders.script import (
    FIRST_SEQUENCE,
    PCMU,
    SSRC,
    Connect,
    Item,
    Packet,
    frames,
    from_source,
    held,
    jittered,
    lost,
    on_connection,
    retimed,
    with_redundancy,
    with_reports,
)
from benchmarks.senders.sound import pcmu, quiet

_LOST = frozenset({"silence", "concealed", "recovered"})
_STALL_AND_LOSS = replace(stalled(), hole_kinds=_LOST, spans=9)
_STALL = frames(6, stalls=[(2.3, 3.0)])
_STEADY = frames(6)
_RED = Offered(codecs=("63 red/48000/2", "111 opus/48000/2"), attributes=("a=fmtp:63 111/111",))
_RESUMED = Expected(tolerance_s=0.03, events={"reconnected": (1, 1), "timestamps": (0, 4)}, spans=3)


def _renumbered(packets: Sequence[Packet]) -> list[Packet]:
    """Sequence numbers without a gap: what is not there was not sent on purpose."""
    return [
        replace(packet, sequence=(FIRST_SEQUENCE + index) % 2**16)
        for index, packet in enumerate(packets)
    ]


def _dtx() -> list[Packet]:
    """Two seconds in which nothing is sent, on purpose."""
    packets = frames(6)
    return _renumbered([*packets[:100], *packets[200:]])


def _comfort_noise(*, stall_s: float = 0.0) -> list[Packet]:
    """Four seconds of silence, with a packet each 400 ms, as an Opus encoder sends it."""
    packets = frames(8, stalls=[(3.7, stall_s)])
    kept = []
    for index, packet in enumerate(packets):
        if not 100 <= index < 300:
            kept.append(packet)
        elif index % 20 == 0:
            kept.append(replace(packet, payload=quiet(), tone=None))
    return _renumbered(kept)


def _told_stall() -> list[Packet]:
    """A sender that notices its stall: its timestamps go on with time, as our client's do."""
    packets = retimed(_STALL, lambda index: index * 960 + (144_000 if index >= 115 else 0))
    return [
        replace(packet, sequence=(packet.sequence + (index >= 115)) % 2**16)
        for index, packet in enumerate(packets)
    ]


def _kept_by_the_device() -> list[Packet]:
    """A process stalls for 3 s; its device keeps the first second, the rest is lost."""
    packets = frames(8, stalls=[(3.3, 2.0)])
    return [replace(packet, at=max(packet.at, 5.3)) if 2.3 <= packet.captured < 5.3 else packet
            for packet in packets]  # fmt: skip


def _resumed_by_a_page(*, connect_s: float, burst: int = 1, reports: bool = False) -> list[Item]:
    """A page resumes on a second connection, with a new source, while the first still sends.

    The first `burst` packets of the new connection come together. Handshakes of several senders
    at the same time would delay the packets of all: each has a `connect_s` of its own.
    """
    first = [packet for packet in frames(8) if packet.captured < 3.9]
    second = []
    for index, packet in enumerate(frames(8)[176:]):
        captured = packet.captured + 0.007
        second.append(
            replace(
                packet,
                at=captured + 0.02 * max(1, burst - index),
                captured=captured,
                start=captured,
                ssrc=SSRC + 1,
                sequence=100 + index,
                timestamp=(77_777 + index * 960) % 2**32,
                marker=index == 0,
            )
        )
    connect = Connect(at=connect_s, connection=1)
    if not reports:
        return [*first, connect, *on_connection(second, 1)]
    reported = [replace(item, connection=1) for item in with_reports(second, first_s=4.0)]
    return [*with_reports(first), connect, *reported]


def _resumed_by_our_client() -> list[Item]:
    """The same source sends the same packets on both connections for a while."""
    packets = frames(8)
    first = [packet for packet in packets if packet.captured < 3.9]
    second = [replace(p, tone=None) if p.captured < 3.9 else p
              for p in packets if p.captured >= 3.5]  # fmt: skip
    return [*first, Connect(at=2.7, connection=1), *on_connection(second, 1)]


_WRONG_STEPS = frames(6, stalls=[(2.3, 3.0)], step=320)
_TREMBLING = retimed(_STALL, lambda index: index * 960 + (index * 37 % 15) - 7)
_SLOW_CLOCK = frames(8, stalls=[(4.3, 3.0)], pace=0.99)
_BLOCKS = [replace(packet, at=-(-round(packet.at * 1000) // 200) / 5) for packet in _STALL]

COMBINATIONS = [
    case("stall of 3 s, the next 5 packets lost", lost(_STALL, range(115, 120)), _STALL_AND_LOSS),
    case(
        "stall of 3 s, the next 5 packets lost, sender reports",
        with_reports([p for i, p in enumerate(_STALL) if i not in range(115, 120)]),
        _STALL_AND_LOSS,
    ),
    case("stall of 3 s, 5 packets before it lost", lost(_STALL, range(110, 115)), _STALL_AND_LOSS),
    case("stall of 3 s after the first packet", frames(4, stalls=[(0.02, 3.0)]), stalled()),
    case("stall of 3 s after half a second", frames(4, stalls=[(0.5, 3.0)]), stalled()),
    case("stall of 3 s, then 5 packets", frames(4, stalls=[(3.9, 3.0)]), stalled()),
    case("stall of 3 s, then one packet", frames(4, stalls=[(3.98, 3.0)]), stalled()),
    case(
        "stall of 3 s, then a hold of 2 s, sender reports",
        held(with_reports(frames(9, stalls=[(2.3, 3.0)])), begin=6.9, length=2, drain=2),
        stalled(),
    ),
    case(
        "hold of 2 s, then a stall of 3 s, sender reports",
        held(with_reports(frames(9, stalls=[(6.3, 3.0)])), begin=2.1, length=2, drain=3),
        stalled(),
    ),
    case(
        "process stalls for 3 s, its device keeps 1 s",
        _kept_by_the_device(),
        replace(stalled(), places=False, spans=5),
    ),
    case("stall of 3 s, sound in blocks of 0.2 s", _BLOCKS, stalled()),
    case(
        "stall of 3 s, +320 for 20 ms",
        _WRONG_STEPS,
        replace(
            stalled(), events={"stall": (1, 1), "outage": (0, 1), "timestamps": (1, 1)}, spans=5
        ),
    ),
    case(
        "stall of 3 s, timestamps 7 off",
        _TREMBLING,
        replace(stalled(), events={"stall": (1, 1), "outage": (0, 1), "timestamps": (0, 1)}),
    ),
    case(
        "stall of 3 s, clock 1 % slow",
        _SLOW_CLOCK,
        replace(stalled(), events={"stall": (1, 1), "outage": (0, 1), "clock": (0, 1)}),
    ),
    # without reports the length of a stall is known to within the jitter
    case(
        "stall of 3 s, jitter of 0.2 s in order",
        jittered(_STALL, 0.2, in_order=True),
        replace(stalled(), tolerance_s=0.2),
    ),
    case(
        "stall of 3 s, jitter of 0.2 s",
        jittered(_STALL, 0.2, in_order=False),
        replace(stalled(), tolerance_s=0.2),
    ),
    case(
        "stall of 0.5 s, jitter of 0.1 s in order",
        jittered(frames(6, stalls=[(2.3, 0.5)]), 0.1, in_order=True),
        stalled(),
    ),
    case(
        "stall of 3 s in a hold of 3 s, sender reports",
        held(with_reports(frames(9, stalls=[(2.3, 3.0)])), begin=4.1, length=3, drain=2),
        stalled(),
    ),
    case(
        "stall of 3 s, every tenth packet lost",
        lost(_STALL, range(5, 300, 10)),
        replace(_STALL_AND_LOSS, spans=90),
    ),
    case("stall of 3 s, RED", with_redundancy(_STALL), stalled(), offered=_RED),
    case(
        "stall of 3 s, the next packet lost, RED",
        lost(with_redundancy(_STALL), [115]),
        replace(_STALL_AND_LOSS, spans=7),
        offered=_RED,
    ),
    case(
        "another source from the middle on",
        [*_STEADY[:150], *from_source(_STEADY[150:], SSRC + 1)],
        Expected(tolerance_s=0.03, events={"timestamps": (0, 1)}, spans=3),
    ),
    case(
        "stall of 3 s, then another source",
        [*_STALL[:115], *from_source(_STALL[115:], SSRC + 1)],
        Expected(
            tolerance_s=STALL_TOLERANCE_S,
            events={"stall": (0, 1), "outage": (0, 1), "timestamps": (0, 1)},
        ),
    ),
    case(
        "stall of 3 s, PCMU",
        frames(5, stalls=[(2.3, 3.0)], step=160, payloads=pcmu(), payload_type=PCMU),
        stalled(),
        offered=Offered(codecs=("0 PCMU/8000",)),
    ),
    case(
        "stall of 3 s, its timestamps count and a sequence number is left out",
        _told_stall(),
        Expected(events={"outage": (0, 1), "stall": (0, 1)}, hole_kinds=_LOST, spans=5),
    ),
    case("DTX of 2 s", _dtx(), Expected(hole_kinds=frozenset({"dtx"}))),
    case(
        "DTX with comfort noise each 400 ms",
        _comfort_noise(),
        Expected(hole_kinds=frozenset({"dtx"}), spans=21),
    ),
    case(
        "stall of 3 s in DTX with comfort noise",
        _comfort_noise(stall_s=3.0),
        Expected(
            tolerance_s=STALL_TOLERANCE_S,
            events={"stall": (1, 1), "outage": (0, 1)},
            hole_kinds=frozenset({"dtx", "silence"}),
            spans=23,
        ),
    ),
    case(
        "resumed by a page while the first connection lives",
        _resumed_by_a_page(connect_s=1.2),
        _RESUMED,
    ),
    case(
        "resumed by a page, 3 packets at once", _resumed_by_a_page(connect_s=1.7, burst=3), _RESUMED
    ),
    case(
        "resumed by a page, 3 packets at once, sender reports",
        _resumed_by_a_page(connect_s=2.2, burst=3, reports=True),
        _RESUMED,
    ),
    case(
        "resumed by our client while the first connection lives",
        _resumed_by_our_client(),
        Expected(events={"reconnected": (1, 1), "timestamps": (0, 1), "left out": (0, 1)}, spans=1),
    ),
]
