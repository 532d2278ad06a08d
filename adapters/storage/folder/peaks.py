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
        channels = entry.info.format.channels
        with contextlib.ExitStack() as closing:
            # opened once: the maker may replace them at any moment by those of more sound
            growing = self._growing(opened)
            length = entry.length
            if growing is not None:
                closing.callback(growing.close)
                length = entry.parts[-1].start + growing.length
            start, stop = check_range(start, stop, length)
            drawing = WaveformBuilder(start=start, stop=stop, points=points, channels=channels)
            overlapping = [part for part in entry.parts if part.start < stop and part.end > start]
            lacking = [
                part for part in overlapping if not self._draw_part(drawing, opened, part, growing)
            ]
        if lacking:
            # those of live PCM are being written, unless the disk was full
            if isinstance(opened, OpenedOgg) or not all(map(_is_live, lacking)):
                self._maker.ask(recording_id)
            raise PeaksPending("the waveform is being made; ask again")
        waveform = drawing.result()
        return DrawnRecording(
            entry.info, waveform, self._shares(entry, overlapping, waveform.bounds)
        )

    def _growing(self, opened: OpenedWav | OpenedOgg) -> OpenedPeaks | None:
        """Open the peaks of live packets, of which as much can be drawn as was decoded."""
        entry = opened.entry
        if isinstance(opened, OpenedOgg) and entry.parts and _is_live(last := entry.parts[-1]):
            return self._peaks_of(entry, last)
        return None

    def _draw_part(
        self,
        drawing: WaveformBuilder,
        opened: OpenedWav | OpenedOgg,
        part: CompletedPart,
        growing: OpenedPeaks | None,
    ) -> bool:
        """Draw a part; return False if too much of it would have to be read, or decoded."""
        if isinstance(opened, OpenedWav):
            return self._draw_pcm(drawing, opened, part)
        if part is opened.entry.parts[-1] and _is_live(part):
            rate_hz = opened.entry.info.format.sample_rate_hz
            if growing is None or _lags(growing, part, rate_hz):
                return False
            return _draw_entries(drawing, growing, part.start)
        peaks = self._peaks_of(opened.entry, part)
        if peaks is None:
            return False
        with contextlib.closing(peaks):
            return _draw_entries(drawing, peaks, part.start)

    def _draw_pcm(self, drawing: WaveformBuilder, opened: OpenedWav, part: CompletedPart) -> bool:
        """Draw a part from its peaks, and what they lack of it from its samples."""
        audio_format = opened.entry.info.format
        begin, end = max(drawing.start, part.start), min(drawing.stop, part.end)
        reached, most = begin, _DIRECT_BYTES // audio_format.bytes_per_frame
        if drawing.level is not None:
            peaks = self._peaks_of(opened.entry, part)
            if peaks is not None:
                with contextlib.closing(peaks):
                    reached = max(begin, part.start + peaks.length)
                    if end - reached > most or not _draw_entries(drawing, peaks, part.start):
                        return False
            elif end - begin > most:
                return False
        if reached < end:
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


def _draw_entries(drawing: WaveformBuilder, peaks: OpenedPeaks, start: int) -> bool:
    """Draw the peaks of a part that begins at `start`; return False if they are damaged."""
    level = drawing.level or 0
    wanted = stretches(level, peaks.count, start=drawing.start - start, stop=drawing.stop - start)
    try:
        for item in wanted:
            entries = peaks.read(item.level, item.first, item.stop)
            drawing.add(entries, level=item.level, first=item.first, start=start)
    except (OSError, PeaksDamaged):  # another program has changed them
        return False
    return True


def _is_live(part: CompletedPart) -> bool:
    return part.location.endswith(".part")


def _lags(peaks: OpenedPeaks, part: CompletedPart, rate_hz: int) -> bool:
    behind = part.length - peaks.length
    return behind > max(_LAG_S * rate_hz, part.length / _LAG_RATIO)
