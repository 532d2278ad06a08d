"""Each sample of a recording is mapped to the sample of the spool that it was captured as."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from domain.recording.ledger import Ledger, LedgerEvent, RestoreMode, SampleKind
from domain.recording.restoring import (
    LOOK_AHEAD,
    PADDING,
    PLACED,
    Captured,
    Restoration,
    Segment,
    segments_of,
)
from domain.sound.formats import AudioFormat, SampleFormat

LOST = (SampleKind.RECOVERED, SampleKind.CONCEALED, SampleKind.SILENCE)


@dataclass
class Written:
    """A recording that is written, and for each sample what it was captured as."""

    ledger: Ledger = field(default_factory=Ledger)
    truth: list[int | None] = field(default_factory=list)
    """The position in the spool of each sample; None for time that nobody captured."""
    ticks: int = -LOOK_AHEAD

    def place(self, *, stalled: int = 0, lost: int = 0, left_out: int = 0) -> None:
        """Go on after silence of `stalled` and `lost` samples; `left_out` have no time."""
        gap = stalled + lost
        start = self.ticks + lost + left_out
        details = {"gap": gap, "ticks": start}
        self.ledger.note(LedgerEvent(PLACED, self.ledger.length, details))
        self.ledger.add(SampleKind.SILENCE, gap)
        self.truth += range(self.ticks, self.ticks + lost)
        self.truth += [None] * stalled
        self.ticks = start

    def record(self, kind: SampleKind, length: int) -> None:
        self.ledger.add(kind, length)
        self.truth += range(self.ticks, self.ticks + length)
        self.ticks += length


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(list(SampleKind)), st.integers(1, 2000)),
        st.builds(dict, stalled=st.just(700), lost=st.sampled_from([0, 480])),
        st.builds(dict, left_out=st.just(333), lost=st.sampled_from([0, 480])),
    ),
    min_size=1,
    max_size=12,
)


@given(STEPS, st.integers(0, 5000), st.integers(-800, 2000))
def test_segments_have_each_captured_sample_once_and_keep_what_was_never_captured(
    steps: list[tuple[SampleKind, int] | dict[str, int]], before: int, behind: int
) -> None:
    written = Written(ticks=before - LOOK_AHEAD)
    written.place()
    for step in steps:
        if isinstance(step, dict):
            written.place(**step)
        else:
            written.record(*step)
    total = max(0, written.ticks + behind)
    spans = list(written.ledger.spans())
    segments = segments_of(spans, written.ledger.events, total=total)
    captured = [
        position
        for segment in segments
        if segment.captured is not None
        for position in range(segment.captured, segment.captured + segment.length)
    ]
    assert captured == list(range(total))
    kinds = [kind for span in spans for kind in [span.kind] * span.length]
    for segment in segments:
        if segment.live is None:
            assert segment.kind is SampleKind.SILENCE
            continue
        for step_in in (0, segment.length - 1):
            live = segment.live + step_in
            assert kinds[live] is segment.kind
            if segment.captured is not None and kinds[live] is not SampleKind.SILENCE:
                assert written.truth[live] == segment.captured + step_in
    never = sum(s.length for s in segments if s.captured is None)
    stalled = written.truth.count(None)
    # what nobody captured at the very end is no part of the sound
    assert never == stalled if total > max(0, written.ticks) else never <= stalled


@given(STEPS, st.integers(0, 2**20))
def test_what_was_received_behind_the_end_of_a_spool_stays(
    steps: list[tuple[SampleKind, int] | dict[str, int]], total: int
) -> None:
    """The client's disk was full: it could not keep all that it captured."""
    written = Written(ticks=-LOOK_AHEAD)
    written.place()
    for step in [*steps, (SampleKind.RECEIVED, 9000), (SampleKind.SILENCE, 700)]:
        if isinstance(step, dict):
            written.place(**step)
        else:
            written.record(*step)
    total %= written.ticks - 700 - PADDING
    spans = list(written.ledger.spans())
    segments = segments_of(spans, written.ledger.events, total=total)
    held = [
        position
        for segment in segments
        if segment.captured is not None
        for position in range(segment.captured, segment.captured + segment.length)
    ]
    assert held == list(range(total))
    live = [
        position
        for segment in segments
        if segment.live is not None
        for position in range(segment.live, segment.live + segment.length)
    ]
    assert len(set(live)) == len(live)
    received = {
        position
        for span in spans
        for position in range(span.start, span.start + span.length)
        if span.kind.has_packet and (written.truth[position] or 0) >= max(total, 0)
    }
    assert received <= set(live)


def test_what_is_wanted_is_what_was_lost_with_room_for_the_seams() -> None:
    segments = [
        Segment(48_000, SampleKind.RECEIVED, 312, 0),
        Segment(960, SampleKind.CONCEALED, 48_312, 48_000),
        Segment(960, SampleKind.DTX, 49_272, 48_960),
        Segment(48_000, SampleKind.SILENCE, None, 49_920),
        Segment(4_800, SampleKind.SILENCE, 50_232, None),
    ]
    spool = AudioFormat(96_000, 2, SampleFormat.S24)
    lost = Restoration(spool, RestoreMode.LOST)
    lost.need(segments)
    ranges = lost.first(10)
    margin = 384 + 1920  # the seam, and the filter that makes 48 kHz of 96 kHz
    # the two losses are so close that their margins meet
    assert [(item.start, item.end) for item in ranges] == [(96_000 - margin, 195_840 + margin)]
    everything = Restoration(spool, RestoreMode.ALL)
    everything.need(segments)
    everything.begin_anew(segments, Captured(195_840, "", ()))
    assert [(item.start, item.end) for item in everything.first(10)] == [(0, 195_840)]
    everything.arrived(everything.first(1))
    assert everything.is_satisfied
