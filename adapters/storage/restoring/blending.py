"""Brings captured sound to the format of a recording, and blends it with what was received."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from adapters.storage.restoring.pcm import PcmReader
from domain.ports.codec import Resampler
from domain.recording.restoring import FILTER_MARGIN_S
from domain.sound.conversion import convert_frame
from domain.sound.formats import AudioFormat, AudioFrame, Samples, silence

ResamplerFactory = Callable[[AudioFormat, AudioFormat], Resampler]
"""Makes a resampler from one format to another."""


class CapturedSound:
    """What was captured, in the format of a recording.

    A sample is the same whatever else is read: where the rate is changed, that is done second by
    second, with more sound on both sides than the filter needs.
    """

    def __init__(
        self, pcm: PcmReader, target: AudioFormat, make_resampler: ResamplerFactory
    ) -> None:
        self._pcm = pcm
        self._target = target
        self._make_resampler = make_resampler
        self._second = -1
        """The second that was read last."""
        self._resampled = silence(target, 0)

    def read(self, start: int, length: int) -> Samples:
        """Return samples at positions of the recording's rate. Raises `OSError`."""
        source, target = self._pcm.format, self._target
        if source.sample_rate_hz == target.sample_rate_hz:
            frame = AudioFrame(source, self._pcm.read(start, length))
            return convert_frame(frame, target).samples
        found, position, rate_hz = [silence(target, 0)], start, target.sample_rate_hz
        while position < start + length:
            second, skipped = divmod(position, rate_hz)
            count = min(start + length - position, rate_hz - skipped)
            found.append(self._read_second(second)[skipped : skipped + count])
            position += count
        return np.concatenate(found)

    def _read_second(self, second: int) -> Samples:
        if second != self._second:
            self._resampled, self._second = self._resample(second), second
        return self._resampled

    def _resample(self, second: int) -> Samples:
        source, target = self._pcm.format, self._target
        # both ends are at samples of either rate, so that the filter always has the same phase
        common = math.gcd(source.sample_rate_hz, target.sample_rate_hz)
        steps = math.ceil(FILTER_MARGIN_S * common)
        margin = steps * source.sample_rate_hz // common
        skipped = steps * target.sample_rate_hz // common
        begin = second * source.sample_rate_hz - margin
        samples = self._pcm.read(begin, source.sample_rate_hz + 2 * margin)
        resampler = self._make_resampler(source, target)
        frames = [*resampler.push(AudioFrame(source, samples)), *resampler.flush()]
        whole = np.concatenate([frame.samples for frame in frames])
        return whole[skipped : skipped + target.sample_rate_hz]


def fade(first: Samples, second: Samples) -> Samples:
    """Let one sound give way to another one; both have the same shape (n, channels)."""
    weights = np.arange(1, len(first) + 1, dtype=np.float64)[:, np.newaxis] / (len(first) + 1)
    mixed = first * (1 - weights) + second * weights
    if first.dtype.kind != "f":
        mixed = np.rint(mixed)
    return mixed.astype(first.dtype)
