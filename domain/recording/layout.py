"""What a restored recording consists of: which of its samples come from where."""

from __future__ import annotations

import datetime
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from domain.recording.ledger import (
    ANCHOR,
    LedgerEvent,
    RestoreMode,
    SampleKind,
    timestamp,
)
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import (
    CROSSFADE,
    FILTER_MARGIN_S,
    PADDING,
    PLACED,
    TICK_RATE_HZ,
    Captured,
    Segment,
    quiet_in,
    samples_before,
    ticks_of,
)

UNWRITTEN = 2 * TICK_RATE_HZ
"""Ticks of sound that a page which was killed has sent, but has not written to its spool."""
_HEARD = (SampleKind.RECEIVED, SampleKind.RECOVERED, SampleKind.RESTORED)
"""What was sent by the client, and is not what a decoder made of it."""
_COUNTED = ("length", "fill_samples")
"""Details of events that are in samples."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of samples of a restored recording; all numbers are in its samples.

    What is `restored` is read from the captured sound, everything else from the live recording. It
    is silence where there is no such position.
    """

    length: int
    kind: SampleKind
    live: int | None = None
    """Its position in the live recording."""
    captured: int | None = None
    """Its position in the captured sound."""
    fade_in: int = 0
    """Over how many of its first samples captured sound gives way to live sound."""
    fade_out: int = 0
    """Over how many of its last samples live sound gives way to captured sound."""


@dataclass(frozen=True, slots=True)
class _Move:
    """Samples of the live recording that are at another position now."""

    live: int
    length: int
    position: int


@dataclass(slots=True)
class Layout:
    """A restored recording, from its beginning to its end."""

    rate_hz: int
    runs: list[Run] = field(default_factory=list)
    placed: list[LedgerEvent] = field(default_factory=list)
    """Ties positions to the spool, see `restoring.SpoolMap`."""
    length: int = 0
    """Samples per channel."""
    _moves: list[_Move] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)

    @property
    def restored(self) -> int:
        """Samples of the kind `restored`."""
        return sum(run.length for run in self.runs if run.kind is SampleKind.RESTORED)

    @property
    def begins_s(self) -> float:
        """By how much the recording begins earlier than before, in seconds."""
        if not self._moves:
            return 0.0
        first = self._moves[0]
        return first.position / self.rate_hz - first.live / TICK_RATE_HZ

    def add(self, run: Run) -> None:
        self.runs.append(run)
        self.length += run.length

    def move(self, live: int, length: int, position: int) -> None:
        """Note where a run of the live recording is now."""
        self._moves.append(_Move(live, length, position))
        self._starts.append(live)

    def events(self, events: Iterable[LedgerEvent]) -> list[LedgerEvent]:
        """Return the events of the live recording at their new positions, and where sound is."""
        moved = [self._moved(event) for event in events if event.type != PLACED]
        return sorted([*self.placed, *moved], key=lambda event: event.position)

    def _moved(self, event: LedgerEvent) -> LedgerEvent:
        position, by = self._position(event.position)
        details = dict(event.details)
        if isinstance(until := details.get("until"), int):
            details["until"] = self._position(until)[0]
        for counted in _COUNTED:
            if isinstance(count := details.get(counted), int):
                details[counted] = count * self.rate_hz // TICK_RATE_HZ
        if event.type == ANCHOR and by:
            _adjust(details, by)
        return LedgerEvent(event.type, position, details)

    def _position(self, live: int) -> tuple[int, int]:
        """Return the new position, and how much later the sound is, in ticks of the recording.

        Time that was left out has no position: the sound behind it, or the end, stands for it.
        """
        index = bisect_right(self._starts, live) - 1
        if index >= 0:
            move = self._moves[index]
            inside = live - move.live
            if inside < move.length or index + 1 == len(self._moves):
                kept = min(inside, move.length)
                position = move.position + kept * self.rate_hz // TICK_RATE_HZ
                return min(position, self.length), kept - inside
        if not self._moves:
            return min(live, self.length), 0
        move = self._moves[index + 1]
        return min(move.position, self.length), move.live - live


def _adjust(details: dict[str, object], by: int) -> None:
    """Let an anchor say the same of sound that is `by` ticks later."""
    if isinstance(rtp := details.get("rtp_timestamp"), int):
        details["rtp_timestamp"] = (rtp + by) % 2**32
    if isinstance(at := details.get("at"), str):
        try:
            moment = datetime.datetime.fromisoformat(at)
            details["at"] = timestamp(moment + datetime.timedelta(seconds=by / TICK_RATE_HZ))
        except (ValueError, OverflowError):  # the ledger is damaged there
            return


def restorable(held: RangeSet, captured: Captured | None, *, rate_hz: int) -> RangeSet:
    """Return the ticks whose captured sound is known, to the sample.

    Where the rate is changed, the sound around a sample counts, too. What was never captured is
    known to be silence, but it is not sound.
    """
    margin = 0 if rate_hz == TICK_RATE_HZ else round(FILTER_MARGIN_S * rate_hz)
    known = RangeSet(held)
    known.add(-margin, 0)
    missing = () if captured is None else captured.missing
    if captured is not None:
        known.remove(captured.length, max(captured.length, known.end))
        known.add(captured.length, captured.length + margin)
    for item in missing:
        known.add(item.start, item.end)
    ticks = RangeSet()
    for item in known:
        start, end = max(0, item.start + margin), item.end - margin
        if captured is not None:
            end = min(end, captured.length)
        ticks.add(ticks_of(start, rate_hz), ticks_of(end, rate_hz))
    for item in missing:
        ticks.remove(item.start * TICK_RATE_HZ // rate_hz, ticks_of(item.end, rate_hz))
    return ticks


def is_whole(held: RangeSet, captured: Captured | None) -> bool:
    """Return whether everything that was captured is held."""
    if captured is None:
        return False
    rest = RangeSet([Range(0, captured.length)]).minus(held)
    return not len(rest.minus(RangeSet(captured.missing)))


def has_more(
    segments: Sequence[Segment],
    missing: Sequence[Range],
    *,
    rate_hz: int,
    is_timed: bool = False,
    quiet: RangeSet | None = None,
) -> bool:
    """Return whether more sound was received than was captured.

    It is so if a client's disk was full or damaged. Sound that merely ends a little later than what
    was captured, because of Opus, does not count. Neither does a little sound in the holes of a
    spool that `is_timed` (see `SpoolInfo`): a page that is killed has not written its last block.
    Nor does sound at `quiet` positions, which nobody can hear: some browsers send silence while a
    page captures nothing.
    """
    if segments and segments[-1].captured is None:  # see `segments_of`
        return True
    heard = RangeSet()
    least = PADDING
    if is_timed:
        least += UNWRITTEN + max((item.about for item in segments), default=0)
    for item in segments if missing else ():
        if item.captured is not None and item.kind in _HEARD:
            heard.add(item.captured, item.captured + item.length)
            for found in quiet_in(item, quiet or RangeSet()):
                heard.remove(item.captured + found.start, item.captured + found.end)
    for hole in RangeSet(missing):
        start, end = hole.start * TICK_RATE_HZ // rate_hz, ticks_of(hole.end, rate_hz)
        if sum(found.length for found in heard.within(start, end)) > least:
            return True
    return False


def patched(
    segments: Sequence[Segment], mode: RestoreMode, known: RangeSet, *, fills: bool
) -> Layout:
    """Put captured sound into a live recording, which keeps its format.

    `known` are the ticks that can be restored, see `restorable`. What is wanted and not known
    stays as it is. `fills` tells whether time that is not in the live recording becomes silence
    where it cannot be restored; otherwise only time between restored sound does.
    """
    layout = Layout(TICK_RATE_HZ)
    stalled: tuple[int, int] | None = None  # position and length of the latest stall
    expected: int | None = None  # the next position in the spool
    for item in segments:
        if (segment := item if fills else _without_unknown(item, known)) is None:
            continue
        if segment.live is not None:
            layout.move(segment.live, segment.length, layout.length)
        if segment.captured is None:
            begin, length = stalled or (layout.length, 0)
            stalled = begin, length + segment.length
        for run in _runs(segment, mode, known):
            if run.captured is not None:
                if stalled is not None or run.captured != expected:
                    begin, gap = stalled or (layout.length, 0)
                    layout.placed.append(_placed(begin, gap=gap, ticks=run.captured))
                expected, stalled = run.captured + run.length, None
            layout.add(run)
    layout.runs = list(_with_fades(layout.runs, known))
    return layout


def _without_unknown(segment: Segment, known: RangeSet) -> Segment | None:
    """Cut off time that the live recording has left out and that cannot be restored."""
    if segment.live is not None or segment.captured is None:
        return segment
    found = known.within(segment.captured, segment.captured + segment.length)
    if not found:
        return None
    start, end = found[0].start, found[-1].end
    return replace(segment, length=end - start, captured=start)


def _runs(segment: Segment, mode: RestoreMode, known: RangeSet) -> Iterator[Run]:
    """Divide a segment by what can be restored of it."""
    live, captured = segment.live, segment.captured
    if captured is None or not segment.is_wanted(mode):
        yield Run(segment.length, segment.kind, live, captured)
        return
    position, end = captured, captured + segment.length
    for item in (*known.within(captured, end), Range(end, 0)):
        for length, kind in (
            (item.start - position, segment.kind),
            (item.length, SampleKind.RESTORED),
        ):
            if length:
                at = None if live is None else live + position - captured
                yield Run(length, kind, at, position)
                position += length


def _with_fades(runs: Sequence[Run], known: RangeSet) -> Iterator[Run]:
    """Let received sound begin and end softly where it touches restored sound."""
    for run, before, after in zip(runs, [None, *runs[:-1]], [*runs[1:], None], strict=True):
        if run.kind is not SampleKind.RECEIVED or run.captured is None or run.live is None:
            yield run
            continue
        start, end = run.captured, run.captured + run.length
        seams = [_touch(before, run), _touch(run, after)]
        most = min(CROSSFADE, run.length // max(1, sum(seams)))
        heads = known.within(start, start + most) if seams[0] else ()
        tails = known.within(end - most, end) if seams[1] else ()
        yield replace(
            run,
            fade_in=heads[0].length if heads and heads[0].start == start else 0,
            fade_out=tails[-1].length if tails and tails[-1].end == end else 0,
        )


def _touch(first: Run | None, second: Run | None) -> bool:
    """Return whether one of two runs is restored and they follow each other as they were heard."""
    if first is None or second is None or first.captured is None or second.captured is None:
        return False
    is_seam = SampleKind.RESTORED in (first.kind, second.kind)
    return is_seam and first.captured + first.length == second.captured


def as_captured(
    segments: Sequence[Segment],
    held: RangeSet,
    *,
    length: int,
    missing: Sequence[Range],
    rate_hz: int,
) -> Layout:
    """Lay out `length` captured samples, in the rate of the spool; only stalls are inserted."""
    layout = Layout(rate_hz)
    layout.placed.append(_placed(0, gap=0, ticks=0))
    sound = RangeSet(held).minus(RangeSet(missing))
    position, stalled = 0, 0  # in the spool; length of the latest stall
    stalls = 0  # samples of all stalls
    last = max((index for index, item in enumerate(segments) if item.captured is not None),
               default=-1)  # fmt: skip
    for segment in segments[: last + 1]:
        if segment.captured is None:
            begin = layout.length
            count = round(segment.length * rate_hz / TICK_RATE_HZ)
            layout.add(Run(count, SampleKind.SILENCE))
            stalls, stalled = stalls + count, stalled + count
        else:
            start = min(samples_before(segment.captured, rate_hz), length)
            _add_captured(layout, sound, position, start)
            position = max(position, start)
            if stalled:
                at = layout.length - stalled
                layout.placed.append(_placed(at, gap=stalled, ticks=segment.captured))
                stalled = 0
            begin = start + stalls
            end = min(samples_before(segment.captured + segment.length, rate_hz), length)
            _add_captured(layout, sound, position, end)
            position = max(position, end)
        if segment.live is not None:
            layout.move(segment.live, segment.length, begin)
    _add_captured(layout, sound, position, length)
    return layout


def _add_captured(layout: Layout, sound: RangeSet, start: int, end: int) -> None:
    for item in (*sound.within(start, end), Range(end, 0)) if start < end else ():
        if item.start > start:
            layout.add(Run(item.start - start, SampleKind.SILENCE))
        if item.length:
            layout.add(Run(item.length, SampleKind.RESTORED, None, item.start))
        start = item.end


def _placed(position: int, *, gap: int, ticks: int) -> LedgerEvent:
    return LedgerEvent(PLACED, position, {"gap": gap, "ticks": ticks})
