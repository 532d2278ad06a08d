"""What is told of a file's data when it is complete: their hash, and how loud they are."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading

from domain.sound.conversion import Bytes, unpack
from domain.sound.formats import AudioFormat
from domain.sound.levels import LevelMeter, Loudness

_BLOCK = 1 << 24  # other threads run between two blocks, and then want their time
_STEP = 1 << 20  # of a file that grows: 11 s of 48 kHz, which the system has in its memory


class Digest:
    """SHA-256 of data as they go by, and their levels where they are PCM of `audio_format`."""

    def __init__(self, audio_format: AudioFormat | None = None) -> None:
        self._hash = hashlib.sha256()
        self._format = audio_format
        self._meter = None if audio_format is None else LevelMeter(audio_format.sample_format)

    def update(self, data: Bytes) -> None:
        """More of it: whole samples, where levels are measured."""
        self._hash.update(data)
        if self._meter is not None:
            assert self._format is not None
            self._meter.add(unpack(data, self._format))

    def read(self, descriptor: int, offset: int, size: int) -> None:
        """`size` bytes of a file that begin at `offset`. Raises `OSError`."""
        width = 1 if self._format is None else self._format.bytes_per_frame
        most = _BLOCK - _BLOCK % width
        while size and (block := os.pread(descriptor, min(size, most), offset)):
            self.update(block)
            offset += len(block)
            size -= len(block)

    @property
    def sha256(self) -> str:
        """In hexadecimal."""
        return self._hash.hexdigest()

    @property
    def loudness(self) -> Loudness | None:
        """None for what is no PCM."""
        return None if self._meter is None else self._meter.loudness


class GrowingDigest:
    """The digest of a file while it is written, from `offset` on.

    It is read from the file, some seconds at a time. To hash and to measure what has just been
    written, each time, makes the disk's thread ask for the interpreter's lock four times as
    often, which a busy event loop gives it once in half a millisecond.
    """

    def __init__(
        self, descriptor: int, offset: int, audio_format: AudioFormat | None = None
    ) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._format = audio_format
        self._digest = Digest(audio_format)
        self._size = 0  # bytes that there are,
        self._taken = 0  # and that the digest has
        self._reading: threading.Thread | None = None

    def grow(self, size: int) -> None:
        """So many bytes were written behind all that there is."""
        self._size += size
        if self._size - self._taken >= _STEP and self.reading is None:
            with contextlib.suppress(OSError):  # it is read again at the end
                self._take(self._size)

    def begin_with(self, size: int) -> None:
        """So much is there already; to read it takes seconds for hours of sound, elsewhere."""
        self._size = size
        self._reading = threading.Thread(
            target=self._begin, args=(size,), name="gapless-hash", daemon=True
        )
        self._reading.start()

    @property
    def reading(self) -> threading.Thread | None:
        """As long as what was there is being read; to be waited for elsewhere."""
        return self._reading if self._reading is not None and self._reading.is_alive() else None

    def complete(self, size: int) -> Digest:
        """The digest of `size` bytes, after which there is nothing. Raises `OSError`."""
        self.close()
        if self._taken > size:
            self._forget()
        self._take(size)
        return self._digest

    def close(self) -> None:
        """The descriptor is not read from any more."""
        if self._reading is not None:
            self._reading.join()

    def _begin(self, size: int) -> None:
        with contextlib.suppress(OSError):
            self._take(size)

    def _take(self, size: int) -> None:
        try:
            self._digest.read(self._descriptor, self._offset + self._taken, size - self._taken)
        except OSError:
            self._forget()  # whoever goes on begins anew
            raise
        self._taken = size

    def _forget(self) -> None:
        self._digest, self._taken = Digest(self._format), 0


def digest_of(
    descriptor: int, offset: int, size: int, audio_format: AudioFormat | None = None
) -> Digest:
    """The digest of `size` bytes of a file that begin at `offset`. Raises `OSError`."""
    digest = Digest(audio_format)
    digest.read(descriptor, offset, size)
    return digest
