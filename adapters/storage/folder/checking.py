"""Checks the file of a part before it is called complete, and brings back one that is missing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
from dataclasses import replace

from adapters.descriptors import RESERVE
from adapters.opening import create_file, mode_in, open_sound
from adapters.storage.folder.disk import add_path
from adapters.storage.folder.files import RecordingFiles, is_open_file, sync_file
from adapters.storage.folder.media import is_closed, measure, read_format
from adapters.storage.media_file import write_all
from domain.recording.ledger import Container
from domain.sound.formats import AudioFormat

_BLOCK = 4 << 20


class NotAsRecorded(Exception):
    """A file does not hold what its ledger says."""


def check_file(
    path: pathlib.Path, container: Container, audio_format: AudioFormat, length: int
) -> None:
    """Open a complete file, measure it, and compare it with what its ledger says.

    Raises `NotAsRecorded`, or `OSError` if the file cannot be read. The hash is not checked: it was
    made from this file.
    """
    descriptor = open_sound(path)
    try:
        found = read_format(descriptor, container)
        if found != audio_format:
            raise NotAsRecorded(f"{path}: its format is {found}, its ledger says {audio_format}")
        samples = measure(descriptor, container)
        if samples != length:
            raise NotAsRecorded(f"{path}: it has {samples} samples, its ledger says {length}")
        if not is_closed(descriptor, container):
            raise NotAsRecorded(f"{path}: its end is missing")
    except OSError as error:
        add_path(error, path)
        raise
    finally:
        with contextlib.suppress(OSError):  # it was only read
            RESERVE.close(descriptor)


def bring_back(files: RecordingFiles, descriptor: int) -> tuple[RecordingFiles, bool]:
    """Put an open ``.part`` back into its folder if it was moved or deleted.

    Returns its files, with another name if another file has taken the name, and whether the
    ``.part`` was missing. The descriptor then refers to the file in the folder. Raises `OSError`:
    the folder itself may be missing.
    """
    if is_open_file(files.part, descriptor) or is_open_file(files.recording, descriptor):
        return files, False
    if os.path.lexists(files.part):
        number = 2
        while RecordingFiles(files.folder, f"{files.name}-{number}", files.container).exist:
            number += 1
        files = replace(files, name=f"{files.name}-{number}")
    if not _link(files.part, descriptor):
        _copy(files.part, descriptor)
    return files, True


def _link(path: pathlib.Path, descriptor: int) -> bool:
    """Give a moved file its old name, too; return False if that is impossible."""
    with contextlib.suppress(OSError):
        moved = pathlib.Path(f"/proc/self/fd/{descriptor}").readlink()
        if is_open_file(moved, descriptor):
            path.hardlink_to(moved)
            return True
    return False


def _copy(path: pathlib.Path, descriptor: int) -> None:
    """Copy a deleted file, which exists as long as it is open, and let the descriptor refer to it.

    Raises `OSError`, and then leaves no file behind.
    """
    copy = _write_copy(path, descriptor)
    try:
        os.dup2(copy, descriptor, inheritable=False)
    finally:
        RESERVE.close(copy)


def write_again(path: pathlib.Path) -> None:
    """Write an unfinished file anew, because the system may have lost what it could not sync.

    Raises `OSError`: `BlockingIOError` while the file is being written.
    """
    new = path.with_name(f"{path.name}.new")
    descriptor = open_sound(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.unlink(missing_ok=True)  # a process was killed here
        RESERVE.close(_write_copy(new, descriptor))
        new.replace(path)
    finally:
        RESERVE.close(descriptor)


def _write_copy(path: pathlib.Path, descriptor: int) -> int:
    """Make a synced and locked copy of an open file, and return its descriptor.

    Raises `OSError`, and then leaves no file behind.
    """
    copy = create_file(path, mode_in(path.parent))
    try:
        fcntl.flock(copy, fcntl.LOCK_EX)
        offset = 0
        while block := os.pread(descriptor, _BLOCK, offset):
            write_all(copy, block, offset)
            offset += len(block)
        if offset != os.fstat(descriptor).st_size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync_file(copy, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        with contextlib.suppress(OSError):
            RESERVE.close(copy)
        add_path(error, path)
        raise
    return copy
