"""A folder of recordings."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import pathlib
import tempfile
import threading
from collections.abc import Callable, Sequence

from adapters.descriptors import RESERVE
from adapters.opening import Refused, make_folder
from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.checking import write_again
from adapters.storage.folder.disk import DiskThread, NotSynced, SyncThread
from adapters.storage.folder.endings import EndingThreads
from adapters.storage.folder.faults import DiskFaults, may_pass
from adapters.storage.folder.files import RecordingFiles
from adapters.storage.folder.journal import FoundJournal
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.parts import RecordingParts
from adapters.storage.folder.recovery import list_unfinished, names_of, recover
from adapters.storage.folder.writer import DESCRIPTORS, FolderWriter
from domain.errors import StorageFailed, StorageFull
from domain.events.server import (
    RecordingRecovered,
    RecoveryFailed,
    ServerEvent,
)
from domain.ports.storage import InterruptedRecording, RecordingWriter, Recovery
from domain.recording.anchors import Anchor
from domain.recording.ledger import Container, LedgerEvent, RecordingInfo
from domain.recording.naming import session_in
from domain.recording.reading import whole

_DESCRIPTORS = 8
"""Descriptors for what is open only for a moment: of the writing thread, of the one that syncs, and
of those that complete recordings."""
_RETRY_S = 5.0
"""Interval of the attempts to complete what a fault of the disk has left unfinished."""


def _owns_all(_name: str) -> bool:
    return True


@dataclasses.dataclass(frozen=True, slots=True)
class _Threads:
    disk: DiskThread
    sync: SyncThread
    endings: EndingThreads


class FolderStore:
    """A folder of WAV or Opus files, ``NAME.wav.part`` with a journal until they are complete.

    `owns` tells by a recording's name whether this process recovers it: several processes may
    share the folder. The `catalogue` is told about each part. Without a catalogue, recovery lists
    the folder.
    """

    def __init__(
        self,
        folder: str,
        options: PartOptions | None = None,
        owns: Callable[[str], bool] = _owns_all,
        catalogue: FolderCatalogue | None = None,
    ) -> None:
        self._folder = pathlib.Path(folder).absolute()
        self._owns = owns
        self._catalogue = catalogue
        self._options = options or PartOptions()
        self._threads: _Threads | None = None
        self._faults = DiskFaults()
        self._lock = threading.Lock()  # for what follows
        self._writers: set[FolderWriter] = set()  # those that have work to do
        self._left: set[str] = set()  # unfinished parts that no writer has open
        self._unsynced: set[str] = set()  # those of them that have to be written again
        self._held: list[RecordingParts] = []  # unfinished parts that recovery could not find
        self._is_retrying = False

    @property
    def disk(self) -> DiskThread:
        """The thread that writes all recordings; it is started at its first use."""
        return self._started().disk

    def check(self) -> None:
        try:
            make_folder(self._folder)
            with tempfile.TemporaryFile(dir=self._folder):
                pass
        except OSError as error:
            raise StorageFailed(
                f"cannot write recordings to {self._folder}: {error.strerror}"
            ) from error

    def recover(self, *, resumable_since: datetime.datetime) -> Recovery:
        interrupted: list[InterruptedRecording] = []
        resumable: set[str] = set()

        def resume(files: RecordingFiles, found: FoundJournal) -> bool:
            if (session_in(files.name) or files.name) not in resumable:
                return False
            if (recording := self._resume(files, found)) is None:
                return False
            interrupted.append(recording)
            return True

        catalogue = self._catalogue
        names = None if catalogue is None else catalogue.unfinished()
        if names is None:
            names = list_unfinished(self._folder)
        names = {name for name in names if self._owns(name)}
        # resume a session with all its tracks, including silent ones
        resumable |= {
            session_in(name) or name
            for name in names
            if self._written_at(name) >= resumable_since.timestamp()
        }
        faults: dict[str, Exception] = {}
        found = recover(self._folder, names, resume, faults)
        # a file that is missing does not come back when the disk does
        passing = {
            name
            for name, error in faults.items()
            if _is_of_disk(error) and not isinstance(error, FileNotFoundError)
        }
        if passing:
            self._started()
            self._unsynced |= {name for name in passing if isinstance(faults[name], NotSynced)}
            self._retry_later(passing)
        if catalogue is not None:
            catalogue.recovered(names | names_of(found))
            catalogue.fill()
        return dataclasses.replace(found, interrupted=interrupted)

    def free_bytes(self) -> int | None:
        """Return the free space, measured by a thread a second ago; None if it is not known."""
        return self._started().sync.free_bytes

    def check_room(self) -> None:
        sync = self._started().sync
        if sync.problem:
            raise StorageFull(f"recordings cannot be written: {sync.problem}")
        least = max(self._options.min_free_bytes, self._options.reserve_bytes)
        if sync.free_bytes is not None and sync.free_bytes < least:
            raise StorageFull("the disk is full")
        # a recording has two files open, and keeps the descriptors of the next two
        has_room = RESERVE.keep(2 * DESCRIPTORS)
        RESERVE.give_back(2 * DESCRIPTORS)
        if not has_room:
            raise StorageFull("too many files are open")

    def poll_events(self) -> Sequence[ServerEvent]:
        return self._faults.poll()

    def create(self, info: RecordingInfo) -> RecordingWriter:
        writer = self._writer(
            RecordingParts(self._folder, info, self._options, self._started().sync, self._catalogue)
        )
        writer.begin()
        return writer

    def close(self) -> None:
        if self._threads is None:
            return
        threads, self._threads = self._threads, None
        is_written = threads.disk.close()
        if threads.endings.close() and is_written:
            for writer in list(self._writers):  # each takes itself out
                writer.abandon()
            for parts in self._held:
                parts.abandon()
        threads.sync.close()
        RESERVE.give_back(_DESCRIPTORS)

    # -- what a fault has left unfinished ------------------------------------------------------

    def _leave(self, parts: RecordingParts) -> None:
        """Complete a recording later, when the disk works again. Runs in an ending thread."""
        names = parts.unfinished()
        is_held = parts.leave()
        with self._lock:
            self._unsynced |= parts.unsynced
            if is_held:
                self._held.append(parts)
        self._retry_later(names)

    def _retry_later(self, names: set[str]) -> None:
        threads = self._threads
        with self._lock:
            self._left |= names
            is_needed = bool(self._left or self._held) and not self._is_retrying
            if threads is None or not is_needed:
                return
            self._is_retrying = True
        threads.endings.submit(self._retry, delay_s=_RETRY_S)

    def _retry(self) -> None:
        """Try to complete what was left, if the folder can be written."""
        threads = self._threads
        with self._lock:
            self._is_retrying = False
            left, held = set(self._left), list(self._held)
        try:
            if threads is not None and threads.sync.is_usable:
                for parts in held:
                    self._complete_held(parts)
                self._recover_left(left)
        finally:
            self._retry_later(set())

    def _complete_held(self, parts: RecordingParts) -> None:
        try:
            parts.complete_written()
        except Exception as error:
            if may_pass(error):
                return
            self._faults.tell(RecoveryFailed(StorageFailed(f"{parts.name}: {error}")))
        with self._lock:
            self._held.remove(parts)
        if (recording := parts.completed_by_itself) is not None:
            self._faults.tell(RecordingRecovered(recording))

    def _recover_left(self, names: set[str]) -> None:
        try:
            for name in names & self._unsynced:
                self._write_again(name)
            faults: dict[str, Exception] = {}
            found = recover(self._folder, names, faults=faults)
            gone = {name for name in names if not self._is_unfinished(name)}
        except Exception:  # it is tried again
            return
        hopeless = {name for name, error in faults.items() if not _is_of_disk(error)}
        for name in hopeless:
            self._faults.tell(
                RecoveryFailed(StorageFailed(f"cannot recover {name}: {faults[name]}"))
            )
        gone |= hopeless
        with self._lock:
            self._left -= gone
        if self._catalogue is not None:
            self._catalogue.recovered(gone | names_of(found))
        for recording in found.recovered:
            self._faults.tell(RecordingRecovered(recording))

    def _write_again(self, name: str) -> None:
        """Write a part again whose data the system may have lost. Raises `OSError`."""
        for container in Container:
            with contextlib.suppress(FileNotFoundError):
                write_again(RecordingFiles(self._folder, name, container).part)
        with self._lock:
            self._unsynced.discard(name)

    def _is_unfinished(self, name: str) -> bool:
        return any(
            os.path.lexists(path)
            for container in Container
            for files in [RecordingFiles(self._folder, name, container)]
            for path in (files.part, files.ledger_part)
        )

    # ------------------------------------------------------------------------------------------

    def _written_at(self, name: str) -> float:
        """Return when an unfinished file was last written; 0 if there is no file."""
        written_at = 0.0
        for container in Container:
            with contextlib.suppress(OSError):
                part = RecordingFiles(self._folder, name, container).part
                written_at = max(written_at, part.lstat().st_mtime)
        return written_at

    def _resume(self, files: RecordingFiles, found: FoundJournal) -> InterruptedRecording | None:
        """Reopen a recording whose client may reconnect; None when it has to be completed.

        Raises `BlockingIOError` if another process is still writing it.
        """
        info = found.info
        if info is None or not info.resume_digest or found.end_reason is not None:
            return None
        modified = files.part.lstat().st_mtime
        written_at = datetime.datetime.fromtimestamp(modified, tz=datetime.UTC)
        if not RecordingParts.is_last(files):
            return None
        sync = self._started().sync
        try:
            parts = RecordingParts.reopen(files, found, self._options, sync, self._catalogue)
        except BlockingIOError:
            raise
        except (OSError, ValueError):
            return None
        return InterruptedRecording(
            info=parts.info,
            length=parts.length,
            ended_at=found.last_sample_at(parts.length) or written_at,
            anchor=_anchor(found.anchor),
            placed=found.placed,
            connections=found.connections,
            writer=self._writer(parts),
        )

    def _writer(self, parts: RecordingParts) -> FolderWriter:
        threads = self._started()
        writer = FolderWriter(
            parts, threads.disk, threads.endings, self._faults, self._leave, self._forget
        )
        with self._lock:
            self._writers.add(writer)
        return writer

    def _forget(self, writer: FolderWriter) -> None:
        """Let a recording's memory be freed at its end: the next recording may not come for long.

        Runs in an ending thread.
        """
        with self._lock:
            self._writers.discard(writer)

    def _started(self) -> _Threads:
        if self._threads is None:
            RESERVE.keep(_DESCRIPTORS)
            disk = DiskThread()
            self._threads = _Threads(disk, SyncThread(self._folder), EndingThreads(disk))
        return self._threads


def _is_of_disk(error: Exception) -> bool:
    """Return whether it was the disk that prevented something, and not what is on it."""
    return isinstance(error, OSError) and not isinstance(error, Refused)


def _anchor(event: LedgerEvent | None) -> Anchor | None:
    """Read the anchor from an event of a ledger."""
    if event is None:
        return None
    try:
        rtp_timestamp, ssrc = event.details["rtp_timestamp"], event.details["ssrc"]
        most = 2**32 - 1
        return Anchor(event.position, whole(rtp_timestamp, most=most), whole(ssrc, most=most))
    except (KeyError, ValueError):  # the line is damaged
        return None
