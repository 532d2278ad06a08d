"""The sound of a spool: it grows at the end, and is read at any position."""

from __future__ import annotations

import hashlib
import os
import pathlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from adapters.opening import Refused, open_found, read_found
from adapters.storage.spool.files import MAX_CHUNK_SAMPLES, Chunk, disk_errors
from adapters.storage.spool.flac import FlacDamaged, decode
from domain.errors import SpoolFailed
from domain.recording.ranges import RangeSet
from domain.sound.conversion import pack, unpack
from domain.sound.formats import AudioFormat, Samples, silence

_BLOCK = 1 << 16  # samples that are hashed or exported at once


class ReadingStopped(Exception):
    """Nobody waits for the result any more."""


class _Damaged(SpoolFailed):
    """A file does not hold what it should; its sound is no longer captured."""


class SpoolSound:
    """What the files of a spool hold. Threads share it.

    Sound that turns out to be damaged when it is read is no longer captured.
    """

    def __init__(
        self, audio_format: AudioFormat, chunks: Sequence[Chunk] = (), holes: RangeSet | None = None
    ) -> None:
        self.format = audio_format
        # FLAC is never much longer than what it holds
        self._max_flac_bytes = 2 * MAX_CHUNK_SAMPLES * audio_format.bytes_per_frame
        self._lock = threading.Lock()  # of these:
        self._chunks = list(chunks)
        self._captured = RangeSet()
        self._damaged_from: float = float("inf")  # what was hashed behind is not true
        for chunk in chunks:
            self._captured.add(chunk.start, chunk.end)
        for hole in holes or ():
            self._captured.remove(hole.start, hole.end)
        self._reading = threading.Lock()  # a file is not deleted while it is read; and of this:
        self._decoded: tuple[pathlib.Path, Samples] | None = None
        self._hashing = threading.Lock()  # of these:
        self._hash = hashlib.sha256()
        self._hashed = 0

    @property
    def length(self) -> int:
        """The position after the last captured sample."""
        with self._lock:
            return self._captured.end

    @property
    def captured(self) -> RangeSet:
        """A copy of what was captured."""
        with self._lock:
            return self._captured.minus(RangeSet())

    def grow(self, chunk: Chunk, position: int) -> None:
        """Note that sound from `position` up to the end of `chunk` was appended to its file."""
        with self._lock:
            if self._chunks and self._chunks[-1].start == chunk.start:
                self._chunks[-1] = chunk
            else:
                self._chunks.append(chunk)
            self._captured.add(position, chunk.end)

    def replace(self, old: Chunk, new: Chunk) -> None:
        """Read from another file with the same sound from now on, and delete the old one.

        Raises `OSError`.
        """
        with self._reading:
            with self._lock:
                self._chunks[self._chunks.index(old)] = new
            old.path.unlink()

    def read(self, start: int, length: int) -> Samples:
        """Return samples, shape (length, channels). Raises `SpoolFailed`."""
        end = start + length
        with self._lock:
            is_captured = self._captured.covers(start, end)
        if not is_captured:
            raise SpoolFailed(f"samples {start} to {end} were not captured")
        parts = []
        while start < end:
            part = self._read_from_one(start, end)
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def pcm(
        self, start: int, end: int, *, is_stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[bytes]:
        """Yield packed PCM, with silence for what was not captured or turns out to be damaged.

        Raises `SpoolFailed` if the disk cannot be read, and `ReadingStopped`.
        """
        while start < end:
            if is_stopped():
                raise ReadingStopped
            stop = min(end, start + _BLOCK)
            with self._lock:
                found = self._captured.within(start, stop)
            if found and found[0].start == start:
                try:
                    samples = self.read(start, found[0].length)
                except _Damaged:
                    continue
            else:
                samples = silence(self.format, (found[0].start if found else stop) - start)
            yield pack(samples, self.format.sample_format)
            start += len(samples)

    def sha256(self, *, is_stopped: Callable[[], bool] = lambda: False) -> str:
        """Return the hash of the PCM; what was hashed before is not read again.

        Raises `SpoolFailed` if the disk cannot be read, and `ReadingStopped`.
        """
        with self._hashing:
            while True:
                with self._lock:
                    end = self._captured.end
                    true_until = min(end, self._damaged_from)
                    self._damaged_from = float("inf")
                if self._hashed > true_until:
                    self._hash, self._hashed = hashlib.sha256(), 0
                if self._hashed == end:
                    return self._hash.hexdigest()
                for block in self.pcm(self._hashed, end, is_stopped=is_stopped):
                    self._add_to_hash(block)

    def hash_along(self, chunk: Chunk, data: bytes) -> None:
        """Hash the data of a chunk while they are at hand. Raises `SpoolFailed`."""
        with self._hashing:
            for block in self.pcm(self._hashed, chunk.start):  # a hole
                self._add_to_hash(block)
            self._add_to_hash(data[(self._hashed - chunk.start) * self.format.bytes_per_frame :])

    def _add_to_hash(self, block: bytes) -> None:
        self._hash.update(block)
        self._hashed += len(block) // self.format.bytes_per_frame

    def _read_from_one(self, start: int, end: int) -> Samples:
        """Return samples from `start` on, up to the end of the file that holds them."""
        with self._reading:
            with self._lock:
                chunk = self._chunks[bisect_right(self._chunks, start, key=lambda c: c.start) - 1]
            first, last = start - chunk.start, min(end, chunk.end) - chunk.start
            with disk_errors(chunk.path):
                if chunk.is_flac:
                    return self._decode(chunk)[first:last]
                return self._read_pcm(chunk, first, last)

    def _decode(self, chunk: Chunk) -> Samples:
        if self._decoded is None or self._decoded[0] != chunk.path:
            try:
                samples = decode(read_found(chunk.path, self._max_flac_bytes), self.format)
            except (FlacDamaged, Refused) as error:
                raise self._damage(chunk) from error
            if len(samples) != chunk.length:
                raise self._damage(chunk)
            self._decoded = chunk.path, samples
        return self._decoded[1]

    def _read_pcm(self, chunk: Chunk, first: int, last: int) -> Samples:
        width = self.format.bytes_per_frame
        descriptor = open_found(chunk.path)
        try:
            data = os.pread(descriptor, (last - first) * width, first * width)
        finally:
            os.close(descriptor)
        if len(data) != (last - first) * width:  # another program has cut it off
            raise self._damage(chunk)
        return unpack(data, self.format)

    def _damage(self, chunk: Chunk) -> SpoolFailed:
        with self._lock:
            self._captured.remove(chunk.start, chunk.end)
            self._damaged_from = min(self._damaged_from, chunk.start)
        return _Damaged(f"{chunk.path}: the file is damaged")
