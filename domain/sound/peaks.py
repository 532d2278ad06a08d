"""Peaks: what a waveform shows of sound, at any zoom.

A pyramid holds the lowest and highest sample and the RMS of each run of `BASE` samples, and of each
`FACTOR` such runs, and so on. So a waveform of hours is drawn from some thousand entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from domain.errors import QueryInvalid
from domain.sound.conversion import convert
from domain.sound.formats import SampleFormat, Samples

BASE = 256
"""Samples of an entry of the lowest level: 5.3 ms at 48 kHz. The pyramid of 16-bit mono then takes
1.2 % of what the sound takes."""
FACTOR = 16
LEVELS = 5
"""An entry of the highest level has 16.8 million samples, 350 s at 48 kHz."""
MAX_POINTS = 4000
VALUES = 3
"""Of an entry, for each channel: lowest sample, highest sample, RMS."""
_LEAST_ENTRIES = 2
"""Entries of an interval, at least, where a level is used: an edge is off by half an entry."""
_HIGHEST = 32_767

Entries: TypeAlias = npt.NDArray[np.int16]
"""Entries of one level, of shape (n, channels, `VALUES`), in units of 16-bit samples."""
Positions: TypeAlias = npt.NDArray[np.int64]


def entry_samples(level: int) -> int:
    """Return the samples per channel of an entry."""
    return BASE * int(FACTOR**level)


def as_s16(samples: Samples, sample_format: SampleFormat) -> npt.NDArray[np.int16]:
    """Return samples in the unit of peaks."""
    return convert(samples, sample_format, SampleFormat.S16)


def measure(samples: npt.NDArray[np.int16]) -> Entries:
    """Measure runs of `BASE` samples; `samples` has shape (n * `BASE`, channels)."""
    count, channels = len(samples) // BASE, samples.shape[1]
    # one channel after another: reducing neighbours takes a tenth of the time
    runs = np.ascontiguousarray(samples.reshape(count, BASE, channels).transpose(2, 0, 1))
    unit = runs.astype(np.float32)
    entries = np.empty((count, channels, VALUES), np.int16)
    entries[..., 0] = runs.min(axis=2).T
    entries[..., 1] = runs.max(axis=2).T
    squares = np.einsum("cns,cns->cn", unit, unit)
    entries[..., 2] = _root(squares / BASE).T
    return entries


def condense(entries: Entries) -> Entries:
    """Return the entries of the next level; their number is a multiple of `FACTOR`."""
    grouped = entries.reshape(-1, FACTOR, entries.shape[1], VALUES)
    condensed = np.empty((len(grouped), entries.shape[1], VALUES), np.int16)
    condensed[..., 0] = grouped[..., 0].min(axis=1)
    condensed[..., 1] = grouped[..., 1].max(axis=1)
    rms = grouped[..., 2].astype(np.float32)
    condensed[..., 2] = _root((rms * rms).mean(axis=1))
    return condensed


def _root(mean_squares: npt.NDArray[Any]) -> npt.NDArray[Any]:
    root: npt.NDArray[Any] = np.minimum(np.rint(np.sqrt(mean_squares)), _HIGHEST)
    return root


@dataclass(frozen=True, slots=True)
class NewEntries:
    """Entries that follow those of their level before."""

    level: int
    first: int
    """The number of the first one in its level."""
    entries: Entries


class Pyramid:
    """Makes the entries of all levels of sound that comes bit by bit. It holds what is not a whole
    entry yet: less than `BASE` samples, and less than `FACTOR` entries of each level.
    """

    def __init__(self, channels: int) -> None:
        self._rest = np.empty((0, channels), np.int16)
        none = np.empty((0, channels, VALUES), np.int16)
        self._pending = [none] * (LEVELS - 1)
        self._counts = [0] * LEVELS
        self.length = 0
        """Samples per channel that were added."""

    def add(self, samples: npt.NDArray[np.int16]) -> list[NewEntries]:
        """Add samples; return the entries that are whole now, those of high levels first."""
        self.length += len(samples)
        joined = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(joined) // BASE * BASE
        self._rest = joined[whole:].copy()
        if not whole:
            return []
        entries, made = measure(joined[:whole]), list[NewEntries]()
        for level in range(LEVELS):
            made.append(NewEntries(level, self._counts[level], entries))
            self._counts[level] += len(entries)
            if level == LEVELS - 1:
                break
            joined_entries = np.concatenate([self._pending[level], entries])
            whole = len(joined_entries) // FACTOR * FACTOR
            self._pending[level] = joined_entries[whole:].copy()
            if not whole:
                break
            entries = condense(joined_entries[:whole])
        return made[::-1]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Entries `first` to `stop` of a level, to be drawn."""

    level: int
    first: int
    stop: int


def stretches(level: int, count: int, *, start: int, stop: int) -> Iterator[Stretch]:
    """Return which entries show the samples from `start` to `stop`.

    They are of `level`, and of lower ones at the end of the `count` whole entries of the lowest.
    """
    reached = 0
    for lower in range(level, -1, -1):
        size = entry_samples(lower)
        end = count * BASE // size * size
        first = max(reached, start) // size
        last = -(-min(end, stop) // size)
        if first < last and reached < end:
            yield Stretch(lower, first, last)
        reached = max(reached, end)


def check_range(start: int, stop: int | None, length: int) -> tuple[int, int]:
    """Return which samples of a recording to draw. Raises `QueryInvalid`."""
    stop = length if stop is None else min(stop, length)
    if not 0 <= start <= stop:
        raise QueryInvalid(f"there are samples from 0 to {length}, not from {start} to {stop}")
    return start, stop


@dataclass(frozen=True, slots=True)
class Waveform:
    """Intervals of equal length, each of shape (points, channels), in units of 16-bit samples."""

    bounds: Positions
    """Where each interval begins, and the last one ends."""
    low: npt.NDArray[np.int32]
    high: npt.NDArray[np.int32]
    rms: npt.NDArray[np.int32]


class WaveformBuilder:
    """Draws a waveform from entries and samples.

    An edge between two intervals is moved to the nearest edge between two entries, so that each
    entry belongs to one interval.
    """

    def __init__(self, *, start: int, stop: int, points: int, channels: int) -> None:
        """There is an interval for each sample if there are fewer samples than `points`."""
        self.start, self.stop = start, stop
        length = stop - start
        count = min(points, length)
        numbers = np.arange(count + 1, dtype=np.int64)
        self.bounds: Positions = start + numbers * length // max(1, count)
        self.channels = channels
        shape = (count, channels)
        self._low = np.full(shape, np.iinfo(np.int32).max, np.int32)
        self._high = np.full(shape, np.iinfo(np.int32).min, np.int32)
        self._squares = np.zeros(shape)
        self._counts = np.zeros((count, 1))

    @property
    def level(self) -> int | None:
        """The level to draw from; None if that has to be the samples themselves."""
        count = len(self._low)
        interval = int(self.bounds[-1] - self.bounds[0]) / max(1, count)
        fitting = [
            level for level in range(LEVELS) if entry_samples(level) * _LEAST_ENTRIES <= interval
        ]
        return fitting[-1] if fitting else None

    def add(self, entries: Entries, *, level: int, first: int, start: int = 0) -> None:
        """Draw entries, the first of which has number `first` in sound that begins at `start`.

        Mono is drawn in all channels.
        """
        size = entry_samples(level)
        begin = start + first * size
        low, high, rms = (entries[..., value] for value in range(VALUES))
        squares = rms.astype(np.float64) ** 2
        if len(self._low) and self.bounds[-1] - self.bounds[0] < size * len(self._low):
            self._spread(low, high, squares, begin=begin, size=size)
        else:
            self._add(low, high, squares, begin=begin, size=size)

    def add_samples(self, samples: npt.NDArray[np.int16], *, start: int) -> None:
        """Draw samples of shape (n, channels) that begin at `start`."""
        self._add(samples, samples, None, begin=start, size=1)

    def _add(
        self,
        low: npt.NDArray[Any],
        high: npt.NDArray[Any],
        squares: npt.NDArray[Any] | None,
        *,
        begin: int,
        size: int,
    ) -> None:
        edges = np.clip((2 * (self.bounds - begin) + size) // (2 * size), 0, len(low))
        (drawn,) = np.nonzero(edges[1:] > edges[:-1])
        if not len(drawn):
            return
        starts, end = edges[drawn], int(edges[-1])
        for channel in range(self.channels):
            source = min(channel, low.shape[1] - 1)
            lows = np.ascontiguousarray(low[:end, source])
            highs = lows if high is low else np.ascontiguousarray(high[:end, source])
            if squares is None:
                unit = lows.astype(np.float32)
                power = unit * unit
            else:
                power = squares[:end, source]
            column = (drawn, channel)
            self._low[column] = np.minimum(self._low[column], np.minimum.reduceat(lows, starts))
            self._high[column] = np.maximum(self._high[column], np.maximum.reduceat(highs, starts))
            self._squares[column] += np.add.reduceat(power, starts) * size
        self._counts[drawn, 0] += (edges[drawn + 1] - starts) * size

    def _spread(
        self,
        low: npt.NDArray[Any],
        high: npt.NDArray[Any],
        squares: npt.NDArray[Any],
        *,
        begin: int,
        size: int,
    ) -> None:
        """Draw entries that are longer than an interval in all intervals that they reach."""
        middles = (self.bounds[:-1] + self.bounds[1:]) // 2 - begin
        (drawn,) = np.nonzero((middles >= 0) & (middles < len(low) * size))
        found = middles[drawn] // size
        for channel in range(self.channels):
            source, column = min(channel, low.shape[1] - 1), (drawn, channel)
            self._low[column] = low[found, source]
            self._high[column] = high[found, source]
            self._squares[column] = squares[found, source]
        self._counts[drawn, 0] = 1

    def result(self) -> Waveform:
        """Return the waveform; an interval without any sound is silent."""
        is_known = self._counts > 0
        rms = _root(self._squares / np.maximum(self._counts, 1)).astype(np.int32)
        return Waveform(
            self.bounds,
            np.where(is_known, self._low, 0).astype(np.int32),
            np.where(is_known, self._high, 0).astype(np.int32),
            rms,
        )


def join_rows(rows: npt.NDArray[np.int32]) -> Sequence[Sequence[int]]:
    """Return values of shape (points, channels) as a list for each channel."""
    found: Sequence[Sequence[int]] = rows.T.tolist()
    return found
