"""What of a recording its client can give back, from the sound that it has captured."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from domain.recording.ledger import LedgerEvent, RestoreMode, SampleKind, Span
from domain.recording.ranges import Range, RangeSet
from domain.sound.formats import AudioFormat

TICK_RATE_HZ = 48_000
"""Rate of the RTP clock of Opus (RFC 7587 § 4.1); a recording of Opus has this sample rate."""
LOOK_AHEAD = 312
"""By how much Opus delays sound, in ticks: an encoder's look-ahead (`OPUS_GET_LOOKAHEAD`)."""
PLACED = "spool"
"""The type of the ledger events that tie a recording's positions to those of a spool."""
CROSSFADE = 192
"""Ticks (4 ms) of received sound over which restored sound is blended in and out."""
PADDING = 6072
"""Ticks by which live sound may end later than what was captured: the longest Opus frame, and the
look-ahead."""
ABOUT = 3 * TICK_RATE_HZ
"""By how many ticks an estimate of where sound is in a spool may be wrong, see `SpoolInfo`."""
TAIL = TICK_RATE_HZ // 2
"""Ticks that a page may send behind the end of its spool when it stops one after the other."""
FILTER_MARGIN_S = 0.02
"""More sound than this is not needed around a piece to change its rate."""


def agreed(server: RestoreMode, client: RestoreMode) -> RestoreMode:
    """Return the mode for a recording: `off` wins, and `all` wins over `lost`."""
    for mode in (RestoreMode.OFF, RestoreMode.ALL):
        if mode in (server, client):
            return mode
    return RestoreMode.LOST


@dataclass(frozen=True, slots=True)
class SpoolInfo:
    """What a client says of its spool with an offer.

    A browser does not tell a page the RTP timestamps of what it sends. So a page says how much it
    has captured so far. The axis of its spool then has to be time: what it could not capture is
    silence in the spool, and `missing`.
    """

    rtp_timestamp: int | None
    """The timestamp of the Opus frame whose first input sample is the spool's position 0; None if
    the client does not know it, and tells `position`."""
    format: AudioFormat
    mode: RestoreMode = RestoreMode.LOST
    """How the client wants to restore."""
    started_at: datetime.datetime | None = None
    """When position 0 was captured, by the client's clock."""
    position: int | None = None
    """Samples of the spool that were captured when the offer was sent."""
    told_at: float | None = None
    """When the offer arrived (monotonic seconds of the server)."""


@dataclass(frozen=True, slots=True)
class Captured:
    """What a client says when it has captured everything; all in samples of its spool."""

    length: int
    sha256: str
    """Of the PCM, in hexadecimal, with silence for what was never captured."""
    missing: tuple[Range, ...] = ()
    """What the client itself has not captured: device unplugged, buffer overrun."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of a restored recording, in ticks."""

    length: int
    kind: SampleKind
    """What the live recording has for it; silence if it has nothing."""
    live: int | None
    """Its position in the live recording; None if that has no time for it."""
    captured: int | None
    """Its position in the spool, in ticks; None if the client never captured this time."""
    about: int = 0
    """By how many ticks that position may be wrong."""

    def is_wanted(self, mode: RestoreMode) -> bool:
        """Return whether it is to be replaced by what was captured."""
        return self.captured is not None and mode.wants(self.kind)


class SpoolMap:
    """Follows a recording as it is written, and tells where its samples are in the spool.

    The segments that its calls return follow each other on the spool's time axis, without a gap
    and without an overlap. Between them is only time that the client never captured: the sender
    stalled.

    Where a position in the spool is an estimate (`about`), the axis of the spool is time, too. Time
    that the recording has and that axis has not is an error of the estimate, and in no segment.
    """

    def __init__(self) -> None:
        self._position = 0  # in the live recording
        self._next = 0  # what the next live sample is in the spool
        self._told = 0  # all captured sound before this is in a segment
        self._silence = 0  # live samples to come that are in segments already
        self._is_placed = False
        self.about = 0
        """By how many ticks the place of what is recorded now may be wrong."""

    @property
    def reached(self) -> int:
        """The ticks of the spool that the recording covers so far."""
        return self._told

    def continue_at(self, position: int, ticks: int) -> None:
        """Continue a recording of `position` samples, whose last one was captured before `ticks`.

        What it lacks of the sound before is not told.
        """
        self._position = position
        self._next = self._told = ticks
        self._is_placed = True

    def placed(self, *, gap: int, ticks: int, about: int | None = None) -> list[Segment]:
        """Note that after `gap` samples of silence the sound captured at `ticks` follows.

        `about` is by how much an estimate of `ticks` may be wrong; None if it is none.
        """
        segments: list[Segment] = []
        if about and self._is_placed:  # sound behind other sound was captured behind it
            ticks = min(max(ticks, self._told), ticks + about)
        unsure, self.about = max(self.about, about or 0), about or 0
        # silence for what is in a segment already, or lies before the spool
        again = min(gap, max(0, min(self._told, ticks) - self._next))
        position, silent = self._position + again, gap - again
        lost = max(0, ticks - self._told)
        beside = min(silent, lost)
        if beside:
            segments.append(Segment(beside, SampleKind.SILENCE, position, self._told, unsure))
        if lost > beside:  # the recording has left out time
            at = self._told + beside
            segments.append(Segment(lost - beside, SampleKind.SILENCE, None, at, unsure))
        if silent > beside and about is None:  # the sender captured nothing
            at = position + beside
            segments.append(Segment(silent - beside, SampleKind.SILENCE, at, None))
        if about and self._is_placed and not segments:  # there may be time between, unknown yet
            segments.append(Segment(0, SampleKind.SILENCE, None, self._told, unsure))
        self._is_placed = True
        self._next = ticks
        self._told += lost
        self._silence = gap
        return segments

    def recorded(self, length: int, kind: SampleKind) -> list[Segment]:
        """Note that samples were appended to the live recording."""
        known = min(self._silence, length)
        self._silence -= known
        self._position += known
        length -= known
        if not self._is_placed:
            self._position += length
            return []
        # Opus delays the first sound; and what two connections have sent is needed once
        again = min(max(0, self._told - self._next), length)
        self._position += again
        self._next += again
        length -= again
        if not length:
            return []
        segment = Segment(length, kind, self._position, self._next, self.about)
        self._position += length
        self._next += length
        self._told = self._next
        return [segment]


def segments_of(
    spans: Iterable[Span],
    events: Iterable[LedgerEvent],
    *,
    total: int | None = None,
    quiet: RangeSet | None = None,
) -> list[Segment]:
    """Return the segments of a whole recording, by its ledger.

    `total` is the number of ticks that were captured, if the client has told it: the segments then
    end there. Only sound that a client has sent and lost stays behind them, with no place in the
    spool: a killed client may not have written its last sound. `quiet` are positions of received
    sound that nobody can hear; they do not count there. Events that cannot be read are left out.
    """
    spool_map, found = SpoolMap(), []
    placements = [placement for event in events if (placement := placement_of(event)) is not None]
    placements.sort(key=lambda item: item.position)
    index, position = 0, 0
    for span in spans:
        end = span.start + span.length
        while position < end:
            while index < len(placements) and placements[index].position <= position:
                placed = placements[index]
                found += spool_map.placed(gap=placed.gap, ticks=placed.ticks, about=placed.about)
                index += 1
            cut = min(end, placements[index].position) if index < len(placements) else end
            found += spool_map.recorded(cut - position, span.kind)
            position = cut
    if total is None:
        return found
    if spool_map.reached < total:
        rest = total - spool_map.reached
        return [*found, Segment(rest, SampleKind.SILENCE, None, spool_map.reached, spool_map.about)]
    is_timed = any(item.about is not None for item in placements)
    padding = PADDING + TAIL if is_timed else PADDING
    return _with_end(found, total, padding, quiet or RangeSet())


@dataclass(frozen=True, slots=True)
class Placement:
    """After `gap` samples from `position` on, the sound follows that was captured at `ticks`."""

    position: int
    gap: int
    ticks: int
    about: int | None = None
    """By how many ticks an estimate may be wrong; None if `ticks` are no estimate."""

    @property
    def start(self) -> int:
        """The position of the sound."""
        return self.position + self.gap


def placement_of(event: LedgerEvent) -> Placement | None:
    """Return what a `PLACED` event says; None for other events, and for damaged ones."""
    if event.type != PLACED:
        return None
    try:
        gap, about = max(0, int(event.details["gap"])), event.details.get("about")
        unsure = None if about is None else min(max(0, int(about)), ABOUT)
        return Placement(event.position, gap, int(event.details["ticks"]), unsure)
    except (KeyError, OverflowError, TypeError, ValueError):
        return None


def _with_end(segments: list[Segment], total: int, padding: int, quiet: RangeSet) -> list[Segment]:
    """Let segments that reach the last captured tick end there, or with sound only received.

    Sound that is not longer than `padding` ends with the last captured tick.
    """
    kept: list[Segment] = []
    behind: list[Segment] = []
    for segment in segments:
        if behind or (segment.captured is not None and segment.captured >= total):
            behind.append(replace(segment, captured=None))
        elif segment.captured is None or segment.captured + segment.length <= total:
            kept.append(segment)
        else:
            length = total - segment.captured
            kept.append(replace(segment, length=length))
            live = None if segment.live is None else segment.live + length
            rest = segment.length - length
            behind.append(replace(segment, length=rest, live=live, captured=None))
    while behind and behind[-1].kind in (SampleKind.SILENCE, SampleKind.DTX):
        behind.pop()
    unsure = max((segment.about for segment in behind), default=0)
    heard = sum(item.length - quiet_in(item, quiet).total for item in behind)
    if heard > padding + unsure:
        return kept + behind
    while kept and kept[-1].captured is None:
        kept.pop()
    return kept


def quiet_in(segment: Segment, quiet: RangeSet) -> RangeSet:
    """Return which samples of a segment are at `quiet` positions, counted from its beginning."""
    if segment.live is None:
        return RangeSet()
    found = quiet.within(segment.live, segment.live + segment.length)
    return RangeSet(Range(item.start - segment.live, item.length) for item in found)


def samples_before(ticks: int, rate_hz: int) -> int:
    """Return how many whole samples of a spool lie before a position in ticks."""
    return ticks * rate_hz // TICK_RATE_HZ


def ticks_of(samples: int, rate_hz: int) -> int:
    """Return the ticks that samples of a spool last, rounded up."""
    return -(-samples * TICK_RATE_HZ // rate_hz)


def wanted_range(segment: Segment, mode: RestoreMode, rate_hz: int) -> Range:
    """Return the samples of a spool that are needed for a segment.

    Where only some sound is replaced, that is more than the segment: for the seams, for the filter
    that changes the rate, and for what is not known of its place.
    """
    assert segment.captured is not None
    margin = 0
    if mode is RestoreMode.LOST:
        margin = -(-(CROSSFADE + segment.about) * rate_hz // TICK_RATE_HZ)
        if rate_hz != TICK_RATE_HZ:
            margin += round(FILTER_MARGIN_S * rate_hz)
    start = max(0, samples_before(segment.captured, rate_hz) - margin)
    end = -(-(segment.captured + segment.length) * rate_hz // TICK_RATE_HZ) + margin
    return Range(start, end - start)


class Restoration:
    """What is wanted of one spool. All positions are in samples of the spool."""

    def __init__(
        self, audio_format: AudioFormat, mode: RestoreMode, held: Iterable[Range] = ()
    ) -> None:
        self._rate_hz = audio_format.sample_rate_hz
        self._mode = mode
        self._held = RangeSet(held)
        self._wanted = RangeSet()
        self._has_recording = False
        self.captured: Captured | None = None
        """What the client has captured, once it has said so."""

    @property
    def has_sound(self) -> bool:
        """Whether there is a recording, or something for one."""
        return self._has_recording or bool(len(self._held))

    @property
    def wanted_length(self) -> int:
        """The number of samples that are wanted."""
        return self._wanted.total

    @property
    def is_satisfied(self) -> bool:
        """Whether the client has said what it has captured, and nothing of it is wanted."""
        return self.captured is not None and not len(self._wanted)

    def need(self, segments: Sequence[Segment]) -> None:
        """Ask for what the segments lack."""
        for segment in segments:
            self._has_recording |= segment.live is not None
            if not segment.is_wanted(self._mode):
                continue
            needed = wanted_range(segment, self._mode, self._rate_hz)
            self._wanted.add(needed.start, needed.end)
            for held in self._held.within(needed.start, needed.end):
                self._wanted.remove(held.start, held.end)
        self._limit()

    def begin_anew(self, segments: Sequence[Segment], captured: Captured | None) -> None:
        """Ask for what the segments of the whole recording lack, and for nothing else."""
        self.captured = captured
        self._wanted = RangeSet()
        self.need(segments)

    def arrived(self, ranges: Iterable[Range]) -> None:
        """Note what is held from now on."""
        for item in ranges:
            self._held.add(item.start, item.end)
            self._wanted.remove(item.start, item.end)

    def within(self, start: int, length: int) -> Sequence[Range]:
        """Return what is wanted of a piece."""
        return self._wanted.within(start, start + length)

    def first(self, limit: int) -> list[Range]:
        """Return the first ranges that are wanted, at most `limit` of them."""
        return list(itertools.islice(self._wanted, limit))

    def first_held(self, limit: int) -> list[Range]:
        """Return the first ranges that are held, at most `limit` of them."""
        return list(itertools.islice(self._held, limit))

    def _limit(self) -> None:
        if (captured := self.captured) is not None:
            self._wanted.remove(captured.length, max(captured.length, self._wanted.end))
            for missing in captured.missing:
                self._wanted.remove(missing.start, missing.end)
