"""The index of a folder of recordings: an SQLite file that can be rebuilt from the recordings.

Several processes and threads share it. Each call is one short transaction. A damaged index, or one
of another version, is replaced by an empty one. If the file cannot be written, the process uses an
index in its memory instead. The file `STALE` marks that the one on disk misses recordings. The
index is then filled, or completed, from a listing of the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import pathlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from adapters.descriptors import RESERVE
from adapters.opening import (
    Refused,
    create_file,
    is_regular,
    open_folder,
    open_own,
    read_found,
)
from adapters.storage.folder import index_tables as tables
from adapters.storage.folder.index_tables import Change, RecordingRow, RowQuery
from adapters.storage.media_file import write_all
from domain.errors import StorageFailed

INDEX = ".catalogue.sqlite3"
STALE = ".catalogue.stale"
CLOSED = ".catalogue.closed"
VERSION = 3
_BUSY_S = 0.2
"""How long a recording may wait for another process that uses the index."""
_CLOSE_S = 1.0
_TICK_S = 0.02
"""Times of modification are at least that exact."""
_SUFFIXES = ("-wal", "-shm", "-journal", "")
"""Of the files that SQLite opens; the index itself is deleted last."""
_MAX_BYTES = 4 << 30
"""A larger index is not one of Gapless: a million recordings take a quarter of it."""
_MAX_NOTE_BYTES = 100
_BUSY_CODES = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_log = logging.getLogger("gapless")
_T = TypeVar("_T")
_P = ParamSpec("_P")


class FolderIndex:
    """The index of one folder, for all threads of this process."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._path = folder / INDEX
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None  # device and inode of the open file
        self.is_on_disk = True
        """Whether the index is a file, which outlives this process."""

    @property
    def exists(self) -> bool:
        """Return whether the folder has an index."""
        return os.path.lexists(self._path)

    @property
    def is_complete(self) -> bool:
        """Whether the index was filled from a listing and has missed no recording since."""
        if self.is_on_disk and self.stale_ns() is not None:
            return False
        return self.fact("filled") == 1

    def close(self) -> None:
        # another thread may wait for the disk; the process must be able to end
        if self._lock.acquire(timeout=_CLOSE_S):
            try:
                self._disconnect()
            finally:
                self._lock.release()
            self._note_folder()

    def is_as_closed(self) -> bool:
        """Return whether no file was added or removed since the index was closed.

        Ask before anything else: opening the index makes files in the folder.
        """
        try:
            noted = read_found(self._folder / CLOSED, _MAX_NOTE_BYTES)
            return noted.decode() == str(self._folder.stat().st_mtime_ns)
        except (OSError, ValueError):
            return False

    def _note_folder(self) -> None:
        """Note when the folder was modified; writing to an existing file does not modify it."""
        with contextlib.suppress(OSError):
            descriptor = open_own(self._folder / CLOSED, os.O_WRONLY)
            try:
                if os.fstat(descriptor).st_nlink == 1:  # not a name of somebody's file
                    time.sleep(_TICK_S)  # a later change has another time
                    os.ftruncate(descriptor, 0)
                    write_all(descriptor, str(self._folder.stat().st_mtime_ns).encode(), 0)
            finally:
                RESERVE.close(descriptor)

    # -- recordings ------------------------------------------------------------------------------

    def add(self, recordings: Sequence[RecordingRow]) -> None:
        """Add recordings and parts that the index does not have yet."""
        self._write(tables.insert, recordings)

    def put(self, changes: Sequence[Change]) -> None:
        """Add or replace parts; add their recordings if they are missing."""
        self._write(tables.put, changes)

    def drop_part(self, name: str, number: int) -> None:
        """Remove a part, and the recording if that was its last part."""
        self._write(tables.drop_part, name, number)

    def page(self, query: RowQuery) -> Sequence[RecordingRow]:
        """Return recordings with their parts, newest first."""
        return self._read(tables.page, query)

    def find(self, recording_id: str) -> RecordingRow | None:
        """Find a recording by its id or its name."""
        return self._read(tables.find, recording_id)

    def undescribed(self, *, after: str, limit: int) -> Sequence[RecordingRow]:
        """Return recordings of which only the name is known, in the order of their names."""
        return self._read(tables.undescribed, after=after, limit=limit)

    def parts(self, *, live_only: bool = False) -> dict[tuple[str, int], bool]:
        """Return whether each part is live, by name and number."""
        return self._read(tables.parts, live_only=live_only)

    # -- facts about the index -------------------------------------------------------------------

    def fact(self, name: str) -> int | None:
        """Return a number that the index stores about itself."""
        return self._read(tables.fact, name)

    def stale_ns(self) -> int | None:
        """Return when it was noted that the file misses recordings; None if it misses none."""
        try:
            return (self._folder / STALE).lstat().st_mtime_ns
        except OSError:
            return None

    def put_filled(self, folder_ns: int, *, stale_ns: int | None) -> None:
        """Note that the index is complete for the folder as of this modification time.

        `stale_ns` is what it was before the folder was listed: a process that missed something
        since then has noted it anew, and that stays.
        """
        for fact in (("filled", 1), ("folder_ns", folder_ns)):
            self._write(tables.execute, "INSERT OR REPLACE INTO facts VALUES (?, ?)", *fact)
        if self.is_on_disk and stale_ns is not None and self.stale_ns() == stale_ns:
            with contextlib.suppress(OSError):
                (self._folder / STALE).unlink(missing_ok=True)

    # -- connections -----------------------------------------------------------------------------

    def _read(
        self, work: Callable[Concatenate[sqlite3.Connection, _P], _T], *values: _P.args,
        **named: _P.kwargs,
    ) -> _T:  # fmt: skip
        return self._run("BEGIN", lambda connection: work(connection, *values, **named))

    def _write(
        self, work: Callable[Concatenate[sqlite3.Connection, _P], object], *values: _P.args,
        **named: _P.kwargs,
    ) -> None:  # fmt: skip
        try:
            self._run("BEGIN IMMEDIATE", lambda connection: work(connection, *values, **named))
        except _Busy as error:
            # recordings must not wait for it: the next scan finds what is missing now
            _log.warning("the index of %s misses a change: %s", self._folder, error)
            self._mark_stale()
        if not self.is_on_disk:
            self._mark_stale()

    def _run(self, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a transaction; fall back to an index in memory if the file cannot be used.

        All threads share one connection: SQLite's must not be closed while another thread uses
        it. Raises `_Busy` if another process holds the file for long.
        """
        with self._lock:
            for _ in range(3):
                try:
                    return self._transact(self._connected(), begin, work)
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF in _BUSY_CODES:
                        raise _Busy(str(error)) from error
                    self._fall_back(error)
                except sqlite3.DatabaseError as error:
                    self._replace(error)
                except OSError as error:
                    self._fall_back(error)
            self._fall_back(sqlite3.DatabaseError("it is damaged repeatedly"))
            return self._transact(self._connected(), begin, work)

    def _transact(
        self, connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], _T]
    ) -> _T:
        connection.execute(begin)
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return result

    def _connected(self) -> sqlite3.Connection:
        """Return the connection. Raises `sqlite3.Error`, `OSError` or `_Busy`."""
        if self._identity is not None and _identity(self._path) != self._identity:
            self._disconnect()  # the file was deleted, or another process replaced it
        if self._connection is None:
            with _locked(self._folder):
                try:
                    self._connection = _open_file(self._path)
                except sqlite3.OperationalError:
                    raise
                except sqlite3.DatabaseError:
                    _delete(self._path)
                    self._connection = _open_file(self._path)
                self._identity = _identity(self._path)
        return self._connection

    def _replace(self, error: sqlite3.Error) -> None:
        """Replace a damaged file by an empty index."""
        _log.warning("the index of %s is rebuilt: %s", self._folder, error)
        damaged = self._identity
        self._disconnect()
        with contextlib.suppress(OSError, _Busy), _locked(self._folder):
            if _identity(self._path) == damaged:  # no other process has replaced it yet
                _delete(self._path)

    def _fall_back(self, error: Exception) -> None:
        """Keep the index in memory from now on, because the file cannot be used."""
        if not self.is_on_disk:
            return
        _log.warning(
            "the index of %s is kept in memory, because the file cannot be used: %s",
            self._folder,
            error,
        )
        self._mark_stale()
        self._disconnect()
        self.is_on_disk = False
        self._connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False
        )
        self._connection.executescript(tables.SCHEMA)

    def _mark_stale(self) -> None:
        with contextlib.suppress(OSError):
            descriptor = open_own(self._folder / STALE, os.O_WRONLY)
            try:
                os.utime(descriptor)
            finally:
                RESERVE.close(descriptor)

    def _disconnect(self) -> None:
        connection, self._connection, self._identity = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


class _Busy(StorageFailed):
    """Another process holds the file, or its lock, for longer than a recording may wait."""


def _open_file(path: pathlib.Path) -> sqlite3.Connection:
    """Open the index; create it if there is none. Raises `sqlite3.Error` and `OSError`."""
    _require_files(path)
    # Private, and never opened besides by SQLite: closing any descriptor of a file releases all
    # locks that the process holds on it (POSIX), those of SQLite included.
    with contextlib.suppress(FileExistsError):
        RESERVE.close(create_file(path))
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        # what the file says of itself is not believed, and its schema runs no code
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (entries,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and entries == 0:
            connection.executescript(
                f"BEGIN;{tables.SCHEMA}PRAGMA user_version = {VERSION};COMMIT;"
            )
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"it has version {version}, not {VERSION}")
        elif _schema_of(connection) != _expected_schema():
            raise sqlite3.DatabaseError("it has other tables than those of Gapless")
    except BaseException:
        connection.close()
        raise
    return connection


def _require_files(path: pathlib.Path) -> None:
    """Require regular files, or none, where SQLite opens them by name. Raises `Refused`."""
    for suffix in _SUFFIXES:
        file = path.with_name(path.name + suffix)
        if not os.path.lexists(file):
            continue
        if not is_regular(file):
            raise Refused("it is not a file", file)
        if file.lstat().st_size > _MAX_BYTES:
            raise Refused(f"it has more than {_MAX_BYTES} bytes", file)


def _schema_of(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    statement = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
    return connection.execute(statement).fetchall()


@functools.cache
def _expected_schema() -> list[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(tables.SCHEMA)
        return _schema_of(connection)


def _delete(path: pathlib.Path) -> None:
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _identity(path: pathlib.Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Hold the lock under which a process creates, checks or deletes the index.

    Raises `_Busy` if another process holds it for long.
    """
    descriptor = open_folder(folder)
    try:
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise _Busy("another process checks it") from error
                time.sleep(_BUSY_S / 20)
        yield
    finally:
        RESERVE.close(descriptor)
