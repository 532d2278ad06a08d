"""What a scripted sender sends: packets and reports as plain data, and how to vary them.

All times are seconds since the sender's beginning. `frames` makes a faultless stream; the other
functions return it changed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

from benchmarks.senders.sound import FRAME_S, TICKS_PER_S, tones

SSRC = 0x5EED0001
OPUS, RED, PCMU, G722 = 111, 63, 0, 9
FIRST_SEQUENCE, FIRST_TIMESTAMP = 65_400, 2**32 - 200_000
"""Both counters wrap around within the first seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    at: float
    """When it is sent."""
    captured: float
    """When its sound began, by the sender's true wall clock."""
    start: float
    """Where its sound belongs in the recording, up to a constant."""
    duration: float = FRAME_S
    payload: bytes = field(repr=False)
    sequence: int
    timestamp: int
    ssrc: int = SSRC
    payload_type: int = OPUS
    marker: bool = False
    tone: int | None = None
    """The number of the tone that begins with this packet; None in the middle of a tone."""
    is_capture_time_due: bool = False
    """Whether it carries ``abs-capture-time``, if that was negotiated."""
    connection: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A sender report."""

    at: float
    ntp: float | None
    """The wall-clock time it states; None states no time at all (RFC 3550 § 6.4.1)."""
    rtp_timestamp: int
    """The RTP timestamp that it says belongs to that time."""
    ssrc: int = SSRC
    connection: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """Resume the session on another connection, which gets the next number."""

    at: float
    connection: int


Item: TypeAlias = Packet | Report | Connect
T = TypeVar("T", Packet, Report)


def frames(
    seconds: float,
    *,
    stalls: Sequence[tuple[float, float]] = (),
    step: int = 960,
    payloads: Sequence[bytes] | None = None,
    frame_s: float = FRAME_S,
    pace: float = 1.0,
    payload_type: int = OPUS,
) -> list[Packet]:
    """A stream of `seconds` of sound that is captured in real time.

    After `stalls[n][0]` seconds of sound, the device captures nothing for `stalls[n][1]` seconds;
    sequence and timestamps go on as if nothing had happened. Timestamps grow by `step` with each
    packet. With a `pace` above 1 the sender's clock is fast: its seconds are shorter than ours,
    and the recording is still as long as its samples say.
    """
    payloads = tones() if payloads is None else payloads
    packets = []
    for index in range(round(seconds / frame_s)):
        media = index * frame_s
        media_ms = round(media * 1000)
        stalled = sum(length for after, length in stalls if media >= after - 1e-9)
        captured = media / pace + stalled
        packets.append(
            Packet(
                at=captured + frame_s / pace,
                captured=captured,
                start=media + stalled,
                duration=frame_s,
                payload=payloads[index],
                sequence=(FIRST_SEQUENCE + index) % 2**16,
                timestamp=(FIRST_TIMESTAMP + index * step) % 2**32,
                payload_type=payload_type,
                marker=index == 0,
                tone=media_ms // 1000 if media_ms % 1000 == 0 else None,
            )
        )
    return packets


# -- evidence ----------------------------------------------------------------------------------


def with_reports(
    packets: Sequence[Packet],
    *,
    every_s: float = 1.0,
    first_s: float = 0.5,
    times: Iterable[float] | None = None,
    while_stalled: bool = False,
    ticks_per_s: float = TICKS_PER_S,
) -> list[Item]:
    """Add sender reports, each with the sender's wall clock and the timestamp captured then.

    While nothing is captured there are no reports; with `while_stalled` they go on, and count the
    timestamp on from the last packet, as libwebrtc does.
    """
    if times is None:
        count = int((packets[-1].captured - first_s) / every_s) + 1
        times = [first_s + number * every_s for number in range(count)]
    reports = []
    for time in times:
        latest = next(p for p in reversed(packets) if p.captured <= time)
        since = time - latest.captured
        if since > latest.duration + 0.005 and not while_stalled:
            continue
        timestamp = (latest.timestamp + round(since * ticks_per_s)) % 2**32
        reports.append(Report(at=time + 0.021, ntp=time, rtp_timestamp=timestamp, ssrc=latest.ssrc))
    return [*packets, *reports]


def with_capture_times(packets: Sequence[Packet]) -> list[Item]:
    """Add ``abs-capture-time`` as libwebrtc does: each second, and when it cannot be derived."""
    changed: list[Item] = []
    last: Packet | None = None
    for packet in packets:
        is_due = last is None or packet.captured - last.captured > 1.0 - 1e-6
        if last is not None and not is_due:
            ticks = (packet.timestamp - last.timestamp + 2**31) % 2**32 - 2**31
            derived = last.captured + ticks / TICKS_PER_S
            is_due = abs(derived - packet.captured) > 0.001
        if is_due:
            last = packet
        changed.append(replace(packet, is_capture_time_due=is_due))
    return changed


# -- the network -------------------------------------------------------------------------------


def delayed(items: Iterable[Item], delay: Callable[[float], float]) -> list[Item]:
    """Delay each item by what `delay` says for its time of sending."""
    in_order = sorted(items, key=lambda item: item.at)
    return [replace(item, at=item.at + delay(item.at)) for item in in_order]


def held(items: Iterable[Item], *, begin: float, length: float, drain: float | None) -> list[Item]:
    """Hold everything that is sent from `begin` on for `length` seconds, and then deliver it.

    It is delivered at once, or at `drain` times real time until the delay is used up.
    """

    def delay(at: float) -> float:
        since = at - begin
        if since < 0:
            return 0.0
        passed = length if drain is None else length + since / drain
        return max(0.0, passed - since)

    return delayed(items, delay)


def jittered(items: Iterable[Item], jitter_s: float, *, in_order: bool) -> list[Item]:
    """Delay each item by a random time up to `jitter_s`."""
    chance = random.Random(7)
    changed: list[Item] = []
    latest = 0.0
    for item in sorted(items, key=lambda item: item.at):
        at = item.at + chance.uniform(0, jitter_s)
        latest = max(latest, at)
        changed.append(replace(item, at=latest if in_order else at))
    return changed


def lost(items: Iterable[Item], which: Iterable[int]) -> list[Item]:
    """Leave out the packets with these indexes; their sound is missing, and known to be lost."""
    gone = set(which)
    return [item for index, item in enumerate(items) if index not in gone]


# -- the numbering -----------------------------------------------------------------------------


def retimed(packets: Sequence[Packet], timestamp: Callable[[int], int]) -> list[Packet]:
    """Give each packet the timestamp that `timestamp` returns for its index, from 0."""
    return [
        replace(packet, timestamp=(FIRST_TIMESTAMP + timestamp(index)) % 2**32)
        for index, packet in enumerate(packets)
    ]


def with_redundancy(packets: Sequence[Packet]) -> list[Packet]:
    """Repeat each payload in the next packet (RED, RFC 2198 § 3)."""
    changed = []
    before: Packet | None = None
    for packet in packets:
        blocks = bytes([packet.payload_type]) + packet.payload
        if before is not None:
            offset = (packet.timestamp - before.timestamp) % 2**32
            repeated = before.payload
            header = (1 << 7 | before.payload_type) << 24 | offset << 10 | len(repeated)
            blocks = (
                header.to_bytes(4, "big") + bytes([packet.payload_type]) + repeated + packet.payload
            )
        changed.append(replace(packet, payload=blocks, payload_type=RED))
        before = packet
    return changed


def from_source(packets: Iterable[Packet], ssrc: int) -> list[Packet]:
    """The packets with another source and other numbers, as after a restart of the sender."""
    return [
        replace(
            packet,
            ssrc=ssrc,
            sequence=(packet.sequence + 4321) % 2**16,
            timestamp=(packet.timestamp + 123_456_789) % 2**32,
        )
        for packet in packets
    ]


def on_connection(items: Iterable[T], number: int) -> list[T]:
    return [replace(item, connection=number) for item in items]
