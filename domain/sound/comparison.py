"""Compares two recordings: aligns them, then measures correlation, level and dropouts.

A lossy codec preserves what is heard, not the waveform, so a sample-by-sample SNR says little (a
perfect Opus path has about 8 dB). Correlation after alignment, level and length say more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mono = npt.NDArray[np.float64]
"""Shape (n,), full scale ±1.0."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a received signal differs from the one that was sent."""

    delay: int
    """Samples by which the received signal lags; negative when its beginning is missing."""
    correlation: float
    """Correlation over the overlapping part; 1.0 means the same shape."""
    level_difference_db: float
    """RMS level of the received signal relative to the sent one, over the overlapping part."""
    longest_gap: int
    """Longest run of samples below -80 dBFS in the received signal where the sent one has sound."""


def compare(sent: Mono, received: Mono, *, sample_rate_hz: int) -> Comparison:
    """Compare two signals of the same rate; raises `ValueError` if one is empty or silent."""
    if not sent.any() or not received.any():
        raise ValueError("an empty or silent signal cannot be aligned")
    delay = _delay(sent, received)
    a = sent[max(0, -delay) :]
    b = received[max(0, delay) :]
    length = min(len(a), len(b))
    a, b = a[:length], b[:length]
    norm = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return Comparison(
        delay=delay,
        correlation=float(np.dot(a, b)) / norm if norm else 0.0,
        level_difference_db=10 * float(np.log10(np.dot(b, b) / np.dot(a, a))),
        longest_gap=_longest_gap(a, b, window=sample_rate_hz // 200),
    )


def _delay(sent: Mono, received: Mono) -> int:
    """Return the lag with the highest cross-correlation, computed by FFT."""
    size = 1 << (len(sent) + len(received) - 1).bit_length()
    spectrum = np.conj(np.fft.rfft(sent, size)) * np.fft.rfft(received, size)
    lag = int(np.argmax(np.fft.irfft(spectrum, size)))
    return lag if lag < len(received) else lag - size


def _longest_gap(sent: Mono, received: Mono, *, window: int) -> int:
    """Return the longest run of windows where received is below -80 dBFS and sent above -60."""
    count = len(sent) // window
    shape = (count, window)
    loud = np.abs(sent[: count * window]).reshape(shape).max(axis=1) > 10 ** (-60 / 20)
    dead = np.abs(received[: count * window]).reshape(shape).max(axis=1) < 10 ** (-80 / 20)
    longest = run = 0
    for is_gap in loud & dead:
        run = run + 1 if is_gap else 0
        longest = max(longest, run)
    return longest * window
