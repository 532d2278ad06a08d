"""What a recording must be like, worked out from the script, and how one differs from it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.senders.recorded import Recorded, Span
from benchmarks.senders.script import Item, Packet

EVENTS = {
    "stall": r"stall|not captured",
    "timestamps": r"timestamp|discontinuity|overlap|irregular",
    "clock": r"clock.*(wrong|fast|slow|skew|off)|skew",
    "reconnected": r"reconnected",
    "outage": r"outage",
    "change": r"codec|channel|format|part",
    "left out": r"left out|rejected",
}
"""The kinds of events that cases expect, by what their types match."""
USUAL = r"anchor|^clock$|retransmitted|^continues$"
"""Types of events that any recording may have."""
EVIDENCE = r"pace|arriv|report|captur"
"""What an event of a stall must say somewhere: the evidence for it."""
ONSET_S = 0.008
"""By which the measured beginning of a tone may be off."""
SMALLEST_HOLE_S = 0.03
"""Holes below this are not looked for in the spans."""
SAMPLE_S = 1 / 48_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must be true of a recording. What is said of sound and holes comes from the script."""

    tolerance_s: float = 0.0
    """Of the length, and of the place of each sound; 0 means exact to the sample."""
    events: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """The smallest and the largest number of events of each kind, see `EVENTS`; of a kind that is
    not named there must be none."""
    hole_kinds: frozenset[str] = frozenset({"silence"})
    """What samples in holes may be."""
    may_lose_s: float = 0.0
    """How much of the sound that was sent need not be `received`."""
    spans: int | None = None
    """The largest number of spans; None derives it from the holes."""
    skew_ppm: tuple[float, float] | None = None
    """Limits of the clock's skew that an event must name."""
    stereo: bool = False
    """Whether two different channels are to be recorded."""
    channels: tuple[int, ...] | None = None
    """The numbers of channels of the files, if they matter."""
    places: bool = True
    """Whether sound and holes must be at their places; otherwise only the length counts."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What was sent, as a recording should have it."""

    length: float
    sound: tuple[tuple[float, float], ...]
    """Begin and end of each stretch of sound."""
    holes: tuple[tuple[float, float], ...]
    onsets: Mapping[int, float]

    @property
    def sound_s(self) -> float:
        return sum(end - begin for begin, end in self.sound)


def truth_of(items: Sequence[Item]) -> Truth:
    packets = sorted(
        (item for item in items if isinstance(item, Packet)), key=lambda item: item.start
    )
    origin = packets[0].start
    sound: list[tuple[float, float]] = []
    onsets: dict[int, float] = {}
    for packet in packets:
        begin = packet.start - origin
        follows = bool(sound) and begin - sound[-1][1] < 0.001
        # after a hole the decoder needs some packets to find the right level
        if packet.tone is not None and (follows or not sound):
            onsets.setdefault(packet.tone, begin)
        if follows:
            sound[-1] = sound[-1][0], max(sound[-1][1], begin + packet.duration)
        else:
            sound.append((begin, begin + packet.duration))
    holes = [(a[1], b[0]) for a, b in itertools.pairwise(sound)]
    return Truth(sound[-1][1], tuple(sound), tuple(holes), onsets)


def differences(recorded: Recorded, truth: Truth, expected: Expected) -> list[str]:
    """Everything about a recording that is not as it must be."""
    problems = list(recorded.problems)
    if not recorded.files:
        return problems
    off = recorded.length - truth.length
    if abs(off) > expected.tolerance_s + SAMPLE_S / 2:
        problems.append(f"{abs(off) * 1000:.2f} ms too {'long' if off > 0 else 'short'}")
    if expected.places:
        problems += place_problems(recorded, truth, expected)
    received = recorded.total("received")
    lost = truth.sound_s - expected.may_lose_s - received
    if lost > expected.tolerance_s + SAMPLE_S / 2:
        problems.append(f"{lost:.3f} s that were sent are not received")
    most = 2 * len(truth.holes) + 1 if expected.spans is None else expected.spans
    if len(recorded.spans) > most:
        problems.append(f"{len(recorded.spans)} spans, not {most}")
    problems += _event_problems(recorded, expected)
    if expected.stereo and recorded.difference < 0.1:
        problems.append("a channel is missing")
    if expected.channels is not None:
        found = tuple(int(ledger["channels"]) for ledger in recorded.ledgers)
        if found != expected.channels:
            problems.append(f"files with {found} channels, not {expected.channels}")
    return problems


def place_problems(recorded: Recorded, truth: Truth, expected: Expected) -> list[str]:
    """What is not where it must be."""
    problems = []
    edge = expected.tolerance_s + SAMPLE_S / 2
    for begin, end in truth.holes:
        if end - begin >= SMALLEST_HOLE_S:
            found = _kinds(recorded.spans, begin + edge, end - edge)
            if found.keys() - expected.hole_kinds:
                problems.append(f"the hole at {begin:.2f} s is {_list(found)}")
    if not expected.may_lose_s:
        for begin, end in truth.sound:
            found = _kinds(recorded.spans, begin + edge, end - edge)
            others = sum(found.values()) - found.get("received", 0.0)
            if others > edge:
                problems.append(f"the sound from {begin:.2f} s on is {_list(found)}")
    for tone, at in truth.onsets.items():
        heard = recorded.onsets.get(tone)
        if heard is None:
            problems.append(f"tone {tone} is missing")
        elif abs(heard - at) > expected.tolerance_s + ONSET_S:
            problems.append(f"tone {tone} is {(heard - at) * 1000:+.0f} ms off its place")
            break  # the others follow from it
    return problems


def _kinds(spans: Sequence[Span], begin: float, end: float) -> dict[str, float]:
    """How many seconds of each kind there are between two moments."""
    kinds: dict[str, float] = {}
    for span in spans:
        within = min(span.end, end) - max(span.start, begin)
        if within > SAMPLE_S:
            kinds[span.kind] = kinds.get(span.kind, 0.0) + within
    return kinds


def _list(kinds: Mapping[str, float]) -> str:
    return ", ".join(f"{kind} for {length:.3f} s" for kind, length in kinds.items()) or "not there"


def named_events(recorded: Recorded) -> dict[str, int]:
    """How many events of each kind a recording has; unknown ones by their types."""
    counts: dict[str, int] = {}
    for event in recorded.events:
        kind = str(event["type"])
        if re.search(USUAL, kind):
            continue
        label = next((name for name, text in EVENTS.items() if re.search(text, kind)), kind)
        counts[label] = counts.get(label, 0) + 1
    return counts


def _event_problems(recorded: Recorded, expected: Expected) -> list[str]:
    problems = []
    counts = named_events(recorded)
    for label in sorted({*counts, *expected.events}):
        least, most = expected.events.get(label, (0, 0))
        if not least <= counts.get(label, 0) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            problems.append(f"{counts.get(label, 0)} events '{label}', not {wanted}")
    if expected.skew_ppm is not None:
        low, high = expected.skew_ppm
        stated = [event["skew_ppm"] for event in recorded.events if "skew_ppm" in event]
        if not any(low <= ppm <= high for ppm in stated):
            problems.append(f"skew_ppm {stated or 'is not stated'}, not {low:.0f} to {high:.0f}")
    for event in recorded.events:
        kind = str(event["type"])
        if re.search(EVENTS["stall"], kind):
            details = " ".join(str(value) for key, value in event.items() if key != "type")
            if not re.search(EVIDENCE, details):
                problems.append("a stall without its evidence")
    return problems
