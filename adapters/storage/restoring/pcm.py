"""The sound of a client's spool in a sparse file, and what makes a recording of it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
from collections.abc import Iterable
from typing import Protocol

from adapters.descriptors import RESERVE
from adapters.opening import mode_in, open_found, open_own
from adapters.storage.folder.disk import add_path
from adapters.storage.folder.files import sync_file
from adapters.storage.media_file import write_all
from domain.ports.restoring import Restored, RestoreKey
from domain.recording.ledger import RestoreState
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import Captured, Segment
from domain.sound.conversion import pack, unpack
from domain.sound.formats import AudioFormat, SampleFormat, Samples

NEW = ".new"
_BLOCK = 4 << 20  # bytes that are hashed at once


def unfinished(path: pathlib.Path) -> pathlib.Path:
    """Return the name of a file while it is made anew; a killed process may leave such a file."""
    return path.with_name(f"{path.name}{NEW}")


class PcmReader:
    """Reads what is held of a spool; the rest is silence.

    The file has packed little-endian samples, as in a WAV, each at its position of the spool. What
    is not in `held` is not read: it may be missing, or left by a write that has failed.
    """

    def __init__(self, path: pathlib.Path, audio_format: AudioFormat, held: RangeSet) -> None:
        self.path = path
        """There is no such file if nothing is held."""
        self.format = audio_format
        """The format of the spool."""
        self._held = held
        self._descriptor: int | None = None

    def __enter__(self) -> PcmReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            RESERVE.close(self._descriptor)
            self._descriptor = None

    def read(self, start: int, length: int) -> Samples:
        """Return samples of the spool, shape (length, channels). Raises `OSError`."""
        return unpack(self._packed(start, length, self._held), self.format)

    def sha256(self, length: int, missing: Iterable[Range] = ()) -> str:
        """Return the hash (hex) of the first `length` samples, packed. Raises `OSError`.

        What is `missing` is silence, also if it is held.
        """
        held = self._held.minus(RangeSet(missing))
        digest = hashlib.sha256()
        step = max(1, _BLOCK // self.format.bytes_per_frame)
        for start in range(0, length, step):
            digest.update(self._packed(start, min(step, length - start), held))
        return digest.hexdigest()

    def _packed(self, start: int, length: int, known: RangeSet) -> bytearray:
        width = self.format.bytes_per_frame
        silent = b"\x80" if self.format.sample_format is SampleFormat.U8 else b"\0"
        data = bytearray(silent) * (length * width)
        view = memoryview(data)
        for held in known.within(start, start + length):
            at = (held.start - start) * width
            self._read_into(view[at : at + held.length * width], held.start * width)
        return data

    def _read_into(self, view: memoryview, offset: int) -> None:
        try:
            if self._descriptor is None:
                self._descriptor = open_found(self.path)
            while len(view):
                count = os.preadv(self._descriptor, [view], offset)
                if not count:  # another program has cut the file off
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                view, offset = view[count:], offset + count
        except OSError as error:
            add_path(error, self.path)
            raise


def write_pcm(
    path: pathlib.Path, audio_format: AudioFormat, start: int, data: bytes, ranges: Iterable[Range]
) -> None:
    """Write ranges of packed sound, which begins at position `start` of the spool.

    The file is made if there is none. Raises `OSError`; some of the ranges may be written then.
    """
    width = audio_format.bytes_per_frame
    descriptor = open_own(path, os.O_WRONLY, mode_in(path.parent))
    try:
        for item in ranges:
            at = (item.start - start) * width
            write_all(descriptor, data[at : at + item.length * width], item.start * width)
    except OSError as error:
        add_path(error, path)
        raise
    finally:
        with contextlib.suppress(OSError):  # what was written is in the page cache
            RESERVE.close(descriptor)


def sync_pcm(path: pathlib.Path) -> None:
    """Write what the file holds to the disk. Raises `NotSynced` or another `OSError`."""
    descriptor = open_found(path)
    try:
        sync_file(descriptor, path)
    finally:
        RESERVE.close(descriptor)


def write_pcm_again(path: pathlib.Path, audio_format: AudioFormat, held: RangeSet) -> None:
    """Write what is held to a new file, since the system may have lost what it could not sync.

    Raises `OSError`; the file is the one before then.
    """
    new = unfinished(path)
    new.unlink(missing_ok=True)
    step = max(1, _BLOCK // audio_format.bytes_per_frame)
    with PcmReader(path, audio_format, held) as pcm:
        for item in held:
            for start in range(item.start, item.end, step):
                part = Range(start, min(step, item.end - start))
                data = pack(pcm.read(start, part.length), audio_format.sample_format)
                write_pcm(new, audio_format, start, data, [part])
    sync_pcm(new)
    new.replace(path)


class Rewrite(Protocol):
    """Puts what is held of a spool into its recording. Calls block, and run in a thread.

    They raise `OSError` as it comes; the caller translates it.
    """

    def __call__(
        self,
        key: RestoreKey,
        captured: Captured | None,
        held: RangeSet,
        pcm: PcmReader,
        state: RestoreState,
    ) -> Restored:
        """Rewrite a recording, see `Pieces.restore`.

        A process may be killed before it has noted the result: the call then comes again, for the
        recording as it is now. The file of `pcm` is deleted afterwards; to keep it, give it a
        second name (a hard link), or rename it as the last step.

        Raises `CapturedInvalid`, `StorageFull`, `StorageFailed` or `OSError`.
        """

    def segments(self, key: RestoreKey, captured: Captured | None) -> list[Segment]:
        """Return the segments of a recording, see `restoring.segments_of`.

        If there is no recording, everything that was captured is one segment.
        Raises `StorageFailed` or `OSError`.
        """
