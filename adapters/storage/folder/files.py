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

from adapters.storage.folder.disk import sync_folder
from domain.recording.ledger import Container

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


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
        return any(file.exists() for file in files)


def create_private(path: pathlib.Path) -> int:
    """Create a file that only its owner can read (0600). Raises `FileExistsError`."""
    return os.open(path, _CREATE, 0o600)


def rename_without_replacing(source: pathlib.Path, target: pathlib.Path) -> None:
    """Rename a file. Raises `FileExistsError` if `target` exists."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        # no hard links on this file system; names are unique, so no other process creates it
        source.rename(target)
    else:
        source.unlink()


def complete(files: RecordingFiles, ledger: Mapping[str, Any]) -> None:
    """Turn ``.part`` and journal into recording and ledger, in steps that recovery can repeat.

    The ``.part`` has to be complete and synced. The process may be killed after any step. As soon
    as the recording exists, its ledger exists, too, at least as ``.json.part``. Raises
    `FileExistsError` instead of replacing anything.
    """
    if files.ledger.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(files.ledger))
    with contextlib.suppress(FileNotFoundError):
        files.ledger_part.unlink()  # a process was killed at this point
    text = json.dumps(ledger, separators=(",", ":"), ensure_ascii=False) + "\n"
    _write_synced(files.ledger_part, text.encode())
    if files.part.exists():
        rename_without_replacing(files.part, files.recording)
        sync_folder(files.folder)
    publish_ledger(files)


def _write_synced(path: pathlib.Path, data: bytes) -> None:
    descriptor = create_private(path)
    try:
        written = 0
        while written < len(data):  # an almost full disk may write only a part
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)
    finally:
        with contextlib.suppress(OSError):  # what was synced is safe
            os.close(descriptor)


def publish_ledger(files: RecordingFiles) -> None:
    """Do the last steps: give the ledger its final name, and delete the journal."""
    rename_without_replacing(files.ledger_part, files.ledger)
    sync_folder(files.folder)
    with contextlib.suppress(FileNotFoundError):
        files.journal.unlink()
