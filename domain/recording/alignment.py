"""Finds where received sound is in what was captured, by what both have heard.

A page does not know which RTP timestamp its sound has, so the server estimates where it is in the
page's spool. Received sound was encoded and decoded, but it is like what was captured: windows of
it are looked for around the estimate. Where a sound repeats itself, or nothing is heard, the
estimate stays.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from domain.recording.ledger import LedgerEvent
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import PLACED, TICK_RATE_HZ, Placement, placement_of
from domain.sound.formats import AudioFormat

ALIGNED = "aligned"
"""The type of the ledger events that tell where sound was found."""
WINDOW = TICK_RATE_HZ
"""Ticks that are looked for at once."""
MAX_WINDOWS = 20
"""Windows of one run."""
MAX_RUNS = 50
"""Runs that are looked for, the longest ones: each takes up to a second of work."""
_USUAL = 2 * TICK_RATE_HZ
"""Samples of all channels in a second of a usual spool. One with more takes more work for a run."""
_LEAST_RUNS = 4
MAX_EVENTS = 1000
"""Events of this type in one ledger, and events that are added to find it out."""
_HOLE = TICK_RATE_HZ // 5
"""A shorter hole is not worth while to look for sound behind it."""
_SHORTEST = TICK_RATE_HZ // 5
_MAX_LOOKS = 3 * MAX_WINDOWS
"""Windows that are read to find some that have sound in them."""
_FIRST = 8
"""Windows that are looked for in the whole range, unless they do not agree."""
_STEP = 6
"""The whole range is searched at a sixth of the rate: speech is below 4 kHz."""
_QUIET = 1e-4
"""RMS of the compared band; quieter sound is noise of the codec."""
_LEAST_RECEIVED = 0.5
_LEAST_LIKE = 0.15
"""Below this, a window is not found. Two that agree by chance are less like it, too."""
_LIKE = 0.5
"""Less likeness than this needs three windows that agree."""
_SINGLE = 0.7
"""What a window needs that has no others to agree with; no other place may be as like by half."""
_OTHER = 0.9
"""A window whose second best place is as like by this much may be at either."""
_NEAR = TICK_RATE_HZ // _STEP // 300
"""Places that are as near as this (3 ms) to the best one are the same."""
_AGREE = 4
"""Windows agree if their places differ by at most so much (0.5 ms at a sixth of the rate)."""
_FINE = 48
"""Ticks around the place that was found in which the exact one is."""
_SPREAD = 24
"""Windows that differ more (0.5 ms) are not used."""

Mono: TypeAlias = npt.NDArray[np.float64]
"""Shape (n,), full scale ±1.0, at 48 kHz."""


class Sounds(Protocol):
    """What was received, and what was captured. Calls raise `OSError`."""

    def received(self, position: int, length: int) -> tuple[Mono, Mono]:
        """Return samples of the recording, and 1.0 for each that was received, else 0.0."""

    def captured(self, ticks: int, length: int) -> Mono:
        """Return samples of the spool; what is not known of it is silence."""


@dataclass(frozen=True, slots=True)
class TimedRun:
    """Sound of a recording whose place in the spool is an estimate."""

    position: int
    """Of the `PLACED` event."""
    start: int
    """Of its sound in the recording."""
    length: int
    ticks: int
    """The estimate of where `start` is in the spool."""
    about: int
    """By how much that may be wrong."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where a run was found."""

    shift: int
    """By how many ticks it is later in the spool than was estimated."""
    residual: int
    """By how many ticks a window differs from that at most."""
    correlation: float
    """The median of the windows; 1.0 means the same shape."""
    windows: int


@dataclass(frozen=True, slots=True)
class _Window:
    offset: int
    """From the beginning of the run."""
    sound: Mono
    """In the band that is compared; 0 where nothing was received."""
    received: Mono


@dataclass(frozen=True, slots=True)
class _Match:
    place: int
    likeness: float
    other: float
    """The likeness of the best place that is not near."""


def timed_runs(events: Iterable[LedgerEvent], length: int) -> list[TimedRun]:
    """Return the runs of a recording of `length` samples whose places are estimates, in order."""
    placed = sorted(
        (item for event in events if (item := placement_of(event)) is not None),
        key=lambda item: item.position,
    )
    ends = [item.position for item in placed[1:]] + [length]
    return [
        TimedRun(item.position, item.start, end - item.start, item.ticks, item.about)
        for item, end in zip(placed, ends, strict=True)
        if item.about and end > item.start
    ]


def looked_for(runs: Iterable[TimedRun], spool: AudioFormat) -> list[TimedRun]:
    """Return the runs that are worth the work, the longest first.

    Eight channels at 384 kHz take 8 s for each run: then there are fewer.
    """
    share = min(1.0, _USUAL / (spool.sample_rate_hz * spool.channels))
    most = max(_LEAST_RUNS, int(MAX_RUNS * share))
    return sorted(runs, key=lambda run: run.length, reverse=True)[:most]


def divided(
    events: Sequence[LedgerEvent], holes: Iterable[Range], length: int
) -> list[LedgerEvent]:
    """Return events that place the sound behind each of a spool's holes anew, at its estimate.

    A page fills a hole by its clock, which errs, too: so what was received before and behind it is
    looked for separately. Some browsers send silence meanwhile, and nothing else tells of the hole.
    `holes` are in ticks; the longest ones count. At most `MAX_EVENTS` events are added: a page may
    say of all its runs that they are at the same place.
    """
    longest = sorted(holes, key=lambda hole: hole.length, reverse=True)[:MAX_RUNS]
    middles = sorted(hole.start + hole.length // 2 for hole in longest if hole.length >= _HOLE)
    added: list[LedgerEvent] = []
    for run in timed_runs(events, length):
        first = bisect.bisect_right(middles, run.ticks)
        for ticks in middles[first : bisect.bisect_left(middles, run.ticks + run.length)]:
            details = {"gap": 0, "ticks": ticks, "about": run.about}
            if len(added) == MAX_EVENTS:
                break
            added.append(LedgerEvent(PLACED, run.start + ticks - run.ticks, details))
    return sorted([*events, *added], key=lambda event: event.position)


def align(run: TimedRun, known: RangeSet, sounds: Sounds) -> Alignment | None:
    """Find a run in what was captured; None if its sound does not tell where it is.

    `known` are the ticks of the spool that are known. Raises what `sounds` raise.
    """
    windows = list(_windows(run, known, sounds))
    first = [_search(run, window, sounds) for window in windows[:_FIRST]]
    place = _agreed(first, of=len(windows))
    if place is None and len(windows) > _FIRST:
        more = [_search(run, window, sounds) for window in windows[_FIRST:]]
        place = _agreed([*first, *more], of=len(windows))
    if place is None:
        return None
    fine = [_refine(run, window, place, sounds) for window in windows]
    found = sorted((item.place, item.likeness) for item in fine if item is not None)
    if not found:
        return None
    shift = found[len(found) // 2][0]
    used = [(at, likeness) for at, likeness in found if abs(at - shift) <= _SPREAD]
    likenesses = sorted(likeness for _, likeness in used)
    return Alignment(
        shift=shift,
        residual=max(abs(at - shift) for at, _ in used),
        correlation=likenesses[len(likenesses) // 2],
        windows=len(used),
    )


def realigned(events: Sequence[LedgerEvent], found: Mapping[int, Alignment]) -> list[LedgerEvent]:
    """Return events that place the sound where it was found, and say so.

    `found` has the alignments by the positions of their runs. What was not found is placed as the
    nearest sound that was: both axes are time.
    """
    placed = {
        event.position: item
        for event in events
        if (item := placement_of(event)) is not None and item.about is not None
    }
    anchors = [placed[position] for position in sorted(found) if position in placed]
    result: list[LedgerEvent] = []
    told = 0
    for event in events:
        item = placement_of(event)
        if item is None or item.about is None:
            result.append(event)
            continue
        alignment = found.get(event.position)
        if alignment is None:
            alignment = Alignment(_shift_like_the_nearest(item, anchors, found), item.about, 0.0, 0)
        ticks, about = item.ticks + alignment.shift, alignment.residual
        result.append(replace(event, details={**event.details, "ticks": ticks, "about": about}))
        told += 1
        if told <= MAX_EVENTS:
            result.append(_event(item, alignment))
    return result


def _event(item: Placement, alignment: Alignment) -> LedgerEvent:
    details: dict[str, object] = {
        "shift": alignment.shift,
        "residual_samples": alignment.residual,
        "windows": alignment.windows,
    }
    if alignment.windows:
        details["correlation"] = round(alignment.correlation, 3)
    return LedgerEvent(ALIGNED, item.start, details)


def _shift_like_the_nearest(
    item: Placement, anchors: Sequence[Placement], found: Mapping[int, Alignment]
) -> int:
    if not anchors:
        return 0
    index = bisect.bisect(anchors, item.start, key=lambda anchor: anchor.start)
    beside = anchors[max(0, index - 1) : index + 1]
    nearest = min(beside, key=lambda anchor: abs(anchor.start - item.start))
    known = found[nearest.position].shift
    shift = nearest.ticks + known + item.start - nearest.start - item.ticks
    # Of another connection: an offer that took long makes its estimate early, never late. Where the
    # shift says that it is late, the recording lacks time between the two.
    return shift if shift == known else max(0, shift)


def _windows(run: TimedRun, known: RangeSet, sounds: Sounds) -> Iterator[_Window]:
    """Read windows that have sound in them, from everywhere in the run."""
    length = min(WINDOW, run.length)
    if length < _SHORTEST:
        return
    count = 0
    for offset in _offsets(run, known, length):
        samples, received = sounds.received(run.start + offset, length)
        if received.mean() < _LEAST_RECEIVED:
            continue
        sound = _band(samples) * received
        if np.sqrt(np.mean(sound**2)) < _QUIET:
            continue
        yield _Window(offset, sound, received)
        count += 1
        if count == MAX_WINDOWS:
            return


def _offsets(run: TimedRun, known: RangeSet, length: int) -> list[int]:
    """Choose where windows begin: evenly in what is known, in an order that is even as well."""
    rooms = [
        (item.start - run.ticks, item.length - length + 1)
        for item in known.within(run.ticks, run.ticks + run.length)
        if item.length >= length
    ]
    if not rooms:
        begin, end = run.ticks - run.about, run.ticks + run.length + run.about
        if not known.within(begin, end):
            return []
        rooms = [(0, run.length - length + 1)]  # it is known where the estimate is not
    ends = np.cumsum([room for _, room in rooms])
    total = int(ends[-1])
    offsets: dict[int, None] = {}
    for number in range(_MAX_LOOKS):
        at = int(_spread(number) * total)
        index = int(np.searchsorted(ends, at, side="right"))
        begin, room = rooms[index]
        offset = begin + at - (int(ends[index]) - room)
        if all(abs(offset - other) >= length // 2 for other in offsets):
            offsets[offset] = None
    return list(offsets)


def _spread(number: int) -> float:
    """Return numbers in [0, 1) that fill it evenly (van der Corput's sequence)."""
    value, part = 0.0, 0.5
    while number:
        value += part * (number & 1)
        number, part = number >> 1, part / 2
    return value


def _band(samples: Mono) -> Mono:
    """Keep about 0.7 to 4 kHz: below, codecs move the phase; above, they make up the sound."""
    if len(samples) < 2 * 33:
        return np.zeros_like(samples)
    smooth = np.convolve(samples, np.full(7, 1 / 7), "same")
    return np.asarray(smooth - np.convolve(smooth, np.full(33, 1 / 33), "same"))


def _search(run: TimedRun, window: _Window, sounds: Sounds) -> _Match | None:
    """Look for a window in the whole range of the estimate, at a fraction of the rate."""
    reach, length = run.about // _STEP * _STEP, len(window.sound) // _STEP * _STEP
    begin = run.ticks + window.offset - reach
    captured = _band(sounds.captured(begin, length + 2 * reach))[::_STEP]
    likeness = _likeness(window.sound[:length:_STEP], window.received[:length:_STEP], captured)
    best = int(np.argmax(likeness))
    if likeness[best] < _LEAST_LIKE:
        return None
    apart = np.concatenate([likeness[: max(0, best - _NEAR)], likeness[best + _NEAR + 1 :]])
    other = float(apart.max()) if len(apart) else 0.0
    return _Match(best * _STEP - reach, float(likeness[best]), max(0.0, other))


def _likeness(sound: Mono, received: Mono, captured: Mono) -> Mono:
    """Return the correlation at each place; only what was received counts."""
    size = 1 << (len(captured) - 1).bit_length()
    count = len(captured) - len(sound) + 1
    both = np.fft.rfft(captured, size) * np.conj(np.fft.rfft(sound, size))
    power = np.fft.rfft(captured**2, size) * np.conj(np.fft.rfft(received, size))
    products, energies = np.fft.irfft(both, size)[:count], np.fft.irfft(power, size)[:count]
    own = float(np.dot(sound, sound))
    least = max(own * 1e-3, 1e-12)  # where next to nothing was captured, nothing is alike
    return np.asarray(products / np.sqrt(np.maximum(energies, least) * max(own, 1e-12)))


def _agreed(matches: Sequence[_Match | None], *, of: int) -> int | None:
    """Return where most windows are that can be at one place only; None if they do not agree.

    `of` is the number of all windows of the run.
    """
    sure = sorted(
        (item for item in matches if item is not None and item.other <= _OTHER * item.likeness),
        key=lambda item: item.place,
    )
    if of == 1:
        clear = [item for item in sure if item.other <= _SINGLE * item.likeness >= _SINGLE**2]
        return clear[0].place if clear else None
    best: list[_Match] = []
    for index, item in enumerate(sure):
        near = [other for other in sure[index:] if other.place - item.place <= _AGREE * _STEP]
        best = max(best, near, key=len)
    likeness = sorted(item.likeness for item in best)[len(best) // 2] if best else 0.0
    if len(best) < (2 if likeness >= _LIKE else 3) or 2 * len(best) <= len(sure):
        return None
    return best[len(best) // 2].place


def _refine(run: TimedRun, window: _Window, place: int, sounds: Sounds) -> _Match | None:
    """Look for the exact place of a window around the one that was found."""
    begin = run.ticks + window.offset + place - _FINE
    margin = 33  # so that the band is right at both ends
    read = sounds.captured(begin - margin, len(window.sound) + 2 * (_FINE + margin))
    captured = _band(read)[margin:-margin]
    likeness = _likeness(window.sound, window.received, captured)
    best = int(np.argmax(likeness))
    if likeness[best] < _LEAST_LIKE or best in (0, 2 * _FINE):
        return None
    return _Match(place + best - _FINE, float(likeness[best]), 0.0)
