"""The register of a server's tokens: one small SQLite file, which all its processes share.

Each call is one short transaction in a thread of the register. There is no copy in memory, so what
one process has written is known to all others at once. The file is made when the first token is
issued, used or revoked. A file that is damaged, or not of Gapless, is an error: without it nobody
knows which tokens were revoked.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import pathlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from adapters.descriptors import RESERVE
from adapters.opening import PRIVATE, open_own
from domain.errors import GrantInvalid, StorageFailed, StorageFull
from domain.ports.tokens import KnownToken
from domain.session.grants import Grant, roles_named

REGISTER = ".tokens.sqlite3"
MAX_TOKENS = 10_000
KEPT_S = 30 * 86_400.0
"""How long tokens are listed after they have expired."""
SECRET_BYTES = 32
_BUSY_S = 2.0
_VERSION = 1
_APPLICATION = 0x47_41_50_54
_SCHEMA = """
CREATE TABLE IF NOT EXISTS secret (one INTEGER PRIMARY KEY CHECK (one = 1), bytes BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tokens (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, roles TEXT, subject TEXT,
  name TEXT, room TEXT, once INTEGER, issued_at REAL, expires_at REAL, revoked_at REAL,
  used_at REAL, used_by TEXT
);
"""
_COLUMNS = "id, roles, subject, name, room, once, issued_at, expires_at, revoked_at, used_at"
_T = TypeVar("_T")
_log = logging.getLogger("gapless")


class FileTokens:
    """The register in a folder, or in memory if there is none."""

    def __init__(self, folder: str | None) -> None:
        self._path = None if folder is None else pathlib.Path(folder) / REGISTER
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="tokens")
        self._connection: sqlite3.Connection | None = None
        self._file: object = None
        """Which file the connection is to."""
        self._told = ""
        """The latest fault that the log has; empty once the register could be used again."""

    async def secret(self) -> bytes | None:
        return await self._read(_secret, None)

    async def make_secret(self) -> bytes:
        def make(connection: sqlite3.Connection) -> bytes:
            made = secrets.token_bytes(SECRET_BYTES)
            connection.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (made,))
            found = _secret(connection)
            assert found is not None
            return found

        return await self._write(make)

    async def add(self, grant: Grant, *, now: float) -> None:
        await self._write(lambda connection: _add(connection, grant, now))

    async def find(self, token_id: str) -> KnownToken | None:
        def find(connection: sqlite3.Connection) -> KnownToken | None:
            query = f"SELECT {_COLUMNS} FROM tokens WHERE id = ?"  # noqa: S608
            row = connection.execute(query, (token_id,)).fetchone()
            return None if row is None else _known(row)

        return await self._read(find, None)

    async def page(self, *, limit: int, before: str | None) -> Sequence[KnownToken]:
        def page(connection: sqlite3.Connection) -> list[KnownToken]:
            where = ""
            values: list[str | int] = []
            if before is not None:
                where = "WHERE number < (SELECT number FROM tokens WHERE id = ?)"
                values.append(before)
            query = f"SELECT {_COLUMNS} FROM tokens {where} ORDER BY number DESC LIMIT ?"  # noqa: S608
            return [_known(row) for row in connection.execute(query, [*values, limit])]

        return await self._read(page, [])

    async def revoke(self, token_id: str, *, now: float) -> None:
        def revoke(connection: sqlite3.Connection) -> None:
            if not _exists(connection, token_id):
                _make_room(connection, now)
            connection.execute(
                "INSERT INTO tokens (id, revoked_at) VALUES (?, ?) ON CONFLICT (id) "
                "DO UPDATE SET revoked_at = coalesce(revoked_at, excluded.revoked_at)",
                (token_id, now),
            )

        await self._write(revoke)

    async def use(self, grant: Grant, offer: str, *, now: float) -> bool:
        def use(connection: sqlite3.Connection) -> bool:
            if not _exists(connection, grant.id):
                _add(connection, grant, now)
            changed = connection.execute(
                "UPDATE tokens SET used_at = ?, used_by = ? WHERE id = ? AND used_at IS NULL",
                (now, offer, grant.id),
            )
            return changed.rowcount == 1

        return await self._write(use)

    async def unuse(self, grant: Grant, offer: str) -> None:
        def unuse(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE tokens SET used_at = NULL, used_by = NULL WHERE id = ? AND used_by = ?",
                (grant.id, offer),
            )

        await self._write(unuse)

    def close(self) -> None:
        if self._connection is not None:
            self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=False)

    # -- in the thread ---------------------------------------------------------------------------

    async def _read(self, call: Callable[[sqlite3.Connection], _T], otherwise: _T) -> _T:
        """Read from the register; return `otherwise` if there is none yet."""

        def read() -> _T:
            if self._path is not None and not os.path.lexists(self._path):
                return otherwise
            with self._opened() as connection:
                return call(connection)

        return await self._run(read)

    async def _write(self, call: Callable[[sqlite3.Connection], _T]) -> _T:
        def write() -> _T:
            with self._opened() as connection, connection:
                connection.execute("BEGIN IMMEDIATE")
                return call(connection)

        return await self._run(write)

    async def _run(self, call: Callable[[], _T]) -> _T:
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except (sqlite3.Error, OSError, ValueError, GrantInvalid) as error:
            if self._told != str(error):
                self._told = str(error)
                _log.warning("the tokens in %s cannot be used: %s", self._path or "memory", error)
            # strangers get this answer, too: it does not say where the file is
            raise StorageFailed(
                "the tokens of this server cannot be used; its log says why"
            ) from error
        self._told = ""
        return found

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Open the file, unless it is open; it is opened again after an error.

        If another file has taken its place, that one is opened: what was written to the old one
        would be lost with this process, also that a token was revoked.
        """
        if self._connection is not None and self._file != _file_at(self._path):
            self._disconnect()
        if self._connection is None:
            self._connection = _open(self._path)
            self._file = _file_at(self._path)
        try:
            yield self._connection
        except sqlite3.Error:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        if self._connection is not None and self._path is not None:
            connection, self._connection = self._connection, None
            connection.close()


def _file_at(path: pathlib.Path | None) -> object:
    """Return what tells a file from others; None if there is none."""
    if path is None:
        return None
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _open(path: pathlib.Path | None) -> sqlite3.Connection:
    if path is not None:
        # SQLite would follow a link, and make a file that the umask decides about
        descriptor = open_own(path, os.O_RDWR)
        try:
            os.fchmod(descriptor, PRIVATE)
        finally:
            RESERVE.close(descriptor)
    connection = sqlite3.connect(path or ":memory:", timeout=_BUSY_S, isolation_level=None)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables of a new file; raise `DatabaseError` for one of another program."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        application, version = _pragma(connection, "application_id"), _version(connection)
        if (application, version) == (0, 0):
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        elif (application, version) != (_APPLICATION, _VERSION):
            raise sqlite3.DatabaseError("it is of another program, or of another version")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _version(connection: sqlite3.Connection) -> int:
    return _pragma(connection, "user_version")


def _secret(connection: sqlite3.Connection) -> bytes | None:
    row = connection.execute("SELECT bytes FROM secret").fetchone()
    if row is None:
        return None
    if not isinstance(row[0], bytes) or len(row[0]) < SECRET_BYTES:
        raise sqlite3.DatabaseError("its secret is damaged")
    return row[0]


def _exists(connection: sqlite3.Connection, token_id: str) -> bool:
    return bool(connection.execute("SELECT 1 FROM tokens WHERE id = ?", (token_id,)).fetchone())


def _add(connection: sqlite3.Connection, grant: Grant, now: float) -> None:
    _make_room(connection, now)
    roles = ",".join(sorted(role.value for role in grant.roles))
    values = (
        grant.id, roles, grant.subject, grant.name, grant.room, grant.once, grant.issued_at,
        grant.expires_at, None, None,
    )  # fmt: skip
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO tokens ({_COLUMNS}) VALUES ({marks})", values)  # noqa: S608


def _make_room(connection: sqlite3.Connection, now: float) -> None:
    """Forget tokens that have expired long ago. Raises `StorageFull` if all places are taken."""
    connection.execute("DELETE FROM tokens WHERE expires_at < ?", (now - KEPT_S,))
    if connection.execute("SELECT count(*) FROM tokens").fetchone()[0] >= MAX_TOKENS:
        raise StorageFull(f"{MAX_TOKENS} tokens are kept, and none of them has expired long ago")


def _known(row: Sequence[Any]) -> KnownToken:
    token_id, roles, subject, name, room, once, issued_at, expires_at, revoked_at, used_at = row
    grant = None
    if roles is not None:
        grant = Grant(
            id=token_id,
            roles=roles_named(frozenset(roles.split(","))),
            subject=subject,
            name=name,
            room=room,
            once=bool(once),
            issued_at=issued_at,
            expires_at=expires_at,
        )
    return KnownToken(grant=grant, id=token_id, revoked_at=revoked_at, used_at=used_at)
