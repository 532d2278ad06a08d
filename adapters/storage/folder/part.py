"""One file of a recording with its journal. Everything here runs in the disk's thread."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import functools
import os
import pathlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from adapters.storage.folder.disk import SyncThread
from adapters.storage.folder.files import RecordingFiles, complete, create_private
from adapters.storage.folder.journal import Before, FoundJournal, Journal
from adapters.storage.media_file import MediaFile
from adapters.storage.ogg.file import OggFile
from adapters.storage.wav.file import WavFile
from domain.recording.ledger import (
    Container,
    Ledger,
    LedgerEvent,
    RecordingInfo,
    SampleKind,
    document,
)
from domain.sound.pieces import Sound

RESERVE_BYTES = 4 << 20
"""Recordings end when less space is free. It is enough to write all ledgers."""
MAX_WAV_DATA_BYTES = 2**32 - 2**20
"""Maximum size of the data in a WAV: 12 h 25 min of 48 kHz mono s16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOptions:
    """How recordings are laid out on disk."""

    min_free_bytes: int = 0
    """No recording begins when less space is free."""
    rf64: bool = False
    """Beyond the size of a WAV, continue as RF64 in the same file instead of in a new part."""
    max_data_bytes: int = MAX_WAV_DATA_BYTES
    """A new part begins after this many bytes."""
    rotate_s: float | None = None
    """A new part also begins after this many seconds."""
    reserve_bytes: int = RESERVE_BYTES

    def part_samples(self, info: RecordingInfo) -> int | None:
        """Return how many samples per channel a part can hold; None for no limit."""
        limits = []
        if info.container is Container.WAV and not self.rf64:
            limits.append(self.max_data_bytes // info.format.bytes_per_frame)
        if self.rotate_s is not None:
            limits.append(round(self.rotate_s * info.format.sample_rate_hz))
        return max(1, min(limits)) if limits else None


class Part:
    """A file being written, its ledger and its journal."""

    def __init__(
        self, files: RecordingFiles, info: RecordingInfo, options: PartOptions, sync: SyncThread
    ) -> None:
        self._files = files
        self._info = info
        self._options = options
        self._sync = sync
        self._descriptor = -1
        self._ledger = Ledger()
        self._journal: Journal | None = None
        self._media: MediaFile | None = None

    @classmethod
    def create(
        cls,
        files: RecordingFiles,
        info: RecordingInfo,
        options: PartOptions,
        sync: SyncThread,
        before: Before,
    ) -> Part:
        """Create the files of a part. Raises `OSError`, and then leaves no file behind."""
        if files.recording.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(files.recording))
        part = cls(files, info, options, sync)
        part._descriptor = create_private(files.part)
        with part._closed_on_failure(files.part):
            # the lock tells recovery that the part is still being written
            fcntl.flock(part._descriptor, fcntl.LOCK_EX)
            part._media = (
                OggFile.create(part._descriptor, info)
                if info.container is Container.OGG
                else WavFile.create(part._descriptor, info, rf64=options.rf64)
            )
            part._journal = Journal.create(
                files.journal, info, data_offset=part._media.data_offset, before=before
            )
        return part

    @classmethod
    def reopen(
        cls,
        files: RecordingFiles,
        info: RecordingInfo,
        found: FoundJournal,
        options: PartOptions,
        sync: SyncThread,
    ) -> Part:
        """Reopen a part that another process has left, see `RecordingParts.reopen`."""
        assert found.data_offset is not None
        part = cls(files, info, options, sync)
        part._descriptor = os.open(files.part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        with part._closed_on_failure():
            fcntl.flock(part._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if info.container is Container.OGG:
                part._media, frames = OggFile.reopen(part._descriptor, info, found)
            else:
                part._media, frames = WavFile.reopen(
                    part._descriptor, info, data_offset=found.data_offset, rf64=options.rf64
                )
            found.forget_behind(frames)
            part._ledger = found.ledger(frames)
            part._journal = Journal.reopen(files.journal, length=frames)
        return part

    @property
    def length(self) -> int:
        """Samples per channel."""
        return self._ledger.length

    @property
    def reading(self) -> threading.Thread | None:
        """The thread that hashes the data of a reopened part; wait for it in another thread."""
        return self._media.reading if self._media is not None else None

    def write(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        assert self._media is not None
        self._write(functools.partial(self._media.write, pieces), sum(map(len, pieces)), kind)

    def write_silence(self, length: int, kind: SampleKind) -> None:
        assert self._media is not None
        self._write(functools.partial(self._media.write_silence, length), length, kind)

    def _write(self, write: Callable[[], None], length: int, kind: SampleKind) -> None:
        assert self._journal is not None
        if self._sync.free_bytes < self._options.reserve_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        start = self._ledger.length
        try:
            if self._ledger.add(kind, length):
                self._journal.span(start, kind)
            write()
        except Exception as error:
            self._ledger.truncate(start)
            # libsndfile only says "System error"
            if self._disk_is_full():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise

    def _disk_is_full(self) -> bool:
        try:
            return os.fstatvfs(self._descriptor).f_bavail == 0
        except OSError:
            return False

    def note(self, event: LedgerEvent) -> None:
        assert self._journal is not None
        # resuming after a crash needs the anchors, however many events there are
        if self._ledger.note(event) or event.type == "anchor":
            self._journal.event(event)

    def give_up(self, reason: str) -> None:
        """Note in the ledger why the sound ends here."""
        self._ledger.events.append(
            LedgerEvent("storage failed", self._ledger.length, {"reason": reason})
        )

    def finish(self, reason: str, ended_at: datetime.datetime) -> pathlib.Path:
        """Complete the file and publish its ledger. Raises `OSError`."""
        assert self._journal is not None
        assert self._media is not None
        with contextlib.suppress(OSError):  # a full disk may have no room for the last line
            self._journal.end(reason, ended_at)
        digest = self._media.complete(self._ledger.length)
        os.fsync(self._descriptor)
        complete(
            self._files,
            document(
                self._info,
                self._ledger,
                ended_at=ended_at,
                end_reason=reason,
                sha256=digest.sha256,
                loudness=digest.loudness,
            ),
        )
        self.close()
        return self._files.recording

    def close(self) -> None:
        """Release everything; the files stay as they are."""
        media, self._media = self._media, None
        journal, self._journal = self._journal, None
        descriptor, self._descriptor = self._descriptor, -1
        if media is not None:
            media.close()
        # network file systems may report a full disk only at the close; everything important was
        # synced before, and recovery completes the rest
        if journal is not None:
            with contextlib.suppress(OSError):
                journal.close()
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def discard(self) -> None:
        """Close the part and delete its files."""
        self.close()
        for path in (self._files.part, self._files.journal):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _closed_on_failure(self, *made: pathlib.Path) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for path in made:  # nothing refers to them yet
                with contextlib.suppress(OSError):
                    path.unlink()
            self.close()
            raise
