"""A disk with faults that a test scripts: calls of `os` fail or are slow for some files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import threading
import time
from collections.abc import Callable

import pytest


class FaultyDisk:
    """Lets calls fail, for files whose path contains a text, until `repair` is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._faults: dict[str, tuple[int, str]] = {}
        self._originals: dict[str, Callable[..., object]] = {}
        self.failed: list[tuple[str, str]] = []
        """The calls that have failed, with their paths."""

    def fail(self, function: str, number: int, text: str = "") -> None:
        """Let a function of `os` fail with an errno; ``pwrite`` writes the half before."""
        self._faults[function] = number, text
        if function in self._originals:
            return
        original = self._originals[function] = getattr(os, function)

        def call(*arguments: object, **options: object) -> object:
            if (found := self._fault(function, arguments)) is None:
                return original(*arguments, **options)
            number, path = found
            self.failed.append((function, path))
            if function == "pwrite":
                descriptor, data, offset = arguments
                assert isinstance(data, bytes)
                original(descriptor, data[: len(data) // 2], offset)
                raise OSError(number, os.strerror(number))
            raise OSError(number, os.strerror(number), path)

        self._monkeypatch.setattr(os, function, call)

    def repair(self) -> None:
        """End all faults."""
        self._faults.clear()

    def _fault(self, function: str, arguments: tuple[object, ...]) -> tuple[int, str] | None:
        if function not in self._faults:
            return None
        number, text = self._faults[function]
        target = arguments[0]
        paths = [path_of(target) if isinstance(target, int) else str(target)]
        paths += [str(other) for other in arguments[1:] if isinstance(other, str | pathlib.Path)]
        return next(((number, path) for path in paths if text in path), None)


class RemountedDisk:
    """A disk that was mounted again: files that were open before cannot be used any more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, text: str) -> None:
        """Calls on open files whose path contains `text` fail with an errno."""
        stale = {descriptor for descriptor, path in _open_files().items() if text in path}
        for function in ("pwrite", "pread", "fstat", "fsync", "ftruncate"):
            self._replace(monkeypatch, function, stale, number)
        dup2 = os.dup2

        def replace(source: int, target: int, inheritable: bool = True) -> int:
            stale.discard(target)
            return dup2(source, target, inheritable)

        def lock(descriptor: int, operation: int) -> None:
            """Do nothing: locks of the old mount do not count in the new one."""

        monkeypatch.setattr(os, "dup2", replace)
        monkeypatch.setattr(fcntl, "flock", lock)

    @staticmethod
    def _replace(
        monkeypatch: pytest.MonkeyPatch, function: str, stale: set[int], number: int
    ) -> None:
        original = getattr(os, function)

        def call(descriptor: int, *arguments: object) -> object:
            if descriptor in stale:
                raise OSError(number, os.strerror(number))
            return original(descriptor, *arguments)

        monkeypatch.setattr(os, function, call)


def _open_files() -> dict[int, str]:
    """Return the open files and their paths; other threads may close some meanwhile."""
    found = {}
    for link in list(pathlib.Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):
            found[int(link.name)] = str(link.readlink())
    return found


class SlowDisk:
    """A disk that does one thing at a time, and takes its time: `sync_s` and `write_s`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, sync_s: float, write_s: float) -> None:
        self._lock = threading.Lock()
        self.syncing = 0
        """Syncs that run or wait."""
        self.most_syncing = 0
        pwrite = os.pwrite

        def slow_fsync(_descriptor: int) -> None:
            self.syncing += 1
            self.most_syncing = max(self.most_syncing, self.syncing)
            with self._lock:
                time.sleep(sync_s)
            self.syncing -= 1

        def slow_pwrite(descriptor: int, data: bytes, offset: int) -> int:
            with self._lock:
                time.sleep(write_s)
            return pwrite(descriptor, data, offset)

        monkeypatch.setattr(os, "fsync", slow_fsync)
        monkeypatch.setattr(os, "pwrite", slow_pwrite)


def path_of(descriptor: int) -> str:
    """Return the path of an open file."""
    return str(pathlib.Path(f"/proc/self/fd/{descriptor}").readlink())


PASSING = [errno.EIO, errno.ENOSPC, errno.ESTALE, errno.EROFS, errno.EDQUOT, errno.ENOENT]
"""Errors of a disk that may pass."""
