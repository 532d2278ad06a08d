"""The hash and the loudness of a file's data."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from typing import Protocol

from domain.sound.conversion import Bytes, unpack
from domain.sound.formats import AudioFormat, Samples
from domain.sound.levels import LevelMeter, Loudness


class SampleSink(Protocol):
    """Takes the samples of a file in order, as they are read to be hashed. It never raises."""

    def add(self, samples: Samples) -> None: ...

    def restart(self) -> None:
        """Forget all samples: they are read from the beginning again."""


_BLOCK = 1 << 24  # other threads get the GIL between two blocks
_STEP = 1 << 20  # 11 s of 48 kHz mono, which are still in the page cache


class Digest:
    """SHA-256 of data, and their levels if they are PCM of `audio_format`."""

    def __init__(
        self, audio_format: AudioFormat | None = None, sink: SampleSink | None = None
    ) -> None:
        self._hash = hashlib.sha256()
        self._format = audio_format
        self._sink = sink
        self._meter = None if audio_format is None else LevelMeter(audio_format.sample_format)

    def update(self, data: Bytes) -> None:
        """Add data: whole samples, if levels are measured."""
        self._hash.update(data)
        if self._meter is not None:
            assert self._format is not None
            samples = unpack(data, self._format)
            self._meter.add(samples)
            if self._sink is not None:
                self._sink.add(samples)

    def read(self, descriptor: int, offset: int, size: int) -> None:
        """Add `size` bytes of a file, from `offset` on. Raises `OSError`."""
        width = 1 if self._format is None else self._format.bytes_per_frame
        most = _BLOCK - _BLOCK % width
        while size and (block := os.pread(descriptor, min(size, most), offset)):
            self.update(block)
            offset += len(block)
            size -= len(block)

    @property
    def sha256(self) -> str:
        """The hash in hexadecimal."""
        return self._hash.hexdigest()

    @property
    def loudness(self) -> Loudness | None:
        """None if the data are not PCM."""
        return None if self._meter is None else self._meter.loudness


class GrowingDigest:
    """The digest of a file that is being written, from `offset` on.

    It reads the data back from the file, some seconds of sound at a time. Hashing each write makes
    the disk's thread ask for the GIL four times as often, and a busy event loop releases it only
    every half millisecond.
    """

    def __init__(
        self,
        descriptor: int,
        offset: int,
        audio_format: AudioFormat | None = None,
        sink: SampleSink | None = None,
    ) -> None:
        """`sink` gets the samples, if the data are PCM of `audio_format`."""
        self._descriptor = descriptor
        self._offset = offset
        self._format = audio_format
        self._sink = sink
        self._digest = Digest(audio_format, sink)
        self._size = 0  # bytes in the file
        self._hashed = 0  # bytes in the digest
        self._reading: threading.Thread | None = None

    def grow(self, size: int) -> None:
        """Note that `size` bytes were appended to the file."""
        self._size += size
        if self._size - self._hashed >= _STEP and self.reading is None:
            with contextlib.suppress(OSError):  # `complete` reads again
                self._hash_until(self._size)

    def shrink(self, size: int) -> None:
        """Note that only the first `size` bytes of the file have stayed."""
        self.close()
        self._size = size
        if self._hashed > size:
            self._forget()

    def begin_with(self, size: int) -> None:
        """Read the `size` bytes of the file in a thread; for hours of sound this takes seconds."""
        self._size = size
        self._reading = threading.Thread(
            target=self._begin, args=(size,), name="gapless-hash", daemon=True
        )
        self._reading.start()

    @property
    def reading(self) -> threading.Thread | None:
        """The thread that still reads what `begin_with` announced; None when it is done."""
        return self._reading if self._reading is not None and self._reading.is_alive() else None

    def complete(self, size: int) -> Digest:
        """The digest of the whole file of `size` bytes. Raises `OSError`."""
        self.shrink(size)
        self._hash_until(size)
        return self._digest

    def close(self) -> None:
        """Wait until nothing reads from the descriptor."""
        if self._reading is not None:
            self._reading.join()

    def _begin(self, size: int) -> None:
        with contextlib.suppress(OSError):
            self._hash_until(size)

    def _hash_until(self, size: int) -> None:
        try:
            self._digest.read(self._descriptor, self._offset + self._hashed, size - self._hashed)
        except OSError:
            self._forget()  # the next call begins from the start
            raise
        self._hashed = size

    def _forget(self) -> None:
        if self._sink is not None:
            self._sink.restart()
        self._digest, self._hashed = Digest(self._format, self._sink), 0


def digest_of(
    descriptor: int, offset: int, size: int, audio_format: AudioFormat | None = None
) -> Digest:
    """Return the digest of `size` bytes of a file from `offset` on. Raises `OSError`."""
    digest = Digest(audio_format)
    digest.read(descriptor, offset, size)
    return digest
