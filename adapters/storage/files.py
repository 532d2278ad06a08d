"""The files of a recording: their names, and the steps from unfinished to finished."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.storage.disk import sync_folder

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class RecordingFiles:
    """Where the files of the recording NAME are."""

    folder: pathlib.Path
    name: str

    @property
    def part(self) -> pathlib.Path:
        return self.folder / f"{self.name}.wav.part"

    @property
    def journal(self) -> pathlib.Path:
        return self.folder / f"{self.name}.journal"

    @property
    def wav(self) -> pathlib.Path:
        return self.folder / f"{self.name}.wav"

    @property
    def ledger(self) -> pathlib.Path:
        return self.folder / f"{self.name}.json"


def create_private(path: pathlib.Path) -> int:
    """A new file of one's own (0600); raises `FileExistsError` rather than open another's."""
    return os.open(path, _CREATE, 0o600)


def rename_without_replacing(source: pathlib.Path, target: pathlib.Path) -> None:
    """Raises `FileExistsError` when there is a `target`."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        # a file system without hard links; names are unique, so nobody else makes this one now
        source.rename(target)
    else:
        source.unlink()


def complete(files: RecordingFiles, ledger: Mapping[str, Any]) -> None:
    """From ``.part`` and journal to recording and ledger, each step safe to be cut off after.

    The ``.part`` has to be closed and synced. `adapters.storage.recovery` goes on from any step.
    """
    if files.part.exists():
        rename_without_replacing(files.part, files.wav)
        sync_folder(files.folder)
    unfinished = files.ledger.with_suffix(".json.part")
    with contextlib.suppress(FileNotFoundError):
        unfinished.unlink()  # of an attempt that was cut off
    descriptor = create_private(unfinished)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(ledger, file, separators=(",", ":"), ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(descriptor)
    rename_without_replacing(unfinished, files.ledger)
    sync_folder(files.folder)
    with contextlib.suppress(FileNotFoundError):
        files.journal.unlink()
