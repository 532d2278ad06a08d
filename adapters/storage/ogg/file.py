"""Writes received Opus packets into Ogg files."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Sequence

from adapters.storage.digest import Digest, GrowingDigest
from adapters.storage.folder.journal import FoundJournal
from adapters.storage.media_file import CutOff, write_all
from adapters.storage.ogg.opus import SHORTEST, OggOpusFile, OggOpusWriter, read_file, read_packets
from domain.recording.ledger import RecordingInfo
from domain.sound.pieces import EncodedSound, Sound


def find_end(descriptor: int, journal: FoundJournal) -> OggOpusFile | None:
    """Read a file; if it has no closing page, the journal tells what its writer owes."""
    found = read_file(descriptor)
    if found is not None and not found.ended:
        packets = read_packets(descriptor)
        sound = sum(packet.samples for packet in packets if not packet.is_gap)
        owed = journal.position(sound=sound, length=found.length) - found.length
        if 0 < owed < SHORTEST:  # otherwise the journal does not belong to this file
            found.writer.owed = owed
    return found


class OggFile:
    """An Ogg Opus file being written; its digest covers the whole file."""

    def __init__(self, descriptor: int, writer: OggOpusWriter, end: int) -> None:
        self._descriptor = descriptor
        self._writer = writer
        self._end = end  # offset after the last intact page
        self._is_ended = False  # the closing page is written
        self._digest = GrowingDigest(descriptor, 0)
        self.data_offset = end

    @classmethod
    def create(cls, descriptor: int, info: RecordingInfo) -> OggFile:
        writer = OggOpusWriter(zlib.crc32(info.name.encode()))
        file = cls(descriptor, writer, 0)
        tags = {
            "TITLE": info.name,
            "DATE": info.started_at.isoformat(timespec="milliseconds"),
            "ENCODER": "Gapless",
        }
        file._put(lambda writer: writer.header(info.format.channels, tags=tags))
        file.data_offset = file._end
        return file

    @classmethod
    def reopen(
        cls, descriptor: int, info: RecordingInfo, journal: FoundJournal
    ) -> tuple[OggFile, int]:
        """Continue the file of another process; also return how many samples it holds.

        Raises `ValueError` or `OSError` when that is impossible; nothing has been changed then.
        """
        found = find_end(descriptor, journal)
        if found is None or found.channels != info.format.channels:
            raise ValueError("its header cannot be read")
        os.ftruncate(descriptor, found.open_size)
        file = cls(descriptor, found.writer, found.open_size)
        file._digest.begin_with(found.open_size)
        return file, found.writer.position

    @property
    def end(self) -> int:
        return self._end

    @property
    def reading(self) -> threading.Thread | None:
        return self._digest.reading

    def write(self, pieces: Sequence[Sound]) -> None:
        packets = [piece.payload for piece in pieces if isinstance(piece, EncodedSound)]
        self._put(lambda writer: writer.append(packets))

    def write_silence(self, length: int) -> None:
        self._put(lambda writer: writer.silence(length))

    @property
    def intact(self) -> int:
        if os.fstat(self._descriptor).st_size >= self._end:
            return self._writer.position
        found = read_file(self._descriptor)
        return 0 if found is None else found.writer.position

    def complete(self, length: int) -> Digest:
        if length < self._writer.position:
            self._go_back()
        os.ftruncate(self._descriptor, self._end)
        if not self._is_ended:
            self._put(OggOpusWriter.end)
            self._is_ended = True
        return self._digest.complete(self._end)

    def close(self) -> None:
        self._digest.close()

    def _go_back(self) -> None:
        """Continue after the last intact page. Raises `ValueError` without an intact header."""
        found = read_file(self._descriptor)
        if found is None:
            raise ValueError("its header is damaged")
        self._writer, self._end = found.writer, found.open_size
        self._is_ended = False
        self._digest.shrink(self._end)

    def _put(self, make: Callable[[OggOpusWriter], bytes]) -> None:
        if (found := os.fstat(self._descriptor).st_size) < self._end:
            raise CutOff(self._end - found)
        writer = self._writer.copy()  # kept only if the pages can be written
        pages = make(writer)
        write_all(self._descriptor, pages, self._end)
        self._writer = writer
        self._end += len(pages)
        self._digest.grow(len(pages))
