"""Laws of sample conversion, for all formats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from domain.sound.conversion import convert, convert_frame, mix_channels, pack, unpack
from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat, Samples

FORMATS = list(SampleFormat)
INTEGERS = [f for f in FORMATS if not f.is_float]


def elements(sample_format: SampleFormat) -> st.SearchStrategy[Any]:
    if sample_format.is_float:
        return st.floats(-1, 1, width=32)
    if sample_format is SampleFormat.U8:
        return st.integers(0, 255)
    limit = 2 ** (sample_format.bits - 1)
    return st.integers(-limit, limit - 1)


@st.composite
def samples(draw: st.DrawFn, sample_format: SampleFormat, channels: int | None = None) -> Samples:
    width = draw(st.integers(1, 6)) if channels is None else channels
    shape = (draw(st.integers(0, 40)), width)
    return draw(
        hnp.arrays(sample_format.dtype, shape, elements=elements(sample_format), fill=st.nothing())
    )


@st.composite
def formatted(draw: st.DrawFn, choices: list[SampleFormat]) -> tuple[SampleFormat, Samples]:
    sample_format = draw(st.sampled_from(choices))
    return sample_format, draw(samples(sample_format))


def unit(values: Samples, sample_format: SampleFormat) -> Samples:
    """Scale samples to ±1, independently of the code under test."""
    wide = values.astype(np.float64)
    if sample_format.is_float:
        return wide
    if sample_format is SampleFormat.U8:
        return (wide - 128) / 128
    return wide / 2.0 ** (sample_format.bits - 1)


def lsb(sample_format: SampleFormat) -> float:
    """Return the size of one step, as a fraction of full scale."""
    if sample_format is SampleFormat.F32:
        return 2.0**-23
    if sample_format is SampleFormat.F64:
        return 2.0**-52
    return 2.0 ** -(sample_format.bits - 1)


@given(formatted(FORMATS), st.booleans())
def test_pack_and_unpack_are_inverse(given_: tuple[SampleFormat, Samples], planar: bool) -> None:
    sample_format, values = given_
    audio_format = AudioFormat(48_000, values.shape[1], sample_format)
    data = pack(values, sample_format, planar=planar)
    assert len(data) == len(values) * audio_format.bytes_per_frame
    np.testing.assert_array_equal(unpack(data, audio_format, planar=planar), values)


@given(st.sampled_from(FORMATS), st.integers(1, 6), st.binary(max_size=200), st.booleans())
def test_bytes_survive_conversion_to_samples_and_back(
    sample_format: SampleFormat, channels: int, data: bytes, planar: bool
) -> None:
    audio_format = AudioFormat(8_000, channels, sample_format)
    whole = data[: len(data) // audio_format.bytes_per_frame * audio_format.bytes_per_frame]
    values = unpack(whole, audio_format, planar=planar)
    assert pack(values, sample_format, planar=planar) == whole


@given(st.sampled_from(FORMATS), st.integers(1, 6), st.binary(min_size=1, max_size=100))
def test_bytes_that_are_no_whole_samples_are_refused(
    sample_format: SampleFormat, channels: int, data: bytes
) -> None:
    audio_format = AudioFormat(8_000, channels, sample_format)
    if len(data) % audio_format.bytes_per_frame:
        with pytest.raises(ValueError, match="not a multiple"):
            unpack(data, audio_format)


@given(formatted(FORMATS), st.sampled_from(FORMATS))
def test_conversion_is_true_to_one_lsb_of_the_coarser_format(
    given_: tuple[SampleFormat, Samples], target: SampleFormat
) -> None:
    source, values = given_
    converted = convert(values, source, target)
    assert converted.shape == values.shape
    assert converted.dtype == target.dtype
    # half a step for rounding; a whole step where +1.0 saturates at the largest integer
    bound = max(lsb(source) if source.is_float else 0.0, lsb(target))
    error = np.abs(unit(converted, target) - unit(values, source))
    assert error.size == 0 or error.max() <= bound


@given(formatted(INTEGERS), st.sampled_from(FORMATS))
def test_widening_and_back_changes_nothing(
    given_: tuple[SampleFormat, Samples], wide: SampleFormat
) -> None:
    source, values = given_
    mantissa = {SampleFormat.F32: 24, SampleFormat.F64: 53}.get(wide, wide.bits)
    if mantissa >= source.bits:
        np.testing.assert_array_equal(convert(convert(values, source, wide), wide, source), values)


@given(formatted(INTEGERS), st.sampled_from(INTEGERS))
def test_narrowing_rounds_to_nearest_within_half_an_lsb_unless_it_saturates(
    given_: tuple[SampleFormat, Samples], target: SampleFormat
) -> None:
    source, values = given_
    if target.bits >= source.bits:
        return
    error = np.abs(unit(convert(values, source, target), target) - unit(values, source))
    highest = unit(values, source) > 1 - 1.5 * lsb(target)
    assert np.all((error <= lsb(target) / 2) | highest)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30))
def test_wild_floats_become_samples_and_never_wrap(values: list[float]) -> None:
    wild = np.array(values, dtype="<f8").reshape(-1, 1)
    for target in INTEGERS:
        result = unit(convert(wild, SampleFormat.F64, target), target)
        loud = np.abs(np.nan_to_num(wild, nan=0.0)) >= 1
        assert np.all(np.sign(result[loud]) == np.sign(wild[loud]))
        assert np.all(np.abs(result[np.isnan(wild)]) == 0)


@given(formatted(FORMATS), st.integers(1, 6))
def test_mixing_gives_the_channels_asked_for_and_keeps_the_length(
    given_: tuple[SampleFormat, Samples], channels: int
) -> None:
    sample_format, values = given_
    mixed = mix_channels(values, sample_format, channels)
    assert mixed.shape == (len(values), channels)
    assert mixed.dtype == values.dtype


@given(st.sampled_from(FORMATS).flatmap(lambda f: st.tuples(st.just(f), samples(f, channels=1))))
def test_mono_to_many_and_back_changes_nothing(given_: tuple[SampleFormat, Samples]) -> None:
    sample_format, values = given_
    for channels in (2, 3, 6):
        many = mix_channels(values, sample_format, channels)
        np.testing.assert_array_equal(mix_channels(many, sample_format, 1), values)


def test_frames_of_another_rate_are_refused() -> None:
    frame = AudioFrame(AudioFormat(44_100, 1), np.zeros((10, 1), dtype="<i2"))
    with pytest.raises(ValueError, match="resampling"):
        convert_frame(frame, AudioFormat(48_000, 1))
