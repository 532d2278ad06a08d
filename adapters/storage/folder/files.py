"""The files of a recording: their names, and the steps that complete them."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.descriptors import RESERVE
from adapters.opening import PRIVATE, Refused, create_file, mode_in, read_found
from adapters.storage.folder.disk import NotSynced, add_path, sync_folder
from adapters.storage.media_file import write_all
from domain.recording.ledger import Container

PEAKS = ".peaks"


@dataclass(frozen=True, slots=True)
class RecordingFiles:
    """The paths of a recording's files.

    `final` is its name after completion, if another recording has taken `name`.
    """

    folder: pathlib.Path
    name: str
    container: Container = Container.WAV
    final: str | None = None

    @property
    def part(self) -> pathlib.Path:
        return self.folder / f"{self.name}.{self.container.value}.part"

    @property
    def journal(self) -> pathlib.Path:
        return self.folder / f"{self.name}.journal"

    @property
    def peaks(self) -> pathlib.Path:
        """A cache, see `peaks_file`; so it does not count in `exist`."""
        return self.folder / f"{self.name}{PEAKS}"

    @property
    def recording(self) -> pathlib.Path:
        return self.folder / f"{self.final or self.name}.{self.container.value}"

    @property
    def ledger(self) -> pathlib.Path:
        return self.folder / f"{self.final or self.name}.json"

    @property
    def ledger_part(self) -> pathlib.Path:
        return self.folder / f"{self.final or self.name}.json.part"

    @property
    def exist(self) -> bool:
        """Return whether any of the files exists."""
        files = (self.part, self.journal, self.recording, self.ledger, self.ledger_part)
        return any(os.path.lexists(file) for file in files)


def restoring_journal(folder: pathlib.Path, recording_id: str) -> pathlib.Path:
    """Return the file that says what has come of a client's captured sound."""
    return folder / f"{recording_id}.restore"


def restoring_files(folder: pathlib.Path, name: str, recording_id: str) -> list[pathlib.Path]:
    """Return where sound is kept that a client has captured.

    First until it is in the recording, and then what a recording of packets cannot hold.
    """
    names = (f"{recording_id}.restore.pcm", f"{name}.restored", f"{name}.restored.pcm")
    return [restoring_journal(folder, recording_id), *(folder / item for item in names)]


def is_open_file(path: pathlib.Path, descriptor: int) -> bool:
    """Return whether a path names the file that a descriptor has open. Raises `OSError`."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def is_same_file(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Return whether two paths are names of one file; a link is not one. Raises `OSError`."""
    try:
        return os.path.samestat(os.lstat(first), os.lstat(second))
    except FileNotFoundError:
        return False


def rename_without_replacing(source: pathlib.Path, target: pathlib.Path) -> None:
    """Rename a file. Raises `FileExistsError` if another file is at `target`."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        # an earlier call may have failed between the two steps: one file, two names
        if not is_same_file(source, target):
            raise
        source.unlink()
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        # no hard links on this file system; names are unique, so no other process creates it
        source.rename(target)
    else:
        source.unlink()


def complete(files: RecordingFiles, ledger: Mapping[str, Any], descriptor: int) -> None:
    """Turn ``.part`` and journal into recording and ledger, in steps that recovery can repeat.

    `descriptor` is the open ``.part``, which has to be valid and synced. The process may be killed
    after any step. As soon as the recording exists, its ledger exists, too, at least as
    ``.json.part``. A call that raised `OSError` can be repeated. Raises `FileExistsError` instead
    of replacing anything, and `FileNotFoundError` if the open file is not in the folder.
    """
    text = json.dumps(ledger, separators=(",", ":"), ensure_ascii=False) + "\n"
    data = text.encode()
    is_published = _holds(files.ledger, data)
    if os.path.lexists(files.ledger) and not is_published:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(files.ledger))
    if not is_published and not _holds(files.ledger_part, data):
        with contextlib.suppress(FileNotFoundError):
            files.ledger_part.unlink()  # a process was killed at this point
        write_new(files.ledger_part, data, mode=mode_in(files.folder))
    if is_open_file(files.part, descriptor):
        rename_without_replacing(files.part, files.recording)
    _require(files, descriptor)
    sync_folder(files.folder)
    publish_ledger(files)
    _require(files, descriptor)


def _require(files: RecordingFiles, descriptor: int) -> None:
    if not is_open_file(files.recording, descriptor):
        missing = str(files.recording)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), missing)


def _holds(path: pathlib.Path, data: bytes) -> bool:
    try:
        return read_found(path, len(data)) == data
    except (FileNotFoundError, Refused):
        return False


def write_new(
    path: pathlib.Path, data: bytes, *, mode: int = PRIVATE, is_synced: bool = True
) -> None:
    """Write a new file, and sync it.

    Raises `FileExistsError`, and `OSError`: then the file is not there.
    """
    descriptor = create_file(path, mode)
    try:
        write_all(descriptor, data, 0)
        if is_synced:
            sync_file(descriptor, path)
    except OSError as error:
        add_path(error, path)
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    finally:
        with contextlib.suppress(OSError):  # what was synced is safe
            RESERVE.close(descriptor)


def sync_file(descriptor: int, path: pathlib.Path) -> None:
    """Write a file from the memory to the disk. Raises `NotSynced`."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise NotSynced(error.errno, error.strerror, str(path)) from error


def publish_ledger(files: RecordingFiles) -> None:
    """Do the last steps: give the ledger its final name, and delete the journal."""
    if os.path.lexists(files.ledger_part) or not os.path.lexists(files.ledger):
        rename_without_replacing(files.ledger_part, files.ledger)
    sync_folder(files.folder)
    with contextlib.suppress(FileNotFoundError):
        files.journal.unlink()
