"""Reads recordings of a folder, live or complete, with all parts as one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adapters.descriptors import RESERVE
from adapters.storage.ogg.decoding import decode_all, decode_range, silent_blocks
from adapters.storage.wav.header import whole_header
from domain.errors import InputUnreadable
from domain.ports.catalogue import CatalogueEntry, RecordingState
from domain.recording.completed import CompletedPart
from domain.recording.ledger import Ledger
from domain.sound.conversion import convert_frame, pack, unpack
from domain.sound.decoding import Decoder
from domain.sound.formats import AudioFormat, AudioFrame, Samples, silence


@dataclass(frozen=True, slots=True)
class OpenedPart:
    """The file of a part, with the size that it had when it was opened."""

    part: CompletedPart
    format: AudioFormat
    descriptor: int
    size: int
    """Size of the file in bytes."""
    data_offset: int = 0
    """Offset of the PCM data; not used for packets."""
    ledger: Ledger | None = None
    """Spans, which tell the samples that have packets; not used for PCM."""
    stamp: str = ""
    """Which file it is, and when it and its ledger were written."""


class OpenedWav:
    """PCM from the files of all parts, read as one file in the format of the last part."""

    def __init__(self, entry: CatalogueEntry, parts: Sequence[OpenedPart]) -> None:
        self.entry = entry
        self._parts = parts
        self._width = entry.info.format.bytes_per_frame
        self._data_size = entry.length * self._width
        one = len(parts) == 1 and parts[0].part.start == 0
        self._as_it_is = one and entry.state is not RecordingState.LIVE
        # make a header for the size at opening: the header in a growing file changes
        self._header = whole_header(entry.info.format, self._data_size)
        self.version = _version_of(entry, parts)
        padded = self._data_size + self._data_size % 2
        self.size = parts[0].size if self._as_it_is else len(self._header) + padded

    def read_bytes(self, start: int, length: int) -> bytes:
        stop = min(start + length, self.size)
        if start >= stop:
            return b""
        if self._as_it_is:
            return os.pread(self._parts[0].descriptor, stop - start, start)
        head = self._header[start:stop]
        begin = max(0, start - len(self._header))
        end = stop - len(self._header)
        data = self._read(begin, min(end, self._data_size)) if end > begin else b""
        return (head + data).ljust(stop - start, b"\0")

    def read_samples(self, start: int, length: int) -> Samples:
        stop = max(start, min(start + length, self.entry.length))
        return unpack(self._read(start * self._width, stop * self._width), self.entry.info.format)

    def blocks(self, length: int) -> Iterator[Samples]:
        for start in range(0, self.entry.length, length):
            yield self.read_samples(start, length)

    def part_blocks(self, part: CompletedPart, length: int) -> Iterator[Samples]:
        """Return the samples of a part in blocks of at most `length`."""
        for start in range(part.start, part.end, length):
            yield self.read_samples(start, min(length, part.end - start))

    def close(self) -> None:
        parts, self._parts = self._parts, ()
        _close(parts)

    def _read(self, start: int, stop: int) -> bytes:
        """Read bytes of the PCM data; a missing part reads as silence."""
        pieces, position = [], start
        for opened in self._parts:
            begin = max(position, opened.part.start * self._width)
            end = min(stop, opened.part.end * self._width)
            if begin >= end:
                continue
            pieces.append(self._silence(begin - position))
            data = self._read_part(opened, begin, end)
            pieces += [data, self._silence(end - begin - len(data))]
            position = end
        pieces.append(self._silence(max(0, stop - position)))
        return b"".join(pieces)

    def _read_part(self, opened: OpenedPart, start: int, stop: int) -> bytes:
        """Read bytes of one part; `start` and `stop` count in the format of the recording."""
        first = opened.part.start * self._width
        if opened.format == self.entry.info.format:
            return os.pread(opened.descriptor, stop - start, opened.data_offset + start - first)
        begin, end = (start - first) // self._width, -(-(stop - first) // self._width)
        width = opened.format.bytes_per_frame
        data = os.pread(
            opened.descriptor, (end - begin) * width, opened.data_offset + begin * width
        )
        samples = unpack(data[: len(data) - len(data) % width], opened.format)
        frame = AudioFrame(opened.format, samples)
        whole = pack(
            convert_frame(frame, self.entry.info.format).samples,
            self.entry.info.format.sample_format,
        )
        skipped = start - first - begin * self._width
        return whole[skipped : skipped + stop - start]

    def _silence(self, size: int) -> bytes:
        audio_format = self.entry.info.format
        frame = pack(silence(audio_format, 1), audio_format.sample_format)
        return frame[:1] * size  # in every format all bytes of silence are equal


class OpenedOgg:
    """Opus packets from the files of all parts, read as a chained stream."""

    def __init__(
        self,
        entry: CatalogueEntry,
        parts: Sequence[OpenedPart],
        new_decoder: Callable[[], Decoder],
    ) -> None:
        self.entry = entry
        self.size = sum(opened.size for opened in parts)
        self.version = _version_of(entry, parts)
        self._parts = parts
        self._new_decoder = new_decoder

    def read_bytes(self, start: int, length: int) -> bytes:
        pieces, position = [], 0
        for opened in self._parts:
            begin = max(0, start - position)
            end = min(opened.size, start + length - position)
            if begin < end:
                pieces.append(os.pread(opened.descriptor, end - begin, begin))
            position += opened.size
        return b"".join(pieces)

    def read_samples(self, start: int, length: int) -> Samples:
        stop = max(start, min(start + length, self.entry.length))
        audio_format = self.entry.info.format
        pieces, position = [silence(audio_format, 0)], start
        for opened in self._parts:
            begin, end = max(position, opened.part.start), min(stop, opened.part.end)
            if begin >= end:
                continue
            pieces.append(silence(audio_format, begin - position))
            pieces.append(
                decode_range(
                    opened.descriptor,
                    _ledger_of(opened),
                    self._new_decoder(),
                    audio_format,
                    start=begin - opened.part.start,
                    stop=end - opened.part.start,
                )
            )
            position = end
        return np.concatenate([*pieces, silence(audio_format, max(0, stop - position))])

    def blocks(self, length: int) -> Iterator[Samples]:
        position = 0
        for opened in self._parts:
            start = opened.part.start
            yield from silent_blocks(self.entry.info.format, start - position, length)
            yield from self._decoded(opened, length)
            position = opened.part.end

    def part_blocks(self, part: CompletedPart, length: int) -> Iterator[Samples]:
        """Decode a part; return its samples in blocks of at most `length`.

        Raises `InputUnreadable`.
        """
        (opened,) = (item for item in self._parts if item.part == part)
        return self._decoded(opened, length)

    def _decoded(self, opened: OpenedPart, length: int) -> Iterator[Samples]:
        return decode_all(
            opened.descriptor,
            _ledger_of(opened),
            self._new_decoder(),
            self.entry.info.format,
            length=opened.part.length,
            at_most=length,
        )

    def close(self) -> None:
        parts, self._parts = self._parts, ()
        _close(parts)


def _ledger_of(opened: OpenedPart) -> Ledger:
    if opened.ledger is None:
        raise InputUnreadable(f"the ledger of {opened.part.location} cannot be read")
    return opened.ledger


def _version_of(entry: CatalogueEntry, parts: Sequence[OpenedPart]) -> str:
    facts = [entry.info.id, entry.state.value, str(entry.info.format)]
    facts += [
        f"{opened.part.start} {opened.part.length} {opened.size} {opened.stamp}" for opened in parts
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


def _close(parts: Sequence[OpenedPart]) -> None:
    for opened in parts:
        RESERVE.close(opened.descriptor)
