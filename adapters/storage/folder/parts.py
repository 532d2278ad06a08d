"""A recording on disk: one file, or several that follow each other to the sample.

Everything in here runs in the disk's thread.
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
from dataclasses import dataclass, replace

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
from domain.sound.pieces import Sound, split

RESERVE_BYTES = 4 << 20
"""Recordings stop when so little is free: enough to complete them and write their ledgers."""
MAX_WAV_DATA_BYTES = 2**32 - 2**20
"""What a WAV can hold, with room for its header: 12 h 25 min of 48 kHz mono s16."""
CONTINUED = "continued"
"""The end reason of all parts of a recording but the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOptions:
    """How recordings are laid out on disk."""

    min_free_bytes: int = 0
    """No new recording when less is free."""
    rf64: bool = False
    """Past the size of a WAV go on as RF64 in the same file, instead of in a new part."""
    max_data_bytes: int = MAX_WAV_DATA_BYTES
    """Where a new part begins."""
    rotate_s: float | None = None
    """A new part after so much time, too."""
    reserve_bytes: int = RESERVE_BYTES

    def part_samples(self, info: RecordingInfo) -> int | None:
        """Samples per channel that a part holds; None for no limit."""
        limits = []
        if info.container is Container.WAV and not self.rf64:
            limits.append(self.max_data_bytes // info.format.bytes_per_frame)
        if self.rotate_s is not None:
            limits.append(round(self.rotate_s * info.format.sample_rate_hz))
        return max(1, min(limits)) if limits else None


class RecordingParts:
    """A recording as one file, or as several that follow each other to the sample."""

    def __init__(
        self, folder: pathlib.Path, info: RecordingInfo, options: PartOptions, sync: SyncThread
    ) -> None:
        self._folder = folder
        self._info = info
        self._options = options
        self._sync = sync
        self._limit = options.part_samples(info)
        self._number = 0
        self._before = 0  # samples in the parts before this one
        self._attempts = 1
        self._anchor: LedgerEvent | None = None
        self._part: _Part | None = None
        self.completed: pathlib.Path | None = None
        """The first part, once it is complete."""

    @classmethod
    def reopen(
        cls,
        files: RecordingFiles,
        found: FoundJournal,
        options: PartOptions,
        sync: SyncThread,
    ) -> RecordingParts:
        """Go on with a recording that another process has left, from its last part.

        Raises `BlockingIOError` when somebody is still writing it, and `ValueError` or `OSError`
        when it cannot be gone on with; nothing has been changed then.
        """
        info = found.info
        if info is None or found.data_offset is None:
            raise ValueError("it has no journal")
        base, number = _split_name(info.name)
        offset = datetime.timedelta(seconds=found.before.samples / info.format.sample_rate_hz)
        whole = replace(info, name=base, started_at=info.started_at - offset)
        parts = cls(files.folder, whole, options, sync)
        parts._number, parts._before = number, found.before.samples
        parts._attempts, parts._anchor = found.attempts, found.anchor
        parts._part = _Part.reopen(files, info, found, options, sync)
        return parts

    @staticmethod
    def is_last(files: RecordingFiles) -> bool:
        """Whether a recording ends with this part, as far as it was written."""
        base, number = _split_name(files.name)
        return not RecordingFiles(files.folder, _part_name(base, number + 1), files.container).exist

    @property
    def name(self) -> str:
        return self._info.name

    @property
    def info(self) -> RecordingInfo:
        return self._info

    @property
    def reading(self) -> threading.Thread | None:
        """Reads what was there when the recording was reopened; to be waited for elsewhere."""
        return self._part.reading if self._part is not None else None

    @property
    def length(self) -> int:
        """Samples per channel, of all parts."""
        return self._before + (self._part.length if self._part is not None else 0)

    def open(self) -> None:
        self._number += 1
        offset = datetime.timedelta(seconds=self._before / self._info.format.sample_rate_hz)
        info = replace(
            self._info,
            name=_part_name(self._info.name, self._number),
            started_at=self._info.started_at + offset,
        )
        files = RecordingFiles(self._folder, info.name, info.container)
        before = Before(self._before, self._attempts, self._anchor)
        self._part = _Part.create(files, info, self._options, self._sync, before)
        if self._number > 1:
            self.note(LedgerEvent("continues", self._before, {"recording": self._info.name}))

    def write(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        while pieces:
            part = self._room()
            room = self._limit - part.length if self._limit is not None else None
            taken, rest = (pieces, ()) if room is None else split(pieces, room)
            if not taken:  # a packet that does not fit: it begins the next part, or fills this one
                if part.length:
                    self._begin_next(part)
                    continue
                taken, rest = pieces[:1], pieces[1:]
            part.write(taken, kind)
            pieces = rest

    def write_silence(self, length: int, kind: SampleKind) -> None:
        while length:
            part = self._room()
            room = length if self._limit is None else self._limit - part.length
            part.write_silence(min(length, room), kind)
            length -= min(length, room)

    def note(self, event: LedgerEvent) -> None:
        """Positions count from the beginning of the recording; a part's from its own."""
        assert self._part is not None
        self._attempts += event.type == "reconnected"
        if event.type == "anchor":
            self._anchor = event
        self._part.note(replace(event, position=max(0, event.position - self._before)))

    def give_up(self, reason: str) -> None:
        """Keep what could be written, and say why there is no more."""
        if self._part is not None:
            self._part.give_up(reason)

    def finish(self, reason: str, ended_at: datetime.datetime) -> None:
        if self._part is not None:
            path = self._part.finish(reason, ended_at)
            self.completed = self.completed or path

    def abandon(self) -> None:
        """Leave the files to recovery."""
        if self._part is not None:
            self._part.close()

    def discard(self) -> None:
        """Remove what is not complete, as if it had never been."""
        if self._part is not None:
            self._part.discard()

    def _room(self) -> _Part:
        """The part that takes the next sample."""
        assert self._part is not None
        if self._limit is not None and self._part.length >= self._limit:
            self._begin_next(self._part)
        return self._part

    def _begin_next(self, full: _Part) -> None:
        self._before += full.length
        seconds = self._before / self._info.format.sample_rate_hz
        cut_at = self._info.started_at + datetime.timedelta(seconds=seconds)
        # the next part first: should there be none, this one says why it is the last
        self.open()
        with contextlib.closing(full):
            path = full.finish(CONTINUED, cut_at)
        self.completed = self.completed or path


def _part_name(base: str, number: int) -> str:
    # an underscore sorts behind the dot of the first part's name, a hyphen would not
    return base if number == 1 else f"{base}_part{number:03d}"


def _split_name(name: str) -> tuple[str, int]:
    """The recording's name, and the number of the part."""
    base, separator, number = name.rpartition("_part")
    return (base, int(number)) if separator and number.isdigit() else (name, 1)


class _Part:
    """One file with its journal."""

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
    ) -> _Part:
        if files.recording.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(files.recording))
        part = cls(files, info, options, sync)
        part._descriptor = create_private(files.part)
        with part._closed_on_failure(files.part):
            # whoever recovers a folder sees by the lock that this one is still being written
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
    ) -> _Part:
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
        return self._ledger.length

    @property
    def reading(self) -> threading.Thread | None:
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
            # libsndfile says "System error" and keeps the reason to itself
            if os.fstatvfs(self._descriptor).f_bavail == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise

    def note(self, event: LedgerEvent) -> None:
        assert self._journal is not None
        # whoever goes on after a crash needs the anchors, however many events there are
        if self._ledger.note(event) or event.type == "anchor":
            self._journal.event(event)

    def give_up(self, reason: str) -> None:
        self._ledger.events.append(
            LedgerEvent("storage failed", self._ledger.length, {"reason": reason})
        )

    def finish(self, reason: str, ended_at: datetime.datetime) -> pathlib.Path:
        assert self._journal is not None
        assert self._media is not None
        with contextlib.suppress(OSError):  # on a full disk the ledger has to do without
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
        # file systems on a network may say no earlier that they are full; what has to last was
        # synced before, and the rest is for recovery
        if journal is not None:
            with contextlib.suppress(OSError):
                journal.close()
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def discard(self) -> None:
        self.close()
        for path in (self._files.part, self._files.journal):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _closed_on_failure(self, *made: pathlib.Path) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for path in made:  # nobody else knows of them
                path.unlink()
            self.close()
            raise
