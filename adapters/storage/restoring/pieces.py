"""What clients have captured, in files beside the recordings until it is in them."""

from __future__ import annotations

import contextlib
import datetime
import errno
import logging
import math
import os
import pathlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from adapters.boot_time import boot_id
from adapters.opening import BLOCK_BYTES, is_mostly_holes
from adapters.storage.folder.disk import NotSynced, add_path, describe
from adapters.storage.folder.part import RESERVE_BYTES
from adapters.storage.restoring.flac import decode_piece
from adapters.storage.restoring.journal import (
    JournalDamaged,
    RestoreJournal,
    RestoreNotes,
    read_restore_journal,
)
from adapters.storage.restoring.pcm import (
    NEW,
    PcmReader,
    Rewrite,
    sync_pcm,
    unfinished,
    write_pcm,
    write_pcm_again,
)
from adapters.threads import LimitedThreads, OneByOne
from domain.errors import PieceInvalid, RecordingRemoved, StorageFailed, StorageFull
from domain.ports.restoring import Pieces, Restored, RestoreKey
from domain.recording.ledger import RestoreState
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import Captured, Restoration

JOURNAL = ".restore"
PCM = ".restore.pcm"
DECODERS = 2
"""Pieces that are decoded at the same time; live recordings need the other cores."""
NOTES = 4
"""Short writes at the same time. They do not wait for pieces, because offers wait for them."""
_NAME = re.compile(r"[0-9A-Za-z_-]{1,100}", re.ASCII)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_log = logging.getLogger("gapless")


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the pieces of all sessions have in common."""

    folder: pathlib.Path
    rewrite: Rewrite
    least_free: int
    most_each: float
    boot: str
    noting: LimitedThreads
    decoding: LimitedThreads
    restoring: LimitedThreads

    def journal(self, session_id: str) -> pathlib.Path:
        return self.folder / f"{session_id}{JOURNAL}"

    def pcm(self, session_id: str) -> pathlib.Path:
        return self.folder / f"{session_id}{PCM}"

    def check_room(self, size: int) -> None:
        """Raise `StorageFull` if the disk has no room for so many bytes, or `OSError`."""
        stats = os.statvfs(self.folder)
        if stats.f_bavail * stats.f_frsize - size < self.least_free:
            raise StorageFull("the disk is full")


class FolderPieces:
    """Keeps ``SESSION.restore`` and ``SESSION.restore.pcm`` in a folder of recordings.

    `owns` tells by the id of a session whether this process restores it: several processes may
    share the folder. `boot` tells this boot of the machine from others.
    """

    def __init__(
        self,
        folder: str,
        owns: Callable[[str], bool],
        rewrite: Rewrite,
        *,
        min_free_bytes: int = 0,
        max_session_bytes: float = math.inf,
        boot: str | None = None,
    ) -> None:
        """`max_session_bytes` are kept of a session: silence, of which a whole day is sent in no
        time, must not fill the disk.
        """
        self._owns = owns
        self._shared = _Shared(
            folder=pathlib.Path(folder).absolute(),
            rewrite=rewrite,
            least_free=max(min_free_bytes, RESERVE_BYTES),
            most_each=max_session_bytes,
            boot=boot_id() if boot is None else boot,
            noting=LimitedThreads(NOTES, name="gapless-pieces"),
            decoding=LimitedThreads(DECODERS, name="gapless-pieces"),
            restoring=LimitedThreads(1, name="gapless-restore"),
        )

    def pending(self) -> Sequence[Pieces]:
        names = self._names()
        for session_id in self._owned(names, JOURNAL + NEW):  # a process was killed
            with contextlib.suppress(OSError):
                unfinished(self._shared.journal(session_id)).unlink()
        found = []
        for session_id in self._owned(names, JOURNAL):
            try:
                found.append(SessionPieces.reopen(self._shared, session_id))
            except (JournalDamaged, OSError) as error:
                # whatever is wrong with this recording, restore the others
                _log.warning("cannot continue to restore a recording: %s", describe(error))
        return found

    async def begin(self, key: RestoreKey) -> Pieces:
        return await self._shared.noting.run(lambda: SessionPieces.create(self._shared, key))

    def _names(self) -> list[str]:
        folder = self._shared.folder
        try:
            # three times as fast as iterdir with 100,000 names
            return os.listdir(folder)  # noqa: PTH208
        except FileNotFoundError:  # nothing was ever recorded
            return []
        except OSError as error:
            add_path(error, folder)
            _log.warning("cannot look for recordings to restore: %s", describe(error))
            return []

    def _owned(self, names: list[str], ending: str) -> list[str]:
        """Return the ids of this process' sessions that have a file of an ending."""
        ids = [name.removesuffix(ending) for name in names if name.endswith(ending)]
        return sorted(item for item in ids if _NAME.fullmatch(item) and self._owns(item))


class SessionPieces:
    """The pieces of one session, see `Pieces`."""

    def __init__(self, shared: _Shared, notes: RestoreNotes, journal: RestoreJournal) -> None:
        self._shared = shared
        self._pcm = shared.pcm(notes.key.session_id)
        self._puts = OneByOne()
        self._restores = OneByOne()
        self._lock = threading.Lock()  # for the files, and for what follows
        self._notes = notes  # `held` is replaced, not changed: it is read without the lock
        self._journal = journal
        self._is_closed = notes.outcome is not None  # whether nothing more is kept
        self._is_in_doubt = False  # whether the system may have lost what is held

    @classmethod
    def create(cls, shared: _Shared, key: RestoreKey) -> SessionPieces:
        """Begin to keep pieces. Raises `StorageFull` or `StorageFailed`."""
        if not _NAME.fullmatch(key.session_id):
            raise StorageFailed(f"{key.session_id!r} cannot be the name of a file")
        path = shared.journal(key.session_id)
        with _translated():
            shared.check_room(0)
            return cls(shared, RestoreNotes(key), RestoreJournal.create(path, key))

    @classmethod
    def reopen(cls, shared: _Shared, session_id: str) -> SessionPieces:
        """Continue with what an earlier process has kept. Raises `JournalDamaged` or `OSError`."""
        path = shared.journal(session_id)
        notes, journal = read_restore_journal(path, boot=shared.boot)
        if notes.key.session_id != session_id:
            raise JournalDamaged(f"{path}: it is of another session")
        pcm = shared.pcm(session_id)
        if notes.outcome is not None:
            pcm.unlink(missing_ok=True)  # a process was killed before it could do so
        else:
            width = notes.key.spool.format.bytes_per_frame
            size, on_disk = _size(pcm)
            # another program has cut the file off
            notes.held.remove(size // width, notes.held.end)
            if is_mostly_holes(notes.held.total * width, on_disk):
                raise JournalDamaged(f"{path}: what it says is not on the disk")
        return cls(shared, notes, journal)

    @property
    def key(self) -> RestoreKey:
        return self._notes.key

    @property
    def held(self) -> Sequence[Range]:
        return list(self._notes.held)

    @property
    def captured(self) -> Captured | None:
        return self._notes.captured

    @property
    def ended_at(self) -> datetime.datetime | None:
        return self._notes.ended_at

    @property
    def outcome(self) -> Restored | None:
        return self._notes.outcome

    async def put(self, start: int, flac: bytes, wanted: Sequence[Range]) -> Sequence[Range]:
        return await self._puts.run(self._shared.decoding, lambda: self._put(start, flac, wanted))

    async def note_captured(self, captured: Captured) -> None:
        if captured != self.captured:
            await self._shared.noting.run(lambda: self._note_captured(captured))

    async def note_end(self, ended_at: datetime.datetime) -> None:
        await self._shared.noting.run(lambda: self._note_end(ended_at))

    async def compare(self) -> Restoration:
        return await self._restores.run(self._shared.decoding, self._compare)

    async def restore(self, state: RestoreState) -> Restored:
        if (outcome := self.outcome) is not None:
            return outcome
        return await self._restores.run(self._shared.restoring, lambda: self._restore(state))

    async def forget(self) -> None:
        await self._restores.run(self._shared.noting, self._forget)

    async def discard(self) -> None:
        await self._restores.run(self._shared.noting, self._discard)

    # -- what follows runs in a thread -------------------------------------------------------------

    def _put(self, start: int, flac: bytes, wanted: Sequence[Range]) -> Sequence[Range]:
        data = decode_piece(flac, self.key.spool.format)
        end = start + len(data) // self.key.spool.format.bytes_per_frame
        with self._lock, _translated():
            new = RangeSet()
            for item in wanted:
                new.add(max(start, item.start), min(end, item.end))
            for item in self._notes.held.within(start, end):
                new.remove(item.start, item.end)
            if len(new) and not self._is_closed:
                self._keep(start, data, new)
            return self._notes.held.within(start, end)

    def _keep(self, start: int, data: bytes, new: RangeSet) -> None:
        audio_format = self.key.spool.format
        self._check_journal()
        total = (self._notes.held.total + new.total) * audio_format.bytes_per_frame
        if total > self._shared.most_each:
            raise PieceInvalid("the session has sent as much sound as this server allows")
        self._shared.check_room(new.total * audio_format.bytes_per_frame)
        write_pcm(self._pcm, audio_format, start, data, new)
        self._journal.note_held(new, boot=self._shared.boot)
        held = self._notes.held.minus(RangeSet())
        for item in new:
            held.add(item.start, item.end)
        self._notes.held = held
        self._keep_journal_small()

    def _check_journal(self) -> None:
        """Raise `RecordingRemoved` if it was: nobody would delete a file that came back."""
        if not self._journal.path.exists():
            raise RecordingRemoved("its recording was removed")

    def _keep_journal_small(self) -> None:
        if self._journal.has_grown:
            with contextlib.suppress(OSError):  # the next line tries again
                self._settle()

    def _settle(self) -> None:
        """Sync what is held, and write a short journal that says so. Raises `OSError`."""
        if len(self._notes.held):
            self._sync()
        self._journal.write_anew(self._notes)

    def _sync(self) -> None:
        if self._is_in_doubt:
            write_pcm_again(self._pcm, self.key.spool.format, self._notes.held)
            self._is_in_doubt = False
        try:
            sync_pcm(self._pcm)
        except NotSynced:
            self._is_in_doubt = True
            raise

    def _note_captured(self, captured: Captured) -> None:
        with self._lock, _translated():
            self._journal.note_captured(captured)
            self._notes.captured = captured
            self._keep_journal_small()

    def _note_end(self, ended_at: datetime.datetime) -> None:
        with self._lock, _translated():
            self._journal.note_end(ended_at)
            self._notes.ended_at = ended_at

    def _compare(self) -> Restoration:
        # a day has a million segments: that is seconds of work, and not for the event loop
        key, captured = self.key, self.captured
        restoration = Restoration(key.spool.format, key.mode, self._notes.held)
        with _translated():
            restoration.begin_anew(self._shared.rewrite.segments(key, captured), captured)
        return restoration

    def _restore(self, state: RestoreState) -> Restored:
        if (outcome := self.outcome) is not None:
            return outcome
        try:
            with _translated():
                restored = self._rewrite(state)
                if state is RestoreState.COMPLETE:
                    with self._lock:
                        self._journal.note_outcome(restored)
                        self._notes.outcome = restored
        except BaseException:
            self._is_closed = False
            raise
        if state is RestoreState.COMPLETE:
            with contextlib.suppress(OSError):  # `reopen` or `discard` deletes it
                self._pcm.unlink(missing_ok=True)
        return restored

    def _rewrite(self, state: RestoreState) -> Restored:
        """Rewrite the recording; from now on no piece is kept. Raises as `Rewrite` does."""
        with self._lock:
            self._check_journal()
            self._is_closed = True
            held = self._notes.held
            if len(held):
                self._settle()
        with PcmReader(self._pcm, self.key.spool.format, held) as pcm:
            return self._shared.rewrite(self.key, self.captured, held, pcm, state)

    def _forget(self) -> None:
        with self._lock, _translated():
            held, self._notes.held = self._notes.held, RangeSet()
            try:
                self._journal.write_anew(self._notes)
            except BaseException:
                self._notes.held = held
                raise
            self._pcm.unlink(missing_ok=True)

    def _discard(self) -> None:
        with self._lock, _translated():
            self._is_closed = True
            # the journal is last: the next process deletes what this one could not
            for path in (unfinished(self._pcm), self._pcm, self._journal.path):
                path.unlink(missing_ok=True)


def _size(path: pathlib.Path) -> tuple[int, int]:
    """Return the size of a file, and how much of that is on the disk. Raises `OSError`."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_blocks * BLOCK_BYTES


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise `StorageFull` or `StorageFailed` in place of an `OSError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("the disk is full") from error
        raise StorageFailed(f"captured sound cannot be kept: {describe(error)}") from error
