"""The files of a spool, and what becomes of leftovers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adapters.opening import is_folder, is_regular, open_found, open_own
from adapters.storage.flac_header import INFO_SIZE, read_info
from adapters.storage.folder.disk import add_path, describe, sync_folder
from domain.errors import SpoolFailed
from domain.sound.formats import AudioFormat

JOURNAL = "journal"
_LOCK = ".lock"
_CHUNK = re.compile(r"(\d{15})\.(pcm|flac)")
_OURS = re.compile(r"journal|\d{15}\.(pcm|flac|flac\.part)")
_LEFTOVER = re.compile(r"\..+\.(new|gone)")
MAX_CHUNK_SAMPLES = 1 << 24
"""Far more than a file of ours holds: a longer one is damaged, and could fill the memory."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A file with sound of a spool: `length` samples per channel from `start` on."""

    start: int
    length: int
    path: pathlib.Path

    @property
    def end(self) -> int:
        """The position after the last sample."""
        return self.start + self.length

    @property
    def is_flac(self) -> bool:
        return self.path.suffix == ".flac"


@contextlib.contextmanager
def disk_errors(path: pathlib.Path) -> Iterator[None]:
    """Turn `OSError` into `SpoolFailed`; `path` is told where the error has none."""
    try:
        yield
    except OSError as error:
        add_path(error, path)
        raise SpoolFailed(describe(error)) from error


def pcm_path(folder: pathlib.Path, start: int) -> pathlib.Path:
    return folder / f"{start:015d}.pcm"


def list_chunks(folder: pathlib.Path, audio_format: AudioFormat) -> Sequence[Chunk]:
    """Return the files whose sound can be read, as far as their beginnings tell.

    Where a killed process has left PCM and the FLAC made of it, the PCM counts. Raises `OSError`.
    """
    found: dict[int, Chunk] = {}
    for path in sorted(folder.iterdir()):  # FLAC comes first
        if (match := _CHUNK.fullmatch(path.name)) is None or not is_regular(path):
            continue
        start, length = int(match[1]), _length_of(path, audio_format)
        if length and (start not in found or length >= found[start].length):
            found[start] = Chunk(start, length, path)
    chunks: list[Chunk] = []
    for start in sorted(found):
        if not chunks or start >= chunks[-1].end:
            chunks.append(found[start])
    return chunks


def has_sound(folder: pathlib.Path) -> bool:
    """Return whether any file of a spool may hold sound, even if it cannot be read."""
    return any(_CHUNK.fullmatch(path.name) and path.lstat().st_size for path in folder.iterdir())


def _length_of(path: pathlib.Path, audio_format: AudioFormat) -> int:
    """Return the samples per channel that a file should hold; 0 if it cannot be read."""
    try:
        if path.suffix == ".pcm":
            length = path.lstat().st_size // audio_format.bytes_per_frame
        else:
            descriptor = open_found(path)
            try:
                info = read_info(os.pread(descriptor, INFO_SIZE, 0))
            finally:
                os.close(descriptor)
            length = 0 if info is None or not info.fits(audio_format) else info.length
    except OSError:
        return 0
    return length if length <= MAX_CHUNK_SAMPLES else 0


def size_of(folder: pathlib.Path, *, without: pathlib.Path | None = None) -> int:
    """Return the bytes in the spools of a folder, `without` one of them. Raises `OSError`."""
    total = 0
    for spool in folder.iterdir():
        if spool != without and is_folder(spool):
            # another process may delete it meanwhile
            with contextlib.suppress(FileNotFoundError):
                total += size_of_spool(spool)
    return total


def size_of_spool(spool: pathlib.Path) -> int:
    """Return the bytes in the files of a spool. Raises `OSError`."""
    total = 0
    for path in filter(_is_ours, spool.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # it became another file meanwhile
            total += path.lstat().st_size
    return total


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Let no other process begin a spool or clear leftovers. Raises `OSError`."""
    descriptor = open_own(folder / _LOCK, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def new_name(folder: pathlib.Path, spool_id: str) -> pathlib.Path:
    """Return the name that a spool has before it is complete enough to be found."""
    return folder / f".{spool_id}.new"


def delete(spool: pathlib.Path) -> None:
    """Delete a spool. Raises `OSError`.

    It first gets a name that says so: a kill leaves a whole spool, or leftovers. A power failure
    does not bring it back: its server may have forgotten by then that it has everything.
    """
    gone = spool.with_name(f".{spool.name}.gone")
    spool.rename(gone)
    sync_folder(gone.parent)
    _delete_files(gone)


def clear(folder: pathlib.Path) -> None:
    """Delete what killed processes left while they began or deleted a spool. Raises `OSError`."""
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name) and is_folder(path):
            _delete_files(path)


def _delete_files(folder: pathlib.Path) -> None:
    # another process may clear it at the same time
    with contextlib.suppress(FileNotFoundError):
        for path in list(filter(_is_ours, folder.iterdir())):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a file manager may have put something there
        folder.rmdir()


def _is_ours(path: pathlib.Path) -> bool:
    return _OURS.fullmatch(path.name) is not None
