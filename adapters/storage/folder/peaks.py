"""Draws the recordings of a folder from their peaks."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.files import RecordingFiles
from adapters.storage.folder.listing import files_of
from adapters.storage.folder.part_spans import PartSpans
from adapters.storage.folder.peaks_file import OpenedPeaks, PeaksDamaged
from adapters.storage.folder.peaks_maker import PeaksMaker, make_file, peaks_of
from adapters.storage.folder.reader import OpenedOgg, OpenedWav
from domain.errors import InputUnreadable, PeaksPending
from domain.ports.catalogue import CatalogueEntry
from domain.ports.peaks import DrawnRecording
from domain.recording.completed import CompletedPart
from domain.recording.ledger import Container, SampleKind
from domain.recording.shares import shares_of
from domain.sound.peaks import WaveformBuilder, as_s16, check_range, stretches

_BLOCK = 1 << 19
"""Samples per channel that are read at once: 11 s at 48 kHz."""
_DIRECT_BYTES = 4 << 20
"""So much sound of a part is read for a waveform, at most. A live recording hashes, and measures,
each 1 MiB of it."""
_LAG_S, _LAG_RATIO = 20.0, 4
"""The peaks of live packets, which are decoded for them, are made again when they are behind by
more than this, and by more than such a part of the recording."""


class FolderPeaks:
    """The `Peaks` of the recordings in one folder.

    The peaks of PCM are written while it is recorded. Those of packets, and those that are missing
    or damaged, are made when somebody asks for them.
    """

    def __init__(self, folder: str, catalogue: FolderCatalogue) -> None:
        self._folder = pathlib.Path(folder).absolute()
        self._catalogue = catalogue
        self._spans = PartSpans()
        self._maker = PeaksMaker(self._make)

    def draw(
        self, recording_id: str, *, start: int, stop: int | None, points: int
    ) -> DrawnRecording:
        opened = self._catalogue.open(recording_id)
        try:
            return self._draw(recording_id, opened, start, stop, points)
        finally:
            opened.close()

    def close(self) -> None:
        self._maker.close()

    def _draw(
        self,
        recording_id: str,
        opened: OpenedWav | OpenedOgg,
        start: int,
        stop: int | None,
        points: int,
    ) -> DrawnRecording:
        entry = opened.entry
        start, stop = check_range(start, stop, self._drawable(opened))
        channels = entry.info.format.channels
        drawing = WaveformBuilder(start=start, stop=stop, points=points, channels=channels)
        overlapping = [part for part in entry.parts if part.start < stop and part.end > start]
        lacking = [part for part in overlapping if not self._draw_part(drawing, opened, part)]
        if lacking:
            # those of live PCM are being written, unless the disk was full
            if isinstance(opened, OpenedOgg) or not all(map(_is_live, lacking)):
                self._maker.ask(recording_id)
            raise PeaksPending("the waveform is being made; ask again")
        waveform = drawing.result()
        return DrawnRecording(
            entry.info, waveform, self._shares(entry, overlapping, waveform.bounds)
        )

    def _drawable(self, opened: OpenedWav | OpenedOgg) -> int:
        """Return how much of a recording can be drawn: of live packets, what is decoded."""
        entry = opened.entry
        if isinstance(opened, OpenedOgg) and entry.parts and _is_live(last := entry.parts[-1]):
            peaks = self._peaks_of(entry, last)
            if peaks is not None:
                peaks.close()
                return last.start + peaks.length
        return entry.length

    def _draw_part(
        self, drawing: WaveformBuilder, opened: OpenedWav | OpenedOgg, part: CompletedPart
    ) -> bool:
        """Draw a part; return False if too much of it would have to be read, or decoded."""
        entry, audio_format = opened.entry, opened.entry.info.format
        begin, end = max(drawing.start, part.start), min(drawing.stop, part.end)
        is_pcm, level, reached = isinstance(opened, OpenedWav), drawing.level, begin
        most = _DIRECT_BYTES // audio_format.bytes_per_frame
        if level is not None or not is_pcm:
            is_live = _is_live(part)
            peaks = self._peaks_of(entry, part)
            if peaks is None:
                if not is_pcm or end - begin > most:
                    return False
            else:
                with contextlib.closing(peaks):
                    reached = max(begin, part.start + peaks.length)
                    if is_pcm and end - reached > most:
                        return False
                    if not is_pcm and is_live and _lags(peaks, part, audio_format.sample_rate_hz):
                        return False
                    try:
                        _draw_entries(drawing, peaks, level or 0, part.start)
                    except (OSError, PeaksDamaged):  # another program has changed them
                        return False
        if isinstance(opened, OpenedWav) and reached < end:
            samples = opened.read_samples(reached, end - reached)
            drawing.add_samples(as_s16(samples, audio_format.sample_format), start=reached)
        return True

    def _shares(
        self,
        entry: CatalogueEntry,
        parts: list[CompletedPart],
        bounds: npt.NDArray[np.int64],
    ) -> dict[SampleKind, npt.NDArray[np.float64]]:
        found = []
        for part in parts:
            try:
                spans = self._spans.of(self._files(entry, part), is_live=_is_live(part))
            except (OSError, ValueError):  # a recording without a ledger
                return {}
            found.append((part.start, part.length, spans))
        return shares_of(found, bounds)

    def _peaks_of(self, entry: CatalogueEntry, part: CompletedPart) -> OpenedPeaks | None:
        files, audio_format = self._files(entry, part), entry.info.format
        return peaks_of(files, part, audio_format, is_live=_is_live(part))

    def _files(self, entry: CatalogueEntry, part: CompletedPart) -> RecordingFiles:
        return files_of(self._folder, entry.info.name, part.number, entry.info.container)

    # -- in the thread that makes peaks ----------------------------------------------------------

    def _make(self, recording_id: str, is_enough: Callable[[], bool]) -> None:
        """Make the peaks that a recording lacks. Raises `OSError` and `GaplessError`."""
        opened = self._catalogue.open(recording_id)
        try:
            entry = opened.entry
            is_decoded = entry.info.container is Container.OGG
            for part in entry.parts:
                files, is_live = self._files(entry, part), _is_live(part)
                if is_live and not is_decoded:
                    continue
                if (peaks := self._peaks_of(entry, part)) is not None:
                    peaks.close()
                    if not is_live or not _lags(peaks, part, entry.info.format.sample_rate_hz):
                        continue
                make_file(
                    files,
                    part,
                    entry.info.format,
                    opened.part_blocks(part, _BLOCK),
                    is_live=is_live,
                    is_enough=is_enough,
                )
        except InputUnreadable as error:
            raise ValueError(str(error)) from error
        finally:
            opened.close()


def _draw_entries(drawing: WaveformBuilder, peaks: OpenedPeaks, level: int, start: int) -> None:
    """Draw the peaks of a part that begins at `start`. Raises `PeaksDamaged` and `OSError`."""
    wanted = stretches(level, peaks.count, start=drawing.start - start, stop=drawing.stop - start)
    for item in wanted:
        entries = peaks.read(item.level, item.first, item.stop)
        drawing.add(entries, level=item.level, first=item.first, start=start)


def _is_live(part: CompletedPart) -> bool:
    return part.location.endswith(".part")


def _lags(peaks: OpenedPeaks, part: CompletedPart, rate_hz: int) -> bool:
    behind = part.length - peaks.length
    return behind > max(_LAG_S * rate_hz, part.length / _LAG_RATIO)
