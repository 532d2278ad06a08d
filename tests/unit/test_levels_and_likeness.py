"""The level meter, and the comparison of recordings."""

from __future__ import annotations

import numpy as np
import pytest

from domain.sound.comparison import compare
from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat
from domain.sound.levels import FLOOR_DBFS, measure

RATE = 48_000


def sine(amplitude: float, seconds: float = 0.1) -> AudioFrame:
    wave = amplitude * np.sin(2 * np.pi * 1000 * np.arange(round(RATE * seconds)) / RATE)
    audio_format = AudioFormat(RATE, 1, SampleFormat.F64)
    return AudioFrame(audio_format, wave.reshape(-1, 1))


def test_a_full_scale_sine_peaks_at_0_and_has_rms_minus_3() -> None:
    levels = measure(sine(1.0))
    assert levels.peak_dbfs == pytest.approx(0, abs=0.01)
    assert levels.rms_dbfs == pytest.approx(-3.01, abs=0.01)
    assert levels.clipped


def test_half_the_amplitude_is_six_decibels_less() -> None:
    levels = measure(sine(0.5))
    assert levels.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert not levels.clipped


def test_silence_stands_at_the_floor() -> None:
    assert measure(sine(0.0)).rms_dbfs == FLOOR_DBFS
    assert measure(sine(0.5, seconds=0)).peak_dbfs == FLOOR_DBFS


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, round(RATE * seconds))


@pytest.mark.parametrize("delay", [0, 1, 312, 5000, -700])
def test_a_delayed_copy_is_found_and_is_the_same(delay: int) -> None:
    sent = noise(1)
    received = np.concatenate([np.zeros(max(0, delay)), sent[max(0, -delay) :]]) * 0.5
    result = compare(sent, received, sample_rate_hz=RATE)
    assert result.delay == delay
    assert result.correlation == pytest.approx(1)
    assert result.level_difference_db == pytest.approx(-6.02, abs=0.01)
    assert result.longest_gap == 0


def test_a_hole_is_seen() -> None:
    sent = noise(1)
    received = sent.copy()
    received[20_000:24_800] = 0
    assert 4_320 <= compare(sent, received, sample_rate_hz=RATE).longest_gap <= 4_800


def test_other_sound_does_not_correlate() -> None:
    other = np.random.default_rng(2).normal(0, 0.1, RATE)
    assert compare(noise(1), other, sample_rate_hz=RATE).correlation < 0.1


def test_silence_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="silent"):
        compare(noise(1), np.zeros(100), sample_rate_hz=RATE)
