"""What is told of a file's data when it is complete: their hash, and how loud they are."""

from __future__ import annotations

import hashlib
import os
import threading

from domain.audio import AudioFormat, Samples
from domain.conversion import Bytes, unpack
from domain.levels import LevelMeter, Loudness

_BLOCK = 1 << 24  # other threads run between two blocks, and then want their time


class Digest:
    """SHA-256 of data as they go by, and their levels where they are PCM of `audio_format`."""

    def __init__(self, audio_format: AudioFormat | None = None) -> None:
        self._hash = hashlib.sha256()
        self._format = audio_format
        self._meter = None if audio_format is None else LevelMeter(audio_format.sample_format)

    def update(self, data: Bytes, samples: Samples | None = None) -> None:
        """More of it: whole samples, where levels are measured; whoever has them, gives them."""
        self._hash.update(data)
        if self._meter is not None:
            assert self._format is not None
            self._meter.add(unpack(data, self._format) if samples is None else samples)

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
    """The digest of a file while it is written, from `offset` on."""

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

    def update(self, data: Bytes, samples: Samples | None = None) -> None:
        """What was written behind all that there is."""
        self._size += len(data)
        if self._reading is None:
            self._digest.update(data, samples)
            self._taken = self._size
        elif not self._reading.is_alive():
            self._catch_up()

    def begin_with(self, size: int) -> None:
        """So much is there already; to read it takes seconds for hours of sound, elsewhere."""
        self._size = size
        self._reading = threading.Thread(
            target=self._take, args=(size,), name="gapless-hash", daemon=True
        )
        self._reading.start()

    @property
    def reading(self) -> threading.Thread | None:
        """As long as what was there is being read; to be waited for elsewhere."""
        return self._reading if self._reading is not None and self._reading.is_alive() else None

    def complete(self) -> Digest:
        """The digest of all that was written."""
        if self._reading is not None:
            self._reading.join()
            self._catch_up()
        return self._digest

    def close(self) -> None:
        """The descriptor is not read from any more."""
        if self._reading is not None:
            self._reading.join()

    def _catch_up(self) -> None:
        """What was there is read by now; what was written meanwhile is not."""
        self._reading = None
        self._take(self._size)

    def _take(self, size: int) -> None:
        try:
            self._digest.read(self._descriptor, self._offset + self._taken, size - self._taken)
        except OSError:
            self._digest, self._taken = Digest(self._format), 0  # whoever goes on begins anew
            if threading.current_thread() is not self._reading:
                raise
        else:
            self._taken = size


def digest_of(
    descriptor: int, offset: int, size: int, audio_format: AudioFormat | None = None
) -> Digest:
    """The digest of `size` bytes of a file that begin at `offset`. Raises `OSError`."""
    digest = Digest(audio_format)
    digest.read(descriptor, offset, size)
    return digest
