"""What is restored is what was captured: the comparison finds each sample that is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.recording.ledger import LedgerEvent, SampleKind, Span
from domain.recording.restoring import PADDING, PLACED
from domain.recording.source_comparison import SourceComparison, SourceVerdict
from domain.sound.conversion import convert, mix_channels
from domain.sound.formats import AudioFormat, SampleFormat, Samples

RATE = 8_000
MONO = AudioFormat(RATE, 1)
FINE = AudioFormat(RATE, 2, SampleFormat.S24)
RECEIVED, RESTORED, SILENCE = SampleKind.RECEIVED, SampleKind.RESTORED, SampleKind.SILENCE


def noise(length: int, audio_format: AudioFormat = MONO) -> Samples:
    limit = 1 << (audio_format.sample_format.bits - 1)
    shape = (length, audio_format.channels)
    drawn = np.random.default_rng(3).integers(-limit, limit, shape)
    return drawn.astype(audio_format.sample_format.dtype)


def placed(position: int, gap: int, captured: int) -> LedgerEvent:
    """The sound captured at sample `captured` follows after the gap."""
    return LedgerEvent(PLACED, position, {"gap": gap, "ticks": captured * 48_000 // RATE})


def spans_of(*pieces: tuple[SampleKind, int]) -> list[Span]:
    spans, position = [], 0
    for kind, length in pieces:
        spans.append(Span(position, length, kind))
        position += length
    return spans


def cut(source: Samples, start: int, length: int) -> Samples:
    """Return a part of the source, with silence around it."""
    part = np.zeros((length, source.shape[1]), dtype=source.dtype)
    first, last = max(0, start), max(0, min(len(source), start + length))
    if last > first:
        part[first - start : last - start] = source[first:last]
    return part


def compared(
    recording: Samples,
    source: Samples,
    spans: Sequence[Span],
    events: Sequence[LedgerEvent] = (),
    *,
    recorded_as: AudioFormat = MONO,
    captured_as: AudioFormat = MONO,
    is_whole: bool = True,
) -> SourceVerdict:
    comparison = SourceComparison(recorded_as, captured_as, len(source), spans, events)
    for run in comparison.runs():
        assert run.length <= recorded_as.sample_rate_hz
        needed = comparison.needed(run)
        comparison.add(
            run,
            recording[run.start : run.start + run.length],
            cut(source, needed.start, needed.length),
            captured_as.sample_format,
        )
    return comparison.result("captured.wav", length=len(recording), is_whole=is_whole)


@given(
    runs=st.lists(st.tuples(st.integers(1, 9_000), st.integers(0, 3_000)), min_size=1, max_size=5),
    data=st.data(),
)
def test_every_changed_sample_is_found_between_stalls(
    runs: list[tuple[int, int]], data: st.DataObject
) -> None:
    total = sum(length for length, _ in runs)
    source = noise(total)
    parts, pieces, events, captured, position = [], [], [placed(0, 0, 0)], 0, 0
    for length, stall in runs:
        parts += [source[captured : captured + length], np.zeros((stall, 1), "<i2")]
        pieces += [(RESTORED, length), (SILENCE, stall)]
        captured += length
        position += length
        if stall:
            events.append(placed(position, stall, captured))
        position += stall
    recording = np.concatenate(parts)
    spans = [span for span in spans_of(*pieces) if span.length]
    verdict = compared(recording, source, spans, events)
    assert (verdict.restored, verdict.equal, verdict.problems) == (total, total, [])
    where = data.draw(st.sampled_from([span for span in spans if span.kind is RESTORED]))
    changed = data.draw(st.integers(where.start, where.start + where.length - 1))
    recording[changed] ^= 1
    verdict = compared(recording, source, spans, events)
    assert (verdict.equal, verdict.first_difference) == (total - 1, changed)
    (problem,) = verdict.problems
    assert f"1 of {total} restored samples are not those of captured.wav" in problem


def test_restored_sound_before_the_first_connection_is_compared_too() -> None:
    source = noise(5_000)
    # what was received begins after 1200 samples, and the event was moved there
    spans = spans_of((RESTORED, 1_200), (RECEIVED, 3_800))
    verdict = compared(source, source, spans, [placed(1_200, 0, 1_200)])
    assert (verdict.restored, verdict.equal, verdict.problems) == (1_200, 1_200, [])


def test_restored_sound_in_a_gap_goes_on_where_the_sound_before_it_ended() -> None:
    source = noise(6_000)
    # the client stalled for 500 samples after 1000 that were lost
    recording = np.concatenate([source[:3_000], np.zeros((500, 1), "<i2"), source[3_000:]])
    spans = spans_of((RECEIVED, 2_000), (RESTORED, 1_000), (SILENCE, 500), (RECEIVED, 3_000))
    events = [placed(0, 0, 0), placed(2_000, 1_500, 3_000)]
    verdict = compared(recording, source, spans, events)
    assert (verdict.restored, verdict.equal, verdict.problems) == (1_000, 1_000, [])
    assert verdict.received_likeness is not None
    assert verdict.received_likeness.correlation == pytest.approx(1)


@pytest.mark.parametrize("missing", [1, 700])
def test_a_recording_that_is_too_short_is_a_problem(missing: int) -> None:
    source = noise(3_000)
    spans = spans_of((RESTORED, 3_000 - missing))
    verdict = compared(source[: 3_000 - missing], source, spans)
    assert verdict.equal == verdict.restored
    assert [f"it has {3_000 - missing} samples, and not the 3000" in said
            for said in verdict.problems] == [True]  # fmt: skip
    assert not compared(source[: 3_000 - missing], source, spans, is_whole=False).problems


def test_sound_that_was_received_after_the_spool_had_ended_stays() -> None:
    source = noise(3_000)
    recording = np.concatenate([source, noise(PADDING + 1)])
    spans = spans_of((RESTORED, 3_000), (RECEIVED, PADDING + 1))
    verdict = compared(recording, source, spans)
    assert (verdict.equal, verdict.problems) == (3_000, [])
    # live sound may end a little later, but then it is cut off
    spans = spans_of((RESTORED, 3_000), (RECEIVED, PADDING))
    assert len(compared(recording[:-1], source, spans).problems) == 1


def test_restored_sound_behind_the_end_of_the_source_is_a_difference() -> None:
    source = noise(3_000)
    recording = np.concatenate([source, np.zeros((5, 1), "<i2")])
    verdict = compared(recording, source, spans_of((RESTORED, 3_005)))
    assert (verdict.equal, verdict.first_difference) == (3_000, 3_000)
    assert len(verdict.problems) == 2


def test_a_recording_in_another_depth_has_what_conversion_gives() -> None:
    source = noise(4_000, FINE)
    recording = convert(mix_channels(source, FINE.sample_format, 1), SampleFormat.S24,
                        SampleFormat.S16)  # fmt: skip
    verdict = compared(recording, source, spans_of((RESTORED, 4_000)), captured_as=FINE)
    assert (verdict.equal, verdict.problems) == (4_000, [])


def test_every_bit_of_24_counts() -> None:
    source = noise(4_000, FINE)
    recording = source.copy()
    recording[1_234, 1] ^= 1
    spans = spans_of((RESTORED, 4_000))
    verdict = compared(recording, source, spans, recorded_as=FINE, captured_as=FINE)
    assert (verdict.equal, verdict.first_difference) == (3_999, 1_234)


@pytest.mark.parametrize("delay", [-5, 0, 3])
def test_received_sound_is_looked_for_near_its_place(delay: int) -> None:
    source = noise(20_000)
    quieter = np.rint(np.roll(source, delay, axis=0) * 0.5).astype("<i2")
    verdict = compared(quieter, source, spans_of((RECEIVED, 20_000)), [placed(0, 0, 0)])
    likeness = verdict.received_likeness
    assert likeness is not None
    assert likeness.delay == delay
    assert likeness.correlation > 0.999
    assert likeness.level_difference_db == pytest.approx(-6.02, abs=0.01)
    assert (verdict.restored, verdict.problems) == (0, [])


def test_a_tone_is_not_found_a_period_away() -> None:
    tone = np.sin(2 * np.pi * 2_000 * np.arange(RATE) / RATE).reshape(-1, 1)  # four samples each
    sound = np.rint(tone * 10_000).astype("<i2")
    verdict = compared(sound, sound, spans_of((RECEIVED, RATE)), [placed(0, 0, 0)])
    assert verdict.received_likeness is not None
    assert verdict.received_likeness.delay == 0


def test_the_look_ahead_and_the_tail_of_a_live_recording_are_left_out() -> None:
    source = noise(5_000)
    lead, tail = noise(52)[::-1], noise(80)[::-1]
    recording = np.concatenate([lead, source, tail])
    verdict = compared(recording, source, spans_of((RECEIVED, 5_132)), [placed(0, 0, -52)])
    assert verdict.received_likeness is not None
    assert verdict.received_likeness.length == 5_000
    assert verdict.received_likeness.correlation == pytest.approx(1)
    assert verdict.problems == []


def test_a_recording_without_a_spool_cannot_be_compared() -> None:
    sound = noise(100)
    verdict = compared(sound, sound, spans_of((RECEIVED, 100)))
    assert verdict.problems == ["its ledger does not tell where it lies in captured.wav"]


def test_at_another_rate_restored_sound_has_to_be_alike() -> None:
    # the caller has changed the rate of the source already
    source, other = noise(RATE * 2), AudioFormat(RATE * 2, 1)
    spans = spans_of((RESTORED, RATE * 2))
    same = compared(source, source, spans, captured_as=other)
    assert same.equal is None
    assert same.restored_likeness is not None
    assert same.restored_likeness.correlation == pytest.approx(1)
    assert same.problems == []
    wrong = source.copy()
    wrong[RATE:] = wrong[RATE:][::-1]
    (problem,) = compared(wrong, source, spans, captured_as=other).problems
    assert f"{RATE} restored samples do not sound like" in problem
    assert f"at sample {RATE} " in problem


@given(st.lists(st.builds(
    LedgerEvent, st.just(PLACED), st.integers(-(10**12), 10**12),
    st.dictionaries(st.sampled_from(["gap", "ticks"]),
                    st.integers(-(10**12), 10**12) | st.floats() | st.none() | st.text())
)))  # fmt: skip
def test_any_events_give_a_verdict(events: list[LedgerEvent]) -> None:
    sound = noise(200)
    compared(sound, sound, spans_of((RECEIVED, 100), (RESTORED, 100)), events)


def test_received_sound_of_another_source_is_a_problem() -> None:
    source, other = noise(8_000), noise(16_000)[8_000:]
    spans, events = spans_of((RECEIVED, 8_000)), [placed(0, 0, 0)]
    assert not compared(source, source, spans, events).problems
    (problem,) = compared(other, source, spans, events).problems
    assert "not that of captured.wav" in problem
