"""Writes a spool as a WAV file."""

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Callable

from adapters.opening import create_file
from adapters.storage.folder.disk import sync_folder
from adapters.storage.folder.files import rename_without_replacing, sync_file
from adapters.storage.media_file import write_all
from adapters.storage.spool.files import disk_errors
from adapters.storage.spool.sound import SpoolSound
from adapters.storage.wav.header import whole_header


def export_wav(sound: SpoolSound, path: pathlib.Path, *, is_stopped: Callable[[], bool]) -> None:
    """Write what was captured as a WAV, with silence in holes; as RF64 from 4 GiB on.

    The file has its name only when it is complete. Raises `SpoolFailed`, also if a file of that
    name exists, and `ReadingStopped`.
    """
    size = sound.length * sound.format.bytes_per_frame
    with disk_errors(path):
        stats = os.statvfs(path.parent)
        if stats.f_bavail * stats.f_frsize < size:  # a spool may claim any length
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        part = path.with_name(f"{path.name}.part")
        descriptor = create_file(part)
        try:
            _write(descriptor, sound, is_stopped)
            sync_file(descriptor, part)
            rename_without_replacing(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        sync_folder(path.parent)


def _write(descriptor: int, sound: SpoolSound, is_stopped: Callable[[], bool]) -> None:
    length = sound.length
    size = length * sound.format.bytes_per_frame
    header = whole_header(sound.format, size)
    write_all(descriptor, header, 0)
    offset = len(header)
    for block in sound.pcm(0, length, is_stopped=is_stopped):
        write_all(descriptor, block, offset)
        offset += len(block)
    if size % 2:
        write_all(descriptor, b"\0", offset)
