"""The file of peaks beside a part, ``NAME.peaks``: the pyramid of its sound.

After a header follow groups of entries. A group has those of `GROUP_BASE` entries of the lowest
level: first the highest level, last the lowest. So each entry has its place, whatever is written
when, and the size of the file tells how many entries of the lowest level there are. Entries of
higher levels are written before the last of those from which they are made.

It is a cache: whatever is wrong with it, it is made again from the sound.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import pathlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from adapters.boot_time import boot_id
from adapters.descriptors import RESERVE
from adapters.opening import create_file, mode_in, open_found
from adapters.storage.folder.disk import reason_of
from adapters.storage.media_file import write_all
from domain.sound.formats import AudioFormat, Samples
from domain.sound.peaks import (
    BASE,
    FACTOR,
    LEVELS,
    VALUES,
    Entries,
    NewEntries,
    Pyramid,
    as_s16,
)

VERSION = 1
GROUP_BASE = int(FACTOR ** (LEVELS - 1))
_IN_GROUP = tuple(int(GROUP_BASE // FACTOR**level) for level in range(LEVELS))
"""Entries of each level in a group."""
_BEFORE = tuple(sum(_IN_GROUP[level + 1 :]) for level in range(LEVELS))
"""Entries in a group before those of each level."""
_GROUP = sum(_IN_GROUP)
_HEADER = struct.Struct("<8sHHIIIQ16s16s")
_MAGIC = b"GLPEAKS\n"
_GROWING, _COMPLETE = 0, 1
_MAX_CHANNELS = 64
_TOGETHER = 1 << 19
"""Samples per channel that are measured at once."""
MAX_BYTES = 1 << 36
"""A larger file is not one of Gapless."""
_log = logging.getLogger("gapless")


class PeaksDamaged(Exception):
    """A file is not one of peaks, or lacks some."""


@dataclass(frozen=True, slots=True)
class PeaksHeader:
    """What a file of peaks says of itself."""

    sample_rate_hz: int
    channels: int
    length: int | None = None
    """Samples per channel of a complete part; None while it grows."""
    identity: bytes = bytes(16)
    """The first bytes of the hash in the ledger of a complete part: of which sound it is. While it
    grows, what tells the file from all others."""
    boot: bytes = bytes(16)
    """In which boot of the machine it was written: what was not synced is lost with it."""

    def pack(self) -> bytes:
        state = _GROWING if self.length is None else _COMPLETE
        return _HEADER.pack(
            _MAGIC, VERSION, self.channels, self.sample_rate_hz, BASE, state, self.length or 0,
            self.identity, self.boot,
        )  # fmt: skip


def parse_header(data: bytes) -> PeaksHeader:
    """Read a header. Raises `PeaksDamaged`, also for another version."""
    if len(data) < _HEADER.size:
        raise PeaksDamaged("it is too short")
    magic, version, channels, rate_hz, base, state, length, identity, boot = _HEADER.unpack(
        data[: _HEADER.size]
    )
    if (magic, version, base) != (_MAGIC, VERSION, BASE) or state not in (_GROWING, _COMPLETE):
        raise PeaksDamaged("it is of another version, or no file of peaks")
    if not 1 <= channels <= _MAX_CHANNELS or not rate_hz:
        raise PeaksDamaged("it has an impossible format")
    return PeaksHeader(rate_hz, channels, None if state == _GROWING else length, identity, boot)


def identity_of(sha256: str | None) -> bytes:
    """Return what ties a file of peaks to the sound with this hash."""
    try:
        return bytes.fromhex(sha256 or "")[:16].ljust(16, b"\0")
    except ValueError:
        return bytes(16)


def this_boot() -> bytes:
    """Return the name of this boot, as a header has it."""
    return identity_of(boot_id().replace("-", ""))


def places(level: int, first: int, count: int, channels: int) -> Iterator[tuple[int, int]]:
    """Return offset and number of entries of each run of neighbours in the file."""
    width = channels * VALUES * 2
    while count:
        group, within = divmod(first, _IN_GROUP[level])
        together = min(count, _IN_GROUP[level] - within)
        offset = _HEADER.size + (group * _GROUP + _BEFORE[level] + within) * width
        yield offset, together
        first, count = first + together, count - together


def count_base(size: int, channels: int) -> int:
    """Return how many entries of the lowest level a file of this size has."""
    entries = max(0, size - _HEADER.size) // (channels * VALUES * 2)
    groups, rest = divmod(entries, _GROUP)
    return groups * GROUP_BASE + max(0, rest - _BEFORE[0])


class OpenedPeaks:
    """A file of peaks, to be read."""

    def __init__(self, descriptor: int) -> None:
        """Raises `PeaksDamaged` and `OSError`; the descriptor stays the caller's then."""
        self._descriptor = descriptor
        self.header = parse_header(os.pread(descriptor, _HEADER.size, 0))
        size = os.fstat(descriptor).st_size
        if size > MAX_BYTES:
            raise PeaksDamaged("it is too large")
        self.count = count_base(size, self.header.channels)
        """Entries of the lowest level."""

    @classmethod
    def open(cls, path: pathlib.Path) -> OpenedPeaks:
        """Raises `PeaksDamaged` and `OSError`."""
        descriptor = open_found(path)
        try:
            return cls(descriptor)
        except BaseException:
            RESERVE.close(descriptor)
            raise

    @property
    def length(self) -> int:
        """Samples per channel that its entries show."""
        return self.count * BASE

    def read(self, level: int, first: int, stop: int) -> Entries:
        """Read entries. Raises `PeaksDamaged` and `OSError`."""
        channels = self.header.channels
        found = []
        for offset, count in places(level, first, stop - first, channels):
            size = count * channels * VALUES * 2
            data = os.pread(self._descriptor, size, offset)
            if len(data) != size:
                raise PeaksDamaged("it is shorter than it was")
            found.append(data)
        return np.frombuffer(b"".join(found), "<i2").reshape(-1, channels, VALUES)

    def close(self) -> None:
        RESERVE.close(self._descriptor)


def write_entries(descriptor: int, made: list[NewEntries]) -> None:
    """Write entries to their places. Raises `OSError`."""
    for new in made:
        done = 0
        channels = new.entries.shape[1]
        for offset, count in places(new.level, new.first, len(new.entries), channels):
            block = new.entries[done : done + count]
            write_all(descriptor, block.astype("<i2", copy=False).tobytes(), offset)
            done += count


class PartPeaks:
    """The peaks of a part that is being recorded, made of what is read to be hashed.

    A fault of the disk costs them, and never the recording. The file is opened for each write, some
    seconds of sound: a recording keeps no further descriptor.
    """

    def __init__(self, path: pathlib.Path, audio_format: AudioFormat) -> None:
        self.path = path
        self._format = audio_format
        self._boot = this_boot()
        self._header: bytes | None = None  # tells the file from all others
        self._is_over = False
        self._pyramid = Pyramid(audio_format.channels)

    def restart(self) -> None:
        """Begin anew, because the sound is read from its beginning again."""
        self._pyramid = Pyramid(self._format.channels)
        self._header = None

    def add(self, samples: Samples) -> None:
        """Add samples in the format of the part."""
        for start in range(0, len(samples), _TOGETHER):  # all at once would take as much again
            if self._is_over:
                return
            some = samples[start : start + _TOGETHER]
            made = self._pyramid.add(as_s16(some, self._format.sample_format))
            if made or self._header is None:
                self._do(functools.partial(write_entries, made=made))

    def complete(self, length: int, sha256: str) -> None:
        """Note that the part is complete; drop the peaks if they are not of this sound."""
        if self._is_over:
            return
        if self._pyramid.length != length or self._header is None:
            self.discard()
            return
        rate_hz, channels = self._format.sample_rate_hz, self._format.channels
        header = PeaksHeader(rate_hz, channels, length, identity_of(sha256), self._boot)

        def finish(descriptor: int) -> None:
            os.fdatasync(descriptor)
            write_all(descriptor, header.pack(), 0)

        self._do(finish)
        self._is_over = True

    def discard(self) -> None:
        """Delete the file; there are no peaks until somebody asks for them."""
        self._is_over = True
        with contextlib.suppress(OSError):
            if self._header is not None:
                self.path.unlink()

    def _do(self, work: Callable[[int], None]) -> None:
        try:
            descriptor = self._opened()
            try:
                work(descriptor)
            finally:
                RESERVE.close(descriptor)
        except Exception as error:  # whatever it is, the recording goes on
            _log.warning("the peaks of %s are not kept: %s", self.path.stem, reason_of(error))
            self.discard()

    def _opened(self) -> int:
        if self._header is None:
            self.path.unlink(missing_ok=True)  # of a process before this one
            descriptor = create_file(self.path, mode_in(self.path.parent))
        else:
            descriptor = open_found(self.path, os.O_RDWR)
        try:
            if self._header is None:
                rate_hz, channels = self._format.sample_rate_hz, self._format.channels
                growing = PeaksHeader(rate_hz, channels, None, os.urandom(16), self._boot)
                self._header = growing.pack()
                write_all(descriptor, self._header, 0)
            elif os.pread(descriptor, len(self._header), 0) != self._header:
                self._header = None  # it is not ours to delete
                raise FileNotFoundError(errno.ENOENT, "another file has taken their place")
        except BaseException:
            RESERVE.close(descriptor)
            raise
        return descriptor
