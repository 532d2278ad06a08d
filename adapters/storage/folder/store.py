"""A folder of recordings."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import pathlib
import tempfile
from collections.abc import Callable

from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.disk import DiskThread, SyncThread
from adapters.storage.folder.files import RecordingFiles
from adapters.storage.folder.journal import FoundJournal
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.parts import RecordingParts
from adapters.storage.folder.recovery import list_unfinished, names_of, recover
from adapters.storage.folder.writer import FolderWriter
from domain.errors import StorageFailed, StorageFull
from domain.ports.storage import InterruptedRecording, RecordingWriter, Recovery
from domain.recording.ledger import Container, LedgerEvent, RecordingInfo
from domain.recording.naming import session_in
from domain.recording.recording import Anchor


def _owns_all(_name: str) -> bool:
    return True


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
        self._threads: tuple[DiskThread, SyncThread] | None = None
        self._writers: list[FolderWriter] = []

    @property
    def disk(self) -> DiskThread:
        """The thread that writes all recordings; it is started at its first use."""
        return self._started()[0]

    def check(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
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
        found = recover(self._folder, names, resume)
        if catalogue is not None:
            catalogue.recovered(names | names_of(found))
            catalogue.fill()
        return dataclasses.replace(found, interrupted=interrupted)

    def check_room(self) -> None:
        _, sync = self._started()
        least = max(self._options.min_free_bytes, self._options.reserve_bytes)
        if not sync.is_usable or sync.free_bytes < least:
            raise StorageFull("the disk is full, or cannot be written")

    def create(self, info: RecordingInfo) -> RecordingWriter:
        _, sync = self._started()
        writer = self._writer(
            RecordingParts(self._folder, info, self._options, sync, self._catalogue)
        )
        writer.begin()
        return writer

    def close(self) -> None:
        if self._threads is None:
            return
        disk, sync = self._threads
        self._threads = None
        if disk.close():
            for writer in self._unfinished():
                writer.abandon()
        sync.close()

    def _written_at(self, name: str) -> float:
        """Return when an unfinished file was last written; 0 if there is no file."""
        written_at = 0.0
        for container in Container:
            with contextlib.suppress(OSError):
                part = RecordingFiles(self._folder, name, container).part
                written_at = max(written_at, part.stat().st_mtime)
        return written_at

    def _resume(self, files: RecordingFiles, found: FoundJournal) -> InterruptedRecording | None:
        """Reopen a recording whose client may reconnect; None when it has to be completed.

        Raises `BlockingIOError` if another process is still writing it.
        """
        info = found.info
        if info is None or not info.resume_digest or found.end_reason is not None:
            return None
        modified = files.part.stat().st_mtime
        written_at = datetime.datetime.fromtimestamp(modified, tz=datetime.UTC)
        if not RecordingParts.is_last(files):
            return None
        _, sync = self._started()
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
            connections=found.connections,
            writer=self._writer(parts),
        )

    def _writer(self, parts: RecordingParts) -> FolderWriter:
        writer = FolderWriter(parts, self.disk)
        self._writers = [*self._unfinished(), writer]
        return writer

    def _unfinished(self) -> list[FolderWriter]:
        return [writer for writer in self._writers if not writer.is_finished]

    def _started(self) -> tuple[DiskThread, SyncThread]:
        if self._threads is None:
            self._threads = DiskThread(), SyncThread(self._folder)
        return self._threads


def _anchor(event: LedgerEvent | None) -> Anchor | None:
    """Read the anchor from an event of a ledger."""
    if event is None:
        return None
    details = event.details
    return Anchor(event.position, int(details["rtp_timestamp"]), int(details["ssrc"]))
