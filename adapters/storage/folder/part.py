"""One file of a recording with its journal.

The disk's thread writes it; when nothing more is written, an ending thread may complete it.
"""

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

from adapters.descriptors import RESERVE
from adapters.opening import create_file, mode_in, open_sound
from adapters.storage.digest import Digest
from adapters.storage.folder.checking import NotAsRecorded, bring_back, check_file
from adapters.storage.folder.disk import SyncThread, add_path
from adapters.storage.folder.files import (
    RecordingFiles,
    complete,
    is_open_file,
    sync_file,
)
from adapters.storage.folder.journal import Before, FoundJournal, Journal
from adapters.storage.folder.peaks_file import PartPeaks
from adapters.storage.media_file import MediaFile
from adapters.storage.ogg.file import OggFile
from adapters.storage.wav.file import WavFile
from domain.recording.effects import EndReason
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


_STALE = {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE}
"""Errors of descriptors whose file system is gone, or was mounted again."""


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
    keeps_peaks: bool = False
    """Keep the peaks of PCM beside it, for waveforms."""

    def part_samples(self, info: RecordingInfo) -> int | None:
        """Return after how many samples per channel a part ends; None for no limit."""
        limits = [] if (limit := self.max_part_samples(info)) is None else [limit]
        if self.rotate_s is not None:
            limits.append(max(1, round(self.rotate_s * info.format.sample_rate_hz)))
        return min(limits) if limits else None

    def max_part_samples(self, info: RecordingInfo) -> int | None:
        """Return how many samples per channel a part can hold; None for no limit."""
        if info.container is not Container.WAV or self.rf64:
            return None
        return max(1, self.max_data_bytes // info.format.bytes_per_frame)


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
        self._inode = 0
        self._ledger = Ledger(sample_rate_hz=info.format.sample_rate_hz)
        self._journal: Journal | None = None
        self._media: MediaFile | None = None
        self._peaks: PartPeaks | None = None
        self._digest: Digest | None = None  # of the complete and synced file
        self.damage: NotAsRecorded | None = None
        """Why a part that is complete has less sound than was written to it."""

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
        if os.path.lexists(files.recording):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(files.recording))
        part = cls(files, info, options, sync)
        part._descriptor = create_file(files.part, mode_in(files.folder))
        with part._closed_on_failure(files.part):
            part._inode = os.fstat(part._descriptor).st_ino
            # the lock tells recovery that the part is still being written
            fcntl.flock(part._descriptor, fcntl.LOCK_EX)
            if info.container is Container.OGG:
                part._media = OggFile.create(part._descriptor, info)
            else:
                part._media = WavFile.create(
                    part._descriptor, info, rf64=options.rf64, sink=part._make_peaks()
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
        part._descriptor = open_sound(files.part, os.O_RDWR)
        with part._closed_on_failure():
            part._inode = os.fstat(part._descriptor).st_ino
            fcntl.flock(part._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if info.container is Container.OGG:
                part._media, frames = OggFile.reopen(part._descriptor, info, found)
            else:
                part._media, frames = WavFile.reopen(
                    part._descriptor,
                    info,
                    data_offset=found.data_offset,
                    rf64=options.rf64,
                    sink=part._make_peaks(),
                )
            found.forget_behind(frames)
            part._ledger = found.ledger(frames)
            part._journal = Journal.reopen(files.journal, length=frames)
        return part

    def _make_peaks(self) -> PartPeaks | None:
        if self._options.keeps_peaks and not self._info.is_rendering:
            self._peaks = PartPeaks(self._files.peaks, self._info.format)
        return self._peaks

    @property
    def length(self) -> int:
        """Samples per channel."""
        return self._ledger.length

    @property
    def is_ledger_full(self) -> bool:
        """Whether another part should follow, so that this ledger and journal get no longer."""
        return self._ledger.is_full or (self._journal is not None and self._journal.is_full)

    @property
    def reading(self) -> threading.Thread | None:
        """The thread that hashes the data of a reopened part; wait for it in another thread."""
        return self._media.reading if self._media is not None else None

    def write(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        """Append sound. Raises `OSError`, and can then be repeated, or `CutOff`."""
        assert self._media is not None
        self._write(functools.partial(self._media.write, pieces), sum(map(len, pieces)), kind)

    def write_silence(self, length: int, kind: SampleKind) -> None:
        """Append silence. Raises `OSError`, and can then be repeated, or `CutOff`."""
        assert self._media is not None
        self._write(functools.partial(self._media.write_silence, length), length, kind)

    def _write(self, write: Callable[[], None], length: int, kind: SampleKind) -> None:
        assert self._journal is not None
        free_bytes = self._sync.free_bytes
        if free_bytes is not None and free_bytes < self._options.reserve_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._files.part))
        start = self._ledger.length
        try:
            if self._ledger.add(kind, length):
                self._journal.span(start, kind)
            self._journal.flush()
            write()
        except OSError as error:
            self._ledger.truncate(start)
            add_path(error, self._files.part)
            if error.errno in _STALE:
                with contextlib.suppress(OSError):
                    self._open_again()
            raise
        except Exception:
            self._ledger.truncate(start)
            raise

    def _open_again(self) -> None:
        """Open the files by their names again, if their file system was mounted again.

        The descriptors of before stay unusable then. Otherwise our own lock on the ``.part`` makes
        this fail, and nothing changes. Raises `OSError`.
        """
        assert self._journal is not None
        assert self._media is not None
        descriptor = open_sound(self._files.part, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(descriptor)
            # only if it is the same file, with everything that was written to it
            if found.st_ino == self._inode and found.st_size >= self._media.end:
                self._journal.open_again()
                os.dup2(descriptor, self._descriptor, inheritable=False)
        finally:
            RESERVE.close(descriptor)

    def note(self, event: LedgerEvent) -> None:
        """Add an event; the journal gets it with the next samples if it cannot be written now."""
        assert self._journal is not None
        noted = self._ledger.note(event)
        if noted is not None:
            with contextlib.suppress(OSError):
                self._journal.event(noted)

    def give_up(self, reason: str) -> None:
        """Note in the ledger why the sound ends here, and forget sound that was cut off."""
        if self._media is not None:
            with contextlib.suppress(OSError):
                self._ledger.truncate(self._media.intact)
        self._ledger.events.append(
            LedgerEvent("storage failed", self._ledger.length, {"reason": reason})
        )

    def finish(self, reason: str, ended_at: datetime.datetime) -> pathlib.Path:
        """Complete the file and publish its ledger; call it again after an `OSError`.

        Raises `NotAsRecorded` if the file does not hold what was written, and `NotSynced`: then
        the file has to be left to recovery.
        """
        self._cut_off()
        reason = reason if self.damage is None else EndReason.STORAGE_FAILED.value
        if (digest := self._digest) is None:
            digest = self._close_media(reason, ended_at)
        self._files, was_missing = bring_back(self._files, self._descriptor)
        if was_missing:
            why = {"reason": "its .part was moved or deleted"}
            self._ledger.note(LedgerEvent("file brought back", self._ledger.length, why))
        is_renamed = is_open_file(self._files.recording, self._descriptor)
        check_file(
            self._files.recording if is_renamed else self._files.part,
            self._info.container,
            self._info.format,
            self._ledger.length,
        )
        if self._peaks is not None:
            if self._files.peaks == self._peaks.path:
                self._peaks.complete(self._ledger.length, digest.sha256)
            else:  # another file has taken its name
                self._peaks.discard()
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
            self._descriptor,
        )
        self.close()
        return self._files.recording

    def _close_media(self, reason: str, ended_at: datetime.datetime) -> Digest:
        """Complete and sync the file of the sound. Raises `OSError`."""
        assert self._journal is not None
        assert self._media is not None
        with contextlib.suppress(OSError):  # a full disk may have no room for the last line
            self._journal.end(reason, ended_at)
        try:
            digest = self._media.complete(self._ledger.length)
        except OSError as error:
            add_path(error, self._files.part)
            raise
        sync_file(self._descriptor, self._files.part)
        self._digest = digest
        return digest

    def _cut_off(self) -> None:
        """Forget sound that another program has cut off from the end of the file."""
        assert self._media is not None
        if (missing := self._ledger.length - self._media.intact) > 0:
            self.damage = NotAsRecorded(
                f"{self._files.part}: another program has cut off its last {missing} samples"
            )
            self.give_up("truncated by another program")
            self._digest = None

    @property
    def name(self) -> str:
        """The name of the part, without extension."""
        return self._files.name

    @property
    def can_be_found(self) -> bool:
        """Whether the file is in its folder, so that recovery can complete it."""
        files = self._files
        try:
            os.fstat(self._descriptor)
        except OSError:
            return True  # nobody can read it through this descriptor any more
        try:
            return any(is_open_file(p, self._descriptor) for p in (files.part, files.recording))
        except OSError:
            return False

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
                RESERVE.close(descriptor)

    def discard(self) -> None:
        """Close the part and delete its files."""
        self.close()
        for path in (self._files.part, self._files.journal):
            path.unlink(missing_ok=True)
        if self._peaks is not None:
            self._peaks.discard()

    @contextlib.contextmanager
    def _closed_on_failure(self, *made: pathlib.Path) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if isinstance(error, OSError):
                add_path(error, self._files.part)
            for path in made:  # nothing refers to them yet
                with contextlib.suppress(OSError):
                    path.unlink()
            self.close()
            raise
