"""Replaces files of a recording by new ones: all of them or none.

New files are written beside the old ones, as ``FILE.new``. ``NAME.swap`` is locked meanwhile. It is
empty until the new files are complete and synced. Then it gets a line of JSON that tells which
files get which names, and which are removed: from then on the recording is the new one, and
whoever finds the file takes the steps that are missing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.descriptors import RESERVE
from adapters.opening import mode_in, open_own
from adapters.storage.documents import parse
from adapters.storage.folder.disk import add_path, sync_folder
from adapters.storage.folder.files import is_open_file, sync_file, write_new
from adapters.storage.media_file import write_all
from domain.recording.naming import split_part_name
from domain.recording.reading import shown

SWAP, NEW = ".swap", ".new"
_MAX_BYTES = 16 << 20
_BEGIN = b'{"renames":['


@dataclass(frozen=True, slots=True)
class _Steps:
    renames: Sequence[str]
    """Names that files get; their present names end with `.new`."""
    removals: Sequence[str]


class Swap:
    """The right to replace the files of a recording; while it is held, nobody else has it."""

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        """Wait for nothing: raises `BlockingIOError` while another one replaces or removes files.

        What a killed process has left is finished, or discarded. Raises `OSError`, and `ValueError`
        if another program has changed the ``.swap``.
        """
        self._folder = folder
        self._name = name
        self._path = folder / f"{name}{SWAP}"
        self._new: list[str] = []
        self._is_committed = False
        self._descriptor = _claim(self._path)
        try:
            self._settle()
        except BaseException:
            self._close()
            raise

    @property
    def folder(self) -> pathlib.Path:
        return self._folder

    def new(self, name: str) -> pathlib.Path:
        """Return where to write the file that is to have this name."""
        self._new.append(name)
        return self._folder / f"{name}{NEW}"

    def write_json(self, name: str, entry: Mapping[str, Any]) -> None:
        """Write a new file of JSON, such as a ledger. Raises `OSError`."""
        text = json.dumps(entry, separators=(",", ":"), ensure_ascii=False) + "\n"
        write_new(self.new(name), text.encode(), mode=mode_in(self._folder))

    def commit(self, removals: Iterable[str] = ()) -> None:
        """Give the new files their names, and remove others; the new files have to be synced.

        If `OSError` is raised, the steps that are missing are taken later, or nothing has changed.
        """
        kept = set(self._new)
        steps = {"renames": self._new, "removals": [it for it in removals if it not in kept]}
        line = json.dumps(steps, separators=(",", ":")) + "\n"
        sync_folder(self._folder)
        write_all(self._descriptor, line.encode(), 0)
        sync_file(self._descriptor, self._path)
        self._is_committed = True
        self._finish(_Steps(self._new, steps["removals"]))

    def close(self) -> None:
        """Give up the right; without `commit` the recording is as before."""
        try:
            if not self._is_committed:
                with contextlib.suppress(OSError):  # the next one does it
                    self._discard(self._new)
        finally:
            self._close()

    def __enter__(self) -> Swap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _settle(self) -> None:
        """Finish or discard what a killed process has left."""
        steps = read_steps(os.pread(self._descriptor, _MAX_BYTES, 0), self._name)
        if steps is None:
            self._discard(self._left(), keep_claim=True)
            return
        self._finish(steps)
        self._close()
        self._descriptor = _claim(self._path)

    def _left(self) -> list[str]:
        """Return the names of the new files that a killed process has left. Raises `OSError`."""
        # a server does this for each recording that it restores; iterdir takes five times as long
        names = os.listdir(self._folder)  # noqa: PTH208
        return [
            name.removesuffix(NEW)
            for name in names
            if name.endswith(NEW) and _belongs(name.removesuffix(NEW), self._name)
        ]

    def _discard(self, new: Iterable[str], *, keep_claim: bool = False) -> None:
        if os.fstat(self._descriptor).st_size:  # without its files the line must never come back
            os.ftruncate(self._descriptor, 0)
            sync_file(self._descriptor, self._path)
        for name in new:
            (self._folder / f"{name}{NEW}").unlink(missing_ok=True)
        if not keep_claim:
            self._path.unlink(missing_ok=True)

    def _finish(self, steps: _Steps) -> None:
        """Take the steps that are missing; each of them may be taken already."""
        for name in steps.renames:
            source, target = self._folder / f"{name}{NEW}", self._folder / name
            try:
                source.replace(target)
            except FileNotFoundError:
                if not target.exists():
                    raise
        for name in steps.removals:
            (self._folder / name).unlink(missing_ok=True)
        sync_folder(self._folder)
        self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                RESERVE.close(descriptor)


def finish_swap(folder: pathlib.Path, name: str) -> bool:
    """Finish or discard what a killed process has left of a swap; return whether there was one.

    Raises `BlockingIOError` while a process replaces the files, `OSError` and `ValueError`.
    """
    if not os.path.lexists(folder / f"{name}{SWAP}"):
        return False
    Swap(folder, name).close()
    return True


def _claim(path: pathlib.Path) -> int:
    """Create or open the file, and lock it. Raises `BlockingIOError` if somebody else has it."""
    while True:
        descriptor = open_own(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_open_file(path, descriptor):
                return descriptor
        except OSError as error:
            RESERVE.close(descriptor)
            add_path(error, path)
            raise
        RESERVE.close(descriptor)  # whoever had it has deleted it meanwhile


def read_steps(data: bytes, name: str) -> _Steps | None:
    """Read the steps of a swap; None if they were not written completely, and so never synced.

    Raises `ValueError` if another program has made the file.
    """
    written = data.rstrip(b"\0")  # a file system may have kept only the size of the file
    if not (written.startswith(_BEGIN) or _BEGIN.startswith(written)):
        raise ValueError(f"{name}{SWAP} is not one of Gapless")
    try:
        entry = parse(data) if data.endswith(b"\n") else None
    except ValueError:
        return None
    if entry is None:
        return None
    try:
        steps = _Steps(list(entry["renames"]), list(entry["removals"]))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{name}{SWAP} cannot be read") from error
    for file in (*steps.renames, *steps.removals):
        if not isinstance(file, str) or not _belongs(file, name):
            raise ValueError(
                f"{name}{SWAP} names a file that is not the recording's: {shown(file)}"
            )
    return steps


def _belongs(file: str, name: str) -> bool:
    """Return whether a file is one that a swap of the recording may write or remove."""
    if "/" in file or "\0" in file:
        return False
    if file in (f"{name}.restored", f"{name}.restored.pcm"):
        return True
    stem, _, ending = file.rpartition(".")
    return ending in ("wav", "opus", "json", "peaks") and split_part_name(stem)[0] == name
