"""The index of a folder of recordings: an SQLite file that can be rebuilt from the recordings.

Several processes and threads share it. Each call is one short transaction. A damaged index, or one
of another version, is replaced by an empty one. If the file cannot be written, the process uses an
index in its memory instead, and the file `STALE` marks that the one on disk misses recordings. Both
are then filled from a listing of the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pathlib
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Concatenate, ParamSpec, TypeVar

INDEX = ".catalogue.sqlite3"
STALE = ".catalogue.stale"
VERSION = 1
_BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE recordings (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    id TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    is_live INTEGER NOT NULL,
    info TEXT
);
CREATE INDEX by_time ON recordings (started_ms, name);
CREATE INDEX by_id ON recordings (id);
CREATE INDEX live ON recordings (started_ms, name) WHERE is_live;
CREATE TABLE parts (
    recording INTEGER NOT NULL,
    number INTEGER NOT NULL,
    container TEXT NOT NULL,
    is_live INTEGER NOT NULL,
    start INTEGER NOT NULL,
    length INTEGER,
    end_reason TEXT,
    ended_at TEXT,
    ledger_ns INTEGER,
    PRIMARY KEY (recording, number)
) WITHOUT ROWID;
CREATE INDEX live_parts ON parts (recording) WHERE is_live;
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
_WILDCARD, _ESCAPED = re.compile("([!%_])"), r"!\1"
_log = logging.getLogger("gapless")
_T = TypeVar("_T")
_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True)
class PartRow:
    """What the index knows of a part."""

    number: int
    container: str
    is_live: bool
    start: int = 0
    length: int | None = None
    """None until the ledger is read."""
    end_reason: str | None = None
    ended_at: str | None = None
    ledger_ns: int | None = None
    """When the ledger was modified that this comes from."""


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """What the index knows of a recording."""

    name: str
    id: str
    started_ms: int
    """Since 1970, of the first sample."""
    is_live: bool
    info: str | None
    """JSON; None until the ledger is read."""
    parts: tuple[PartRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What was learned of a recording, and of some of its parts."""

    recording: RecordingRow
    parts: Sequence[PartRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowQuery:
    """Which recordings are wanted, newest first."""

    limit: int
    before: tuple[int, str] | None = None
    """Only those before this time and name."""
    texts: Sequence[str] = ()
    """Only those whose name contains one of these, ASCII in any case; none for all names."""
    is_live: bool | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class FolderIndex:
    """The index of one folder, for all threads of this process."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._path = folder / INDEX
        self._lock = threading.RLock()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._generation = 0  # connections of earlier ones are not used any more
        self._identity: tuple[int, int] | None = None  # of the file that is open
        self._memory: sqlite3.Connection | None = None

    @property
    def exists(self) -> bool:
        """Whether there is an index in the folder."""
        return self._path.exists()

    @property
    def is_complete(self) -> bool:
        """Whether the index has been filled from a listing, and has missed nothing since."""
        if self._memory is None and (self._folder / STALE).exists():
            return False
        return self.fact("filled") == 1

    @property
    def is_on_disk(self) -> bool:
        """Whether it outlives this process."""
        return self._memory is None

    def close(self) -> None:
        with self._lock:
            self._forget_connections()
            if self._memory is not None:
                self._memory.close()
                self._memory = None

    # -- recordings ------------------------------------------------------------------------------

    def add(self, recordings: Sequence[RecordingRow]) -> None:
        """Add recordings and parts that are not there yet."""
        self._write(_insert, recordings)

    def put(self, changes: Sequence[Change]) -> None:
        """Replace parts, or add them, with their recordings where these are missing."""
        self._write(_put, changes)

    def drop_part(self, name: str, number: int) -> None:
        """Forget a part, and with its last part the recording."""
        self._write(_drop_part, name, number)

    def page(self, query: RowQuery) -> Sequence[RecordingRow]:
        """Recordings with their parts, newest first."""
        return self._read(_page, query)

    def find(self, recording_id: str) -> RecordingRow | None:
        """A recording by its id, or by its name."""
        return self._read(_find, recording_id)

    def parts(self, *, live_only: bool = False) -> dict[tuple[str, int], bool]:
        """All parts by name and number, and whether they are live."""
        statement = (
            "SELECT name, number, parts.is_live FROM parts JOIN recordings ON key = recording"
        )
        rows = self._read(_execute, statement + (" WHERE parts.is_live" if live_only else ""))
        return {(name, number): bool(is_live) for name, number, is_live in rows}

    # -- facts about the index -------------------------------------------------------------------

    def fact(self, name: str) -> int | None:
        """A number that the index keeps about itself."""
        rows = self._read(_execute, "SELECT value FROM facts WHERE name = ?", name)
        return int(rows[0][0]) if rows else None

    def put_filled(self, folder_ns: int) -> None:
        """All recordings are indexed that were in the folder when it was modified, at this time."""
        for fact in (("filled", 1), ("folder_ns", folder_ns)):
            self._write(_execute, "INSERT OR REPLACE INTO facts VALUES (?, ?)", *fact)
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
        """Do something in a transaction, in memory when the file cannot be used."""
        for _ in range(3):
            generation = self._generation
            try:
                return self._transact(self._connection(), begin, work)
            except (sqlite3.OperationalError, OSError) as error:
                self._fall_back(error)
            except sqlite3.DatabaseError as error:
                self._replace(error, generation)
        self._fall_back(sqlite3.DatabaseError("it is damaged again and again"))
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
        """The connection of the calling thread. Raises `sqlite3.Error` or `OSError`."""
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
        """The file is damaged: begin with an empty one."""
        with self._lock:
            if generation != self._generation:
                return  # another thread has done that
            _log.warning("the index of %s is rebuilt: %s", self._folder, error)
            damaged = self._identity
            self._forget_connections()
            with contextlib.suppress(OSError), _locked(self._folder):
                if _identity(self._path) == damaged:  # no other process has replaced it yet
                    _delete(self._path)

    def _fall_back(self, error: Exception) -> None:
        """The file cannot be used: keep an index in memory from now on."""
        with self._lock:
            if self._memory is not None:
                return
            _log.warning("there is no index of %s on the disk: %s", self._folder, error)
            self._mark_stale()
            self._forget_connections()
            self._memory = sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=False
            )
            self._memory.executescript(_SCHEMA)

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
    """Open the index, and make it where there is none. Raises `sqlite3.Error` and `OSError`."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(path, flags, 0o600))  # private, and no link to another file
    connection = sqlite3.connect(
        path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables == 0:
            connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
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
    """Only one process at a time makes, checks or deletes the index."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# -- statements -----------------------------------------------------------------------------------

_RECORDING = "key, name, id, started_ms, is_live, info"
_PART = "number, container, is_live, start, length, end_reason, ended_at, ledger_ns"


def _execute(connection: sqlite3.Connection, statement: str, *values: Any) -> list[Any]:
    return connection.execute(statement, values).fetchall()


def _insert(connection: sqlite3.Connection, recordings: Sequence[RecordingRow]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO recordings (name, id, started_ms, is_live, info)"
        " VALUES (?, ?, ?, ?, ?)",
        [(row.name, row.id, row.started_ms, row.is_live, row.info) for row in recordings],
    )
    connection.executemany(
        f"INSERT OR IGNORE INTO parts (recording, {_PART})"  # noqa: S608 (our own words)
        " SELECT key, ?, ?, ?, ?, ?, ?, ?, ? FROM recordings WHERE name = ?",
        [(*_values(part), row.name) for row in recordings for part in row.parts],
    )
    # a part can begin in a recording that was complete before
    live = [(row.name,) for row in recordings if any(part.is_live for part in row.parts)]
    connection.executemany(_UPDATE_STATE, live)


_UPDATE_STATE = (
    "UPDATE recordings SET is_live ="
    " EXISTS (SELECT 1 FROM parts WHERE recording = key AND parts.is_live) WHERE name = ?"
)


def _put(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    for change in changes:
        recording = change.recording
        _insert(connection, [replace(recording, parts=())])
        if recording.info is not None:
            connection.execute(
                "UPDATE recordings SET info = ? WHERE name = ?", (recording.info, recording.name)
            )
        connection.executemany(
            f"INSERT OR REPLACE INTO parts (recording, {_PART})"  # noqa: S608
            " SELECT key, ?, ?, ?, ?, ?, ?, ?, ? FROM recordings WHERE name = ?",
            [(*_values(part), recording.name) for part in change.parts],
        )
        connection.execute(_UPDATE_STATE, (recording.name,))


def _drop_part(connection: sqlite3.Connection, name: str, number: int) -> None:
    connection.execute(
        "DELETE FROM parts WHERE number = ?"
        " AND recording = (SELECT key FROM recordings WHERE name = ?)",
        (number, name),
    )
    connection.execute(_UPDATE_STATE, (name,))
    connection.execute(
        "DELETE FROM recordings WHERE name = ?"
        " AND NOT EXISTS (SELECT 1 FROM parts WHERE recording = key)",
        (name,),
    )


def _page(connection: sqlite3.Connection, query: RowQuery) -> Sequence[RecordingRow]:
    conditions, values = ["1"], list[Any]()
    if query.before is not None:
        conditions.append("(started_ms, name) < (?, ?)")
        values += query.before
    if query.since_ms is not None:
        conditions.append("started_ms >= ?")
        values.append(query.since_ms)
    if query.until_ms is not None:
        conditions.append("started_ms < ?")
        values.append(query.until_ms)
    if query.is_live is not None:
        conditions.append("is_live" if query.is_live else "NOT is_live")
    if query.texts:
        like = "name LIKE ? ESCAPE '!'"  # a third of the time of instr and lower
        conditions.append(f"({' OR '.join([like] * len(query.texts))})")
        values += [f"%{_WILDCARD.sub(_ESCAPED, text)}%" for text in query.texts]
    rows = connection.execute(
        f"SELECT {_RECORDING} FROM recordings WHERE {' AND '.join(conditions)}"  # noqa: S608
        " ORDER BY started_ms DESC, name DESC LIMIT ?",
        (*values, query.limit),
    ).fetchall()
    return [_with_parts(connection, row) for row in rows]


def _find(connection: sqlite3.Connection, recording_id: str) -> RecordingRow | None:
    row = connection.execute(
        f"SELECT {_RECORDING} FROM recordings WHERE id = ?1 OR name = ?1"  # noqa: S608
        " ORDER BY name = ?1, name LIMIT 1",
        (recording_id,),
    ).fetchone()
    return None if row is None else _with_parts(connection, row)


def _with_parts(connection: sqlite3.Connection, row: Sequence[Any]) -> RecordingRow:
    key, name, recording_id, started_ms, is_live, info = row
    parts = connection.execute(
        f"SELECT {_PART} FROM parts WHERE recording = ? ORDER BY number",  # noqa: S608
        (key,),
    )
    return RecordingRow(
        name,
        recording_id,
        started_ms,
        bool(is_live),
        info,
        tuple(PartRow(number, container, bool(live), *rest) for number, container, live, *rest
              in parts),
    )  # fmt: skip


def _values(part: PartRow) -> tuple[Any, ...]:
    return (
        part.number, part.container, part.is_live, part.start, part.length, part.end_reason,
        part.ended_at, part.ledger_ns,
    )  # fmt: skip
