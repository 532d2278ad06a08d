"""Compares a recording with what was captured: restored sound sample by sample, received sound by
its likeness.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from domain.recording.ledger import LedgerEvent, SampleKind, Span
from domain.recording.ranges import Range
from domain.recording.restoring import PADDING, placement_of, samples_before
from domain.sound.conversion import convert, mix_channels
from domain.sound.formats import AudioFormat, SampleFormat, Samples

WINDOW_S = 1.0
"""At most this much is compared at once."""
MAX_DELAY_S = 0.001
"""Received sound is looked for within this distance of its place."""
MIN_CORRELATION = 0.99
"""Restored sound whose rate was changed is at least this much like what was captured."""
UNLIKE = 0.3
"""Received sound that is less like the source than this is that of another one."""
QUIET_DBFS, SHORT_S = -60.0, 0.005
"""Quieter or shorter sound says too little about its likeness to be judged by it."""

_Mono: TypeAlias = npt.NDArray[np.float64]
"""Shape (n,), full scale ±1.0."""


@dataclass(frozen=True, slots=True)
class Run:
    """Samples of a recording, of one kind, that are to be compared."""

    start: int
    length: int
    kind: SampleKind
    captured: int
    """Where they are in the source, in samples at the recording's rate."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much recorded sound is like what was captured."""

    length: int
    """Samples per channel that were compared."""
    correlation: float
    """1.0 means the same shape."""
    delay: int
    """Samples by which the recording lags."""
    level_difference_db: float
    """RMS level of the recording relative to what was captured."""

    def as_json(self) -> dict[str, Any]:
        return {
            "samples": self.length,
            "correlation": round(self.correlation, 5),
            "delay_samples": self.delay,
            "level_difference_db": round(self.level_difference_db, 3),
        }


@dataclass(frozen=True, slots=True)
class SourceVerdict:
    """The result of comparing a recording with what was captured."""

    source: str
    """The path of the file with what was captured."""
    restored: int = 0
    """Restored samples per channel."""
    equal: int | None = None
    """How many of them are those of the source; None if their rates differ."""
    first_difference: int | None = None
    """Position of the first one that is not."""
    restored_likeness: Likeness | None = None
    """Of restored sound, if its rate is not that of the source."""
    received_likeness: Likeness | None = None
    problems: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        restored, received = self.restored_likeness, self.received_likeness
        return {
            "file": self.source,
            "restored_samples": self.restored,
            "equal_samples": self.equal,
            "first_difference": self.first_difference,
            "restored": None if restored is None else restored.as_json(),
            "received": None if received is None else received.as_json(),
        }


class SourceComparison:
    """Compares a recording with its source, run by run.

    For each of `runs`, `add` gets the recorded samples and those of the source that `needed` names.
    """

    def __init__(
        self,
        recording: AudioFormat,
        source: AudioFormat,
        source_length: int,
        spans: Sequence[Span],
        events: Iterable[LedgerEvent],
    ) -> None:
        """`source_length` is in samples per channel at the recording's rate."""
        self._recording = recording
        self._is_exact = recording.sample_rate_hz == source.sample_rate_hz
        self._source_length = source_length
        self._spans = spans
        self._restored = sum(span.length for span in spans if span.kind is SampleKind.RESTORED)
        self._places = _places(events, recording.sample_rate_hz)
        if not self._places and self._restored:
            self._places = [(0, 0)]
        self._max_delay = round(MAX_DELAY_S * recording.sample_rate_hz)
        self._equal = self._unlike = 0
        self._first_difference: int | None = None
        self._restored_likeness = _Correlation(self._max_delay)
        self._received_likeness = _Correlation(self._max_delay)

    def runs(self) -> Iterator[Run]:
        """Return what is to be compared, in order, in runs of at most `WINDOW_S`."""
        if not self._places:
            return
        window = round(WINDOW_S * self._recording.sample_rate_hz)
        starts = [start for start, _ in self._places]
        for span in self._spans:
            if span.kind not in (SampleKind.RESTORED, SampleKind.RECEIVED):
                continue
            position, end = span.start, span.start + span.length
            while position < end:
                index = max(0, bisect_right(starts, position) - 1)
                start, captured = self._places[index]
                following = starts[index + 1] if index + 1 < len(starts) else end
                cut = min(end, position + window, following)
                run = Run(position, cut - position, span.kind, captured + position - start)
                position = cut
                if (within := self._within(run)) is not None:
                    yield within

    def needed(self, run: Run) -> Range:
        """Return what `add` needs of the source; what lies outside of the source is silence."""
        if self._is_exact and run.kind is SampleKind.RESTORED:
            return Range(run.captured, run.length)
        return Range(run.captured - self._max_delay, run.length + 2 * self._max_delay)

    def add(
        self, run: Run, recorded: Samples, captured: Samples, captured_as: SampleFormat
    ) -> None:
        """Compare a run; both arrays have the shape (n, channels)."""
        if run.kind is SampleKind.RESTORED and self._is_exact:
            self._add_exact(run, recorded, captured, captured_as)
            return
        channels = min(recorded.shape[1], captured.shape[1])
        heard = _mono(recorded, self._recording.sample_format, channels)
        source = _mono(captured, captured_as, channels)
        if run.kind is SampleKind.RECEIVED:
            self._received_likeness.add(heard, source)
            return
        self._restored_likeness.add(heard, source)
        if not self._is_alike(heard, source):
            self._unlike += run.length
            self._note_difference(run.start)

    def result(self, source: str, *, length: int, is_whole: bool) -> SourceVerdict:
        """Return the verdict on a recording of `length` samples.

        `is_whole` says that it should have all that was captured.
        """
        problems = list(self._problems(source))
        if is_whole and self._restored and (problem := self._length_problem(source, length)):
            problems.append(problem)
        return SourceVerdict(
            source,
            restored=self._restored,
            equal=self._equal if self._is_exact else None,
            first_difference=self._first_difference,
            restored_likeness=self._restored_likeness.result(),
            received_likeness=self._received_likeness.result(),
            problems=problems,
        )

    def _within(self, run: Run) -> Run | None:
        """Cut from received sound what lies outside of the source: Opus' look-ahead, the tail."""
        if run.kind is SampleKind.RESTORED:
            return run
        early = max(0, -run.captured)
        length = min(run.length, self._source_length - run.captured) - early
        if length <= 0:
            return None
        return Run(run.start + early, length, run.kind, run.captured + early)

    def _add_exact(
        self, run: Run, recorded: Samples, captured: Samples, captured_as: SampleFormat
    ) -> None:
        mixed = mix_channels(captured, captured_as, self._recording.channels)
        expected = convert(mixed, captured_as, self._recording.sample_format)
        is_equal = np.all(recorded == expected, axis=1)
        # no sample is that of the source where the source has none
        is_equal[: max(0, -run.captured)] = False
        is_equal[max(0, self._source_length - run.captured) :] = False
        equal = int(np.count_nonzero(is_equal))
        self._equal += equal
        if equal < run.length:
            self._note_difference(run.start + int(np.argmin(is_equal)))

    def _is_alike(self, heard: _Mono, source: _Mono) -> bool:
        """Return whether restored sound lies where it belongs, to a sample: rates may not match."""
        aside = self._max_delay - 1
        near = _Correlation(1)
        near.add(heard, source[aside : len(source) - aside])
        likeness = near.result()
        is_short = len(heard) < SHORT_S * self._recording.sample_rate_hz
        return (
            is_short
            or likeness is None
            or near.source_dbfs < QUIET_DBFS
            or likeness.correlation >= MIN_CORRELATION
        )

    def _note_difference(self, position: int) -> None:
        if self._first_difference is None:
            self._first_difference = position

    def _problems(self, source: str) -> Iterator[str]:
        if not self._places:
            yield f"its ledger does not tell where it lies in {source}"
        received = self._received_likeness.result()
        is_loud = self._received_likeness.source_dbfs >= QUIET_DBFS
        if received is not None and is_loud and received.correlation < UNLIKE:
            yield f"its received sound is not that of {source}"
        if self._first_difference is None:
            return
        at_s = self._first_difference / self._recording.sample_rate_hz
        where = f"the first at sample {self._first_difference} ({at_s:.3f} s)"
        if self._is_exact:
            differ = f"{self._restored - self._equal} of {self._restored} restored samples"
            yield f"{differ} are not those of {source}, {where}"
        else:
            yield f"{self._unlike} restored samples do not sound like {source}, {where}"

    def _length_problem(self, source: str, length: int) -> str | None:
        position, captured = self._places[-1]
        stalled = position - captured
        expected = self._source_length + stalled
        if abs(length - expected) <= (0 if self._is_exact else 1):
            return None
        if length - expected > PADDING and self._spans[-1].kind is not SampleKind.RESTORED:
            return None  # a spool that ended early: what was received after it stays
        stalls = f" and {stalled} in which nothing was captured" if stalled else ""
        return f"it has {length} samples, and not the {self._source_length} of {source}{stalls}"


class _Correlation:
    """Correlates sound with a source at several delays; in all that was added they are the same."""

    def __init__(self, max_delay: int) -> None:
        self._max_delay = max_delay
        count = 2 * max_delay + 1
        self._products = np.zeros(count)
        self._source_energy = np.zeros(count)
        self._energy = 0.0
        self._length = 0

    @property
    def source_dbfs(self) -> float:
        """RMS level of the source."""
        power = float(self._source_energy[self._max_delay]) / max(1, self._length)
        return 10 * float(np.log10(max(power, 1e-20)))

    def add(self, heard: _Mono, source: _Mono) -> None:
        """Add sound; `source` has `max_delay` samples more at both ends."""
        size = 1 << (len(source) - 1).bit_length()
        spectrum = np.conj(np.fft.rfft(heard, size)) * np.fft.rfft(source, size)
        self._products += np.fft.irfft(spectrum, size)[: len(self._products)]
        summed = np.concatenate([[0.0], np.cumsum(source * source)])
        self._source_energy += summed[len(heard) :] - summed[: len(self._products)]
        self._energy += float(np.dot(heard, heard))
        self._length += len(heard)

    def result(self) -> Likeness | None:
        """Return the likeness at the best delay; None if one of the two is silent."""
        norms = np.sqrt(self._source_energy * self._energy)
        if not self._length or not norms[self._max_delay] > 0:
            return None
        found = np.divide(self._products, norms, out=np.zeros_like(norms), where=norms > 0)
        # a tone is the same at several delays: the shortest is right
        best = min(np.flatnonzero(found >= found.max() - 1e-6), key=self._distance)
        level = 10 * float(np.log10(self._energy / self._source_energy[best]))
        return Likeness(self._length, float(found[best]), self._max_delay - int(best), level)

    def _distance(self, index: Any) -> int:
        return abs(int(index) - self._max_delay)


def _mono(samples: Samples, sample_format: SampleFormat, channels: int) -> _Mono:
    mixed = mix_channels(samples, sample_format, channels)
    return np.asarray(convert(mixed, sample_format, SampleFormat.F64).mean(axis=1))


def _places(events: Iterable[LedgerEvent], rate_hz: int) -> list[tuple[int, int]]:
    """Return positions of a recording, with where their sound is in the source.

    The silence of a gap before such a position goes on with what was captured before it.
    """
    return sorted(
        (placement.start, samples_before(placement.ticks, rate_hz))
        for event in events
        if (placement := placement_of(event)) is not None
    )
