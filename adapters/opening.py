"""How files are opened that others may have made, and how Gapless makes its own.

Whoever can write to a folder can put anything there under the name of a recording, a ledger or a
spool: a named pipe that nobody writes to, a device without an end, a link out of the folder, a
sparse file of terabytes. So a path is looked at before it is opened, since opening a device may do
something. It is opened without waiting, and without following a link unless a user has named it.
What was opened is looked at again, and nothing is read beyond a limit.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import stat

from adapters.descriptors import RESERVE

PRIVATE = 0o600
PRIVATE_FOLDER = 0o700
MAX_SOUND_BYTES = 1 << 40
"""A larger file is no recording: 66 days of 48 kHz stereo have as much."""
MAX_HOLES_BYTES = 4 << 30
"""A file that is mostly holes may have so much of them: reading them takes as long as sound."""
BLOCK_BYTES = 512
"""The unit of `st_blocks`."""
_BLOCK = 1 << 20
_SAFE = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEFAULT_ACL = "system.posix_acl_default"
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Refused(OSError):
    """What a path names is not opened, or not read: not a regular file, or too large.

    It stays so until somebody changes it, so there is no use in trying again.
    """

    def __init__(self, problem: str, path: str | os.PathLike[str]) -> None:
        super().__init__(errno.EINVAL, problem, os.fspath(path))


def open_found(path: pathlib.Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """Open a file that exists; `follow` a link only where a user has named it.

    Raises `Refused` unless it is a regular file, and `OSError`.
    """
    _require_regular(path.stat(follow_symlinks=follow), path)
    flags |= _SAFE | (0 if follow else os.O_NOFOLLOW)
    descriptor = RESERVE.open(lambda: os.open(path, flags))
    try:
        _require_regular(os.fstat(descriptor), path)
    except BaseException:
        RESERVE.close(descriptor)
        raise
    return descriptor


def open_sound(path: pathlib.Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """Open a file of sound as `open_found` does; one that cannot be read in time is `Refused`."""
    descriptor = open_found(path, flags, follow=follow)
    found = os.fstat(descriptor)
    on_disk = found.st_blocks * BLOCK_BYTES
    problem = ""
    if found.st_size > MAX_SOUND_BYTES:
        problem = f"it has {found.st_size} bytes, more than any recording"
    elif is_mostly_holes(found.st_size, on_disk):
        problem = f"only {on_disk} of its {found.st_size} bytes are on the disk"
    if problem:
        RESERVE.close(descriptor)
        raise Refused(problem, path)
    return descriptor


def is_mostly_holes(size: int, on_disk: int) -> bool:
    """Return whether so much of `size` bytes is not on the disk that it is not worth reading."""
    return size - on_disk > max(MAX_HOLES_BYTES, on_disk)


def open_own(path: pathlib.Path, flags: int, mode: int = PRIVATE) -> int:
    """Open a file that is made if there is none. Raises as `open_found`."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return open_found(path, flags)
        with contextlib.suppress(FileExistsError):  # another process has made it meanwhile
            return create_file(path, mode)


def open_folder(path: pathlib.Path) -> int:
    """Open a folder. Raises `OSError`."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    return RESERVE.open(lambda: os.open(path, flags))


def create_file(path: pathlib.Path, mode: int = PRIVATE) -> int:
    """Create a file, to read and write it. Raises `FileExistsError`, also for a link."""
    return RESERVE.open(lambda: os.open(path, _CREATE, mode))


def make_folder(path: pathlib.Path) -> None:
    """Make a folder that only its owner can enter, and those around it that are missing.

    One that exists stays as it is. Raises `OSError`.
    """
    missing = []
    at = path
    while not at.exists() and at != at.parent:
        missing.append(at)
        at = at.parent
    for folder in reversed(missing):
        folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)  # raises if it is no folder


def mode_in(folder: pathlib.Path) -> int:
    """Return the mode of recordings and ledgers in a folder.

    A folder that its owner shares with its group on purpose (setgid, or a default ACL) lets the
    group read them. Nobody else ever can. Raises `OSError`.
    """
    is_shared = folder.stat().st_mode & stat.S_ISGID != 0
    if not is_shared:
        with contextlib.suppress(OSError):  # the file system has no ACLs, or the folder has none
            is_shared = bool(os.getxattr(folder, _DEFAULT_ACL))
    return PRIVATE | stat.S_IRGRP if is_shared else PRIVATE


def read_found(path: pathlib.Path, limit: int, *, follow: bool = False) -> bytes:
    """Read a whole file. Raises as `open_found`, and `Refused` if it exceeds `limit` bytes."""
    descriptor = open_found(path, follow=follow)
    try:
        return read_all(descriptor, limit, path)
    finally:
        RESERVE.close(descriptor)


def read_all(descriptor: int, limit: int, path: pathlib.Path) -> bytes:
    """Read all that an open file has at the moment, which may grow meanwhile.

    Raises `Refused` if that is more than `limit` bytes.
    """
    pieces: list[bytes] = []
    size = 0
    if os.fstat(descriptor).st_size <= limit:
        while size <= limit:
            block = os.pread(descriptor, min(_BLOCK, limit + 1 - size), size)
            if not block:
                return b"".join(pieces)
            pieces.append(block)
            size += len(block)
    raise Refused(f"it has more than {limit} bytes", path)


def is_regular(path: pathlib.Path) -> bool:
    """Return whether a path names a regular file, without following a link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def is_folder(path: pathlib.Path) -> bool:
    """Return whether a path names a folder, without following a link."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _require_regular(found: os.stat_result, path: pathlib.Path) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "something else")
    raise Refused(f"it is {kind}, not a file", path)
