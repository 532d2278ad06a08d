"""The index of a folder of recordings: an SQLite file that can be rebuilt from the recordings.

Several processes and threads share it. Each call is one short transaction. A damaged index, or one
of another version, is replaced by an empty one. If the file cannot be written, the process uses an
index in its memory instead, and the file `STALE` marks that the one on disk misses recordings. In
both cases the new index is then filled from a listing of the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pathlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from adapters.storage.folder import index_tables as tables
from adapters.storage.folder.index_tables import Change, RecordingRow, RowQuery

INDEX = ".catalogue.sqlite3"
STALE = ".catalogue.stale"
VERSION = 1
_BUSY_S = 5.0
_log = logging.getLogger("gapless")
_T = TypeVar("_T")
_P = ParamSpec("_P")


class FolderIndex:
    """The index of one folder, for all threads of this process."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._path = folder / INDEX
        self._lock = threading.RLock()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._generation = 0  # SQLite connections of earlier generations are not used
        self._identity: tuple[int, int] | None = None  # device and inode of the open file
        self._memory: sqlite3.Connection | None = None

    @property
    def exists(self) -> bool:
        """Return whether the folder has an index."""
        return self._path.exists()

    @property
    def is_complete(self) -> bool:
        """Whether the index was filled from a listing and has missed no recording since."""
        if self._memory is None and (self._folder / STALE).exists():
            return False
        return self.fact("filled") == 1

    @property
    def is_on_disk(self) -> bool:
        """Whether the index is a file, which outlives this process."""
        return self._memory is None

    def close(self) -> None:
        with self._lock:
            self._forget_connections()
            if self._memory is not None:
                self._memory.close()
                self._memory = None

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

    def parts(self, *, live_only: bool = False) -> dict[tuple[str, int], bool]:
        """Return whether each part is live, by name and number."""
        statement = (
            "SELECT name, number, parts.is_live FROM parts JOIN recordings ON key = recording"
        )
        rows = self._read(tables.execute, statement + (" WHERE parts.is_live" if live_only else ""))
        return {(name, number): bool(is_live) for name, number, is_live in rows}

    # -- facts about the index -------------------------------------------------------------------

    def fact(self, name: str) -> int | None:
        """Return a number that the index stores about itself."""
        rows = self._read(tables.execute, "SELECT value FROM facts WHERE name = ?", name)
        return int(rows[0][0]) if rows else None

    def put_filled(self, folder_ns: int) -> None:
        """Note that the index is complete for the folder as of this modification time."""
        for fact in (("filled", 1), ("folder_ns", folder_ns)):
            self._write(tables.execute, "INSERT OR REPLACE INTO facts VALUES (?, ?)", *fact)
        if self._memory is None:
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
        self._run("BEGIN IMMEDIATE", lambda connection: work(connection, *values, **named))
        if self._memory is not None:
            self._mark_stale()

    def _run(self, begin: str, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a transaction; fall back to an index in memory if the file cannot be used."""
        for _ in range(3):
            generation = self._generation
            try:
                return self._transact(self._connection(), begin, work)
            except (sqlite3.OperationalError, OSError) as error:
                self._fall_back(error)
            except sqlite3.DatabaseError as error:
                self._replace(error, generation)
        self._fall_back(sqlite3.DatabaseError("it is damaged repeatedly"))
        return self._transact(self._connection(), begin, work)

    def _transact(
        self, connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], _T]
    ) -> _T:
        alone = self._lock if connection is self._memory else contextlib.nullcontext()
        with alone:
            connection.execute(begin)
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            return result

    def _connection(self) -> sqlite3.Connection:
        """Return the SQLite connection of this thread. Raises `sqlite3.Error` or `OSError`."""
        if self._memory is not None:
            return self._memory
        if self._identity is not None and _identity(self._path) != self._identity:
            with self._lock:
                self._forget_connections()  # the file was deleted, or another process replaced it
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None and self._local.generation == self._generation:
            return connection
        with self._lock:
            connection = self._open()
            self._connections.append(connection)
            self._local.connection, self._local.generation = connection, self._generation
            return connection

    def _open(self) -> sqlite3.Connection:
        with _locked(self._folder):
            try:
                connection = _open_file(self._path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:
                _delete(self._path)
                connection = _open_file(self._path)
            self._identity = _identity(self._path)
            return connection

    def _replace(self, error: sqlite3.Error, generation: int) -> None:
        """Replace a damaged file by an empty index."""
        with self._lock:
            if generation != self._generation:
                return  # another thread has replaced it
            _log.warning("the index of %s is rebuilt: %s", self._folder, error)
            damaged = self._identity
            self._forget_connections()
            with contextlib.suppress(OSError), _locked(self._folder):
                if _identity(self._path) == damaged:  # no other process has replaced it yet
                    _delete(self._path)

    def _fall_back(self, error: Exception) -> None:
        """Keep the index in memory from now on, because the file cannot be used."""
        with self._lock:
            if self._memory is not None:
                return
            _log.warning(
                "the index of %s is kept in memory, because the file cannot be used: %s",
                self._folder,
                error,
            )
            self._mark_stale()
            self._forget_connections()
            self._memory = sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=False
            )
            self._memory.executescript(tables.SCHEMA)

    def _mark_stale(self) -> None:
        with contextlib.suppress(OSError):
            (self._folder / STALE).touch(mode=0o600)

    def _forget_connections(self) -> None:
        self._generation += 1
        self._identity = None
        connections, self._connections = self._connections, []
        for connection in connections:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _open_file(path: pathlib.Path) -> sqlite3.Connection:
    """Open the index; create it if there is none. Raises `sqlite3.Error` and `OSError`."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(path, flags, 0o600))  # only the owner can read it; do not follow a link
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
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
    except BaseException:
        connection.close()
        raise
    return connection


def _delete(path: pathlib.Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _identity(path: pathlib.Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Hold the lock under which a process creates, checks or deletes the index."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
