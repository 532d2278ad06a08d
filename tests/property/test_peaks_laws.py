"""A waveform drawn from a pyramid is the one drawn from the samples."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import QueryInvalid
from domain.recording.ledger import SampleKind, Span
from domain.recording.shares import SpanMap, shares_of
from domain.sound.formats import SampleFormat
from domain.sound.peaks import (
    BASE,
    FACTOR,
    LEVELS,
    Entries,
    Pyramid,
    WaveformBuilder,
    as_s16,
    check_range,
    entry_samples,
    stretches,
)

Pcm = npt.NDArray[np.int16]
RMS_ERROR = LEVELS
"""Each level rounds once."""


def sound(seed: int, length: int, channels: int) -> Pcm:
    """Noise whose loudness changes from block to block, with full scale in it."""
    random = np.random.default_rng(seed)
    loudness = random.integers(0, 33_000, length // 700 + 1).repeat(700)[:length, None]
    values = random.uniform(-1, 1, (length, channels)) * loudness
    return np.clip(values, -32_768, 32_767).astype(np.int16)


def levels_of(samples: Pcm, cuts: list[int]) -> list[Entries]:
    """Build a pyramid of pieces."""
    pyramid = Pyramid(samples.shape[1])
    levels: list[list[Entries]] = [[] for _ in range(LEVELS)]
    edges = [0, *sorted(cut % (len(samples) + 1) for cut in cuts), len(samples)]
    for start, stop in pairwise(edges):
        for new in pyramid.add(samples[start:stop]):
            assert new.first == sum(map(len, levels[new.level]))
            levels[new.level].append(new.entries)
    assert pyramid.length == len(samples)
    none = np.empty((0, samples.shape[1], 3), np.int16)
    return [np.concatenate([none, *level]) for level in levels]


def rms(samples: Pcm) -> npt.NDArray[np.float64]:
    root: npt.NDArray[np.float64] = np.sqrt((samples.astype(np.float64) ** 2).mean(axis=0))
    return root


@given(
    st.integers(0, 99), st.integers(0, 3 * BASE * FACTOR**2), st.integers(1, 2),
    st.lists(st.integers(0, 10**6), max_size=4),
)  # fmt: skip
def test_entries_are_what_their_samples_are(
    seed: int, length: int, channels: int, cuts: list[int]
) -> None:
    samples = sound(seed, length, channels)
    for level, entries in enumerate(levels_of(samples, cuts)):
        size = entry_samples(level)
        assert len(entries) == length // size
        for number, entry in enumerate(entries[:20]):
            run = samples[number * size : (number + 1) * size]
            np.testing.assert_array_equal(entry[:, 0], run.min(axis=0))
            np.testing.assert_array_equal(entry[:, 1], run.max(axis=0))
            np.testing.assert_allclose(entry[:, 2], rms(run), atol=RMS_ERROR)


@given(st.data())
def test_a_waveform_is_that_of_the_samples(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 300_000))
    channels = data.draw(st.integers(1, 2))
    samples = sound(data.draw(st.integers(0, 99)), length, channels)
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    points = data.draw(st.integers(1, 200))
    drawing = WaveformBuilder(start=start, stop=stop, points=points, channels=channels)
    level = drawing.level
    error = 0
    if level is None:
        drawing.add_samples(samples[start:stop], start=start)
    else:
        levels = levels_of(samples, [])
        error = entry_samples(level) // 2
        for item in stretches(level, len(levels[0]), start=start, stop=stop):
            entries = levels[item.level][item.first : item.stop]
            drawing.add(entries, level=item.level, first=item.first)
        tail = max(start, len(levels[0]) * BASE)
        drawing.add_samples(samples[tail:stop], start=tail)
    drawn = drawing.result()
    count = len(drawn.low)
    assert count == min(points, stop - start)
    assert (drawn.bounds[0], drawn.bounds[-1]) == (start, stop)
    assert set(np.diff(drawn.bounds)) <= {(stop - start) // count, (stop - start) // count + 1}
    for number, (begin, end) in enumerate(pairwise(drawn.bounds)):
        # an edge may be off by half an entry
        most = samples[max(0, begin - error) : end + error]
        least = samples[begin + error : max(begin + error, end - error)]
        assert (drawn.low[number] >= most.min(axis=0)).all()
        assert (drawn.high[number] <= most.max(axis=0)).all()
        if len(least):
            assert (drawn.low[number] <= least.min(axis=0)).all()
            assert (drawn.high[number] >= least.max(axis=0)).all()
        if not error:
            np.testing.assert_allclose(drawn.rms[number], rms(most), atol=1)


@given(
    st.integers(0, 99), st.integers(1, 40), st.integers(1, 20), st.integers(1, 2), st.integers(0, 5)
)
def test_intervals_of_whole_entries_are_exact(
    seed: int, points: int, each: int, channels: int, first: int
) -> None:
    """Brute force gives the same values, and no entry counts twice."""
    start, stop = first * BASE, (first + points * (each + 1)) * BASE
    samples = sound(seed, stop + 1000, channels)
    drawing = WaveformBuilder(start=start, stop=stop, points=points, channels=channels)
    levels = levels_of(samples, [])
    for item in stretches(0, len(levels[0]), start=start, stop=stop):
        entries = levels[0][item.first : item.stop]
        drawing.add(entries, level=0, first=item.first)
    drawn = drawing.result()
    runs = samples[start:stop].reshape(points, -1, channels)
    np.testing.assert_array_equal(drawn.low, runs.min(axis=1))
    np.testing.assert_array_equal(drawn.high, runs.max(axis=1))
    expected = np.sqrt((runs.astype(np.float64) ** 2).mean(axis=1))
    np.testing.assert_allclose(drawn.rms, expected, atol=1.5)


def test_parts_that_follow_each_other_are_drawn_as_one() -> None:
    samples = sound(1, 100_000, 2)
    cut = 33_333
    whole = WaveformBuilder(start=10, stop=90_000, points=7, channels=2)
    whole.add_samples(samples[10:90_000], start=10)
    parts = WaveformBuilder(start=10, stop=90_000, points=7, channels=2)
    parts.add_samples(samples[10:cut], start=10)
    parts.add_samples(samples[cut:90_000], start=cut)
    for name in ("low", "high", "rms"):
        one, other = getattr(whole.result(), name), getattr(parts.result(), name)
        np.testing.assert_array_equal(one, other)


def test_mono_is_drawn_in_all_channels_and_what_is_missing_is_silent() -> None:
    drawing = WaveformBuilder(start=0, stop=4 * BASE, points=2, channels=2)
    entries = np.array([[[-5, 7, 3]], [[-6, 2, 4]]], np.int16)
    drawing.add(entries, level=0, first=0)
    drawn = drawing.result()
    assert drawn.low.tolist() == [[-6, -6], [0, 0]]
    assert drawn.high.tolist() == [[7, 7], [0, 0]]
    assert drawn.rms.tolist() == [[4, 4], [0, 0]]


def test_a_closer_look_than_entries_repeats_them() -> None:
    drawing = WaveformBuilder(start=0, stop=2 * BASE, points=8, channels=1)
    entries = np.array([[[-5, 7, 3]], [[-6, 2, 4]]], np.int16)
    drawing.add(entries, level=0, first=0)
    assert drawing.result().low[:, 0].tolist() == [-5] * 4 + [-6] * 4


def test_nothing_is_drawn_of_nothing() -> None:
    drawing = WaveformBuilder(start=5, stop=5, points=100, channels=1)
    assert drawing.level is None
    drawn = drawing.result()
    assert (len(drawn.low), drawn.bounds.tolist()) == (0, [5])


@pytest.mark.parametrize(
    ("given_", "found"), [((0, None), (0, 9)), ((3, 5), (3, 5)), ((9, 20), (9, 9))]
)
def test_a_range_ends_with_the_recording(
    given_: tuple[int, int | None], found: tuple[int, int]
) -> None:
    assert check_range(*given_, 9) == found


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (5, 4), (10, None)])
def test_a_range_outside_the_recording_is_refused(start: int, stop: int | None) -> None:
    with pytest.raises(QueryInvalid, match="there are samples from 0 to 9"):
        check_range(start, stop, 9)


def test_peaks_of_all_formats_have_one_unit() -> None:
    floats = np.array([[-1.0], [0.5]], np.float32)
    assert as_s16(floats, SampleFormat.F32).tolist() == [[-32_768], [16_384]]
    fine = np.array([[-(2**23)], [2**22]], np.int32)
    assert as_s16(fine, SampleFormat.S24).tolist() == [[-32_768], [16_384]]


KINDS = st.sampled_from(list(SampleKind))


@given(
    st.lists(st.tuples(st.integers(1, 500), KINDS), max_size=20), st.integers(0, 3000),
    st.integers(1, 5000), st.integers(1, 40),
)  # fmt: skip
def test_shares_are_counted(
    runs: list[tuple[int, SampleKind]], start: int, length: int, points: int
) -> None:
    labels = [kind for count, kind in runs for _ in range(count)]
    spans, position = [], 0
    for count, kind in runs:
        spans.append(Span(position, count, kind))
        position += count
    bounds = start + np.arange(points + 1) * max(points, length) // points
    shares = shares_of([(100, position, SpanMap.of(spans))], bounds)
    padded = [SampleKind.SILENCE] * 100 + labels + [SampleKind.SILENCE] * (start + length + 99)
    for number, (begin, end) in enumerate(pairwise(bounds)):
        for kind in SampleKind:
            expected = padded[begin:end].count(kind) / (end - begin)
            found = shares[kind][number] if kind in shares else 0.0
            assert found == pytest.approx(expected)
