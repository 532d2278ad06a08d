"""Compares a recording on disk with a file of what was captured, in blocks."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from adapters.descriptors import RESERVE
from adapters.opening import open_sound
from adapters.sound_file import SoundFile
from adapters.storage.folder.journal import read_event
from adapters.storage.wav.header import read_header
from domain.errors import InputUnreadable
from domain.ports.codec import Resampler
from domain.recording.ledger import LedgerEvent, RestoreState
from domain.recording.ranges import Range
from domain.recording.restoring import FILTER_MARGIN_S
from domain.recording.source_comparison import SourceComparison, SourceVerdict
from domain.recording.verification import FileFacts, read_spans
from domain.sound.conversion import unpack
from domain.sound.formats import AudioFormat, AudioFrame, Samples, silence

_PACKETS = "packets cannot be compared with samples: compare what `gapless render` makes of it"
_BLOCK_S = 2.0
"""The least that is read of a source at once."""
ResamplerFactory: TypeAlias = Callable[[AudioFormat, AudioFormat], Resampler]
"""Makes a resampler from one format to another one, which is S16 with at most two channels."""


def compare_with_source(facts: FileFacts, path: str, resampler: ResamplerFactory) -> SourceVerdict:
    """Compare a recording with a file that holds what was captured, from position 0 on.

    Raises `InputUnreadable`.
    """
    ledger: Any = facts.ledger if isinstance(facts.ledger, dict) else {}
    spans, problems = read_spans(ledger.get("spans"), facts.length)
    if facts.format is None or problems:
        return SourceVerdict(path, problems=["it cannot be compared: its ledger does not fit"])
    events = list(_events(ledger))
    source = _Source(path, facts.format.sample_rate_hz, resampler)
    try:
        descriptor = open_sound(pathlib.Path(facts.path), follow=True)
        try:
            header = read_header(descriptor)
            if header is None:
                return SourceVerdict(path, problems=[_PACKETS])
            comparison = SourceComparison(facts.format, source.format, source.length, spans, events)
            width = facts.format.bytes_per_frame
            for run in comparison.runs():
                data = os.pread(
                    descriptor, run.length * width, header.data_offset + run.start * width
                )
                recorded = unpack(data, facts.format)
                captured = source.read(comparison.needed(run))
                comparison.add(run, recorded, captured, source.delivers.sample_format)
        finally:
            RESERVE.close(descriptor)
    except OSError as error:
        raise InputUnreadable(f"cannot read {facts.path}: {error.strerror}") from error
    finally:
        source.close()
    return comparison.result(path, length=facts.length, is_whole=_is_whole(ledger, events))


class _Source:
    """What was captured, at the rate of a recording."""

    def __init__(self, path: str, rate_hz: int, resampler: ResamplerFactory) -> None:
        self._file = SoundFile(path)
        self._resampler = resampler
        self.format = self._file.format
        """As captured."""
        self.delivers = self.format
        """The format of the samples that `read` returns."""
        if self.format.sample_rate_hz != rate_hz:
            self.delivers = AudioFormat(rate_hz, min(2, self.format.channels))
        self.length = self._file.length * rate_hz // self.format.sample_rate_hz
        """Samples per channel, at the rate of the recording."""
        self._block = silence(self.format, 0)
        self._block_start = 0

    def close(self) -> None:
        self._file.close()

    def read(self, wanted: Range) -> Samples:
        """Return sound at the rate of the recording; what is not in the file is silence."""
        start, end = max(0, wanted.start), min(self.length, wanted.end)
        if end <= start:
            return silence(self.delivers, wanted.length)
        if self.delivers is self.format:
            found = self._read_file(start, end)
        else:
            found = self._resampled(start, end)
        padded = silence(self.delivers, wanted.length)
        padded[start - wanted.start :][: len(found)] = found
        return padded

    def _read_file(self, start: int, end: int) -> Samples:
        """Read through a block that later runs begin in: FLAC takes long to find a position."""
        inside = start - self._block_start
        if inside < 0 or end - self._block_start > len(self._block):
            self._file.seek(start)
            least = round(_BLOCK_S * self.format.sample_rate_hz)
            self._block, self._block_start = self._file.read(max(least, end - start)), start
            inside = 0
        return self._block[inside:][: end - start]

    def _resampled(self, start: int, end: int) -> Samples:
        """Change the rate of a part of the file, with some sound around it for the filter."""
        into, out = self.delivers.sample_rate_hz, self.format.sample_rate_hz
        divisor = math.gcd(into, out)
        # both rates have a sample at each multiple of these steps
        step, step_of_file = into // divisor, out // divisor
        margin = round(FILTER_MARGIN_S * into)
        first = max(0, start - margin) // step
        last = -(-(end + margin) // step)
        last = min(last, -(-self._file.length // step_of_file))
        samples = self._read_file(first * step_of_file, last * step_of_file)
        resampler = self._resampler(self.format, self.delivers)
        frames = [*resampler.push(AudioFrame(self.format, samples)), *resampler.flush()]
        whole = np.concatenate([frame.samples for frame in frames])
        return whole[start - first * step : end - first * step]


def _events(ledger: Any) -> Iterator[LedgerEvent]:
    """Return the events that can be read."""
    entries = ledger.get("events")
    for entry in entries if isinstance(entries, list) else []:
        try:
            yield read_event(entry)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            continue


def _is_whole(ledger: Any, events: list[LedgerEvent]) -> bool:
    """Return whether a recording should have all that was captured: no other part has any of it."""
    restore = ledger.get("restore")
    state = restore.get("state") if isinstance(restore, dict) else None
    is_part = ledger.get("end_reason") == "continued" or any(
        event.type == "continues" for event in events
    )
    return state == RestoreState.COMPLETE.value and not is_part
