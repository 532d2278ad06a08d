"""Draws the recordings in memory."""

from __future__ import annotations

from adapters.storage.memory_catalogue import MemoryCatalogue
from domain.ports.peaks import DrawnRecording
from domain.recording.ledger import SampleKind, Span
from domain.recording.shares import SpanMap, shares_of
from domain.sound.peaks import WaveformBuilder, as_s16, check_range


class MemoryPeaks:
    """The `Peaks` of what a `MemoryStore` keeps: it has no more than what can be read at once."""

    def __init__(self, catalogue: MemoryCatalogue) -> None:
        self._catalogue = catalogue

    def draw(
        self, recording_id: str, *, start: int, stop: int | None, points: int
    ) -> DrawnRecording:
        opened = self._catalogue.open(recording_id)
        info, length = opened.entry.info, opened.entry.length
        start, stop = check_range(start, stop, length)
        drawing = WaveformBuilder(
            start=start, stop=stop, points=points, channels=info.format.channels
        )
        samples = opened.read_samples(start, stop - start)
        drawing.add_samples(as_s16(samples, info.format.sample_format), start=start)
        waveform = drawing.result()
        spans = SpanMap.of(
            Span(span["start"], span["length"], SampleKind(span["kind"]))
            for span in self._catalogue.ledger(recording_id)["spans"]
        )
        return DrawnRecording(info, waveform, shares_of([(0, length, spans)], waveform.bounds))

    def close(self) -> None:
        """Nothing is made."""
