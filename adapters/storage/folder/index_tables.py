"""The tables of the index of a folder: rows, and the statements that read and write them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from domain.recording.ledger import Container
from domain.recording.reading import MAX_SAMPLES, moment

SCHEMA = """
CREATE TABLE recordings (
    key INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    id TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    is_live INTEGER NOT NULL,
    info TEXT,
    room TEXT NOT NULL DEFAULT '',
    title TEXT NOT NULL DEFAULT ''
);
CREATE INDEX by_time ON recordings (started_ms, name, title);
CREATE INDEX by_id ON recordings (id);
CREATE INDEX by_room ON recordings (room, started_ms, name) WHERE room != '';
CREATE INDEX undescribed ON recordings (name) WHERE info IS NULL;
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
_OUTSIDE = frozenset("/\0")
_CONTAINERS = frozenset(container.value for container in Container)
MAX_TIME_MS = 253_402_300_799_000
"""The end of the year 9999: times are from 1970 to then."""
_WILDCARD, _ESCAPED = re.compile("([!%_])"), r"!\1"


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
    """Modification time of the ledger from which these values come."""


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """What the index knows about a recording."""

    name: str
    id: str
    started_ms: int
    """Time of the first sample, since 1970."""
    is_live: bool
    info: str | None
    """JSON; None until the ledger is read."""
    room: str = ""
    """The key of its room, see `room_key`. It is written together with `info`, and not read."""
    title: str = ""
    """The key of its title, see `title_key`; as `room`."""
    parts: tuple[PartRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """New facts about a recording and some of its parts."""

    recording: RecordingRow
    parts: Sequence[PartRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowQuery:
    """Selects recordings, newest first."""

    limit: int
    before: tuple[int, str] | None = None
    """Only recordings before this time and name."""
    texts: Sequence[str] = ()
    """Only recordings with one of these texts in their name (ASCII, case ignored); all if empty."""
    title: str = ""
    """With this key in their title, they are selected, too; one is not known before `info` is."""
    room: str = ""
    """Only recordings of the room with this key, and those of which `info` is not known yet."""
    is_live: bool | None = None
    since_ms: int | None = None
    until_ms: int | None = None


def fact(connection: sqlite3.Connection, name: str) -> int | None:
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    if row is not None and not isinstance(row[0], int):
        raise sqlite3.DatabaseError("it has a fact that is not a number")
    return None if row is None else int(row[0])


def parts(connection: sqlite3.Connection, *, live_only: bool) -> dict[tuple[str, int], bool]:
    statement = "SELECT name, number, parts.is_live FROM parts JOIN recordings ON key = recording"
    statement += " WHERE parts.is_live" if live_only else ""
    rows = connection.execute(statement).fetchall()
    for name, number, _ in rows:
        _require(_is_name(name) and _is_number(number, least=1))
    return {(name, number): bool(is_live) for name, number, is_live in rows}


def _require(is_valid: bool) -> None:
    """Raise an error for which the index is replaced, unless a row is valid."""
    if not is_valid:
        raise sqlite3.DatabaseError("it has a row that Gapless has not written")


def _is_name(value: object) -> bool:
    """Return whether a value can be the name of files in the folder."""
    return isinstance(value, str) and bool(value) and not set(value) & _OUTSIDE


def _is_number(value: object, *, least: int = 0) -> bool:
    return isinstance(value, int) and least <= value <= MAX_SAMPLES


def _is_time(value: object) -> bool:
    return isinstance(value, int) and 0 <= value <= MAX_TIME_MS


def _is_known(part: PartRow) -> bool:
    """Return whether a part is one that Gapless has written."""
    numbers = (part.start, part.length or 0, part.ledger_ns or 0)
    texts = (part.end_reason or "", part.ended_at or "")
    try:
        if part.ended_at is not None:
            moment(part.ended_at)
    except ValueError:
        return False
    return (
        _is_number(part.number, least=1)
        and part.container in _CONTAINERS
        and all(map(_is_number, numbers[:2]))
        and isinstance(numbers[2], int)
        and all(isinstance(item, str) for item in texts)
    )


_RECORDING = "key, name, id, started_ms, is_live, info"
_PART = "number, container, is_live, start, length, end_reason, ended_at, ledger_ns"


def execute(connection: sqlite3.Connection, statement: str, *values: Any) -> list[Any]:
    return connection.execute(statement, values).fetchall()


def insert(connection: sqlite3.Connection, recordings: Sequence[RecordingRow]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO recordings (name, id, started_ms, is_live, info, room, title)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (row.name, row.id, row.started_ms, row.is_live, row.info, row.room, row.title)
            for row in recordings
        ],
    )
    connection.executemany(
        f"INSERT OR IGNORE INTO parts (recording, {_PART})"  # noqa: S608 (our own words)
        " SELECT key, ?, ?, ?, ?, ?, ?, ?, ? FROM recordings WHERE name = ?",
        [(*_values(part), row.name) for row in recordings for part in row.parts],
    )
    # a recording that was complete can get another part
    live = [(row.name,) for row in recordings if any(part.is_live for part in row.parts)]
    connection.executemany(_UPDATE_STATE, live)


_UPDATE_STATE = (
    "UPDATE recordings SET is_live ="
    " EXISTS (SELECT 1 FROM parts WHERE recording = key AND parts.is_live) WHERE name = ?"
)


def put(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    for change in changes:
        recording = change.recording
        insert(connection, [replace(recording, parts=())])
        if recording.info is not None:
            connection.execute(
                "UPDATE recordings SET info = ?, room = ?, title = ? WHERE name = ?",
                (recording.info, recording.room, recording.title, recording.name),
            )
        connection.executemany(
            f"INSERT OR REPLACE INTO parts (recording, {_PART})"  # noqa: S608
            " SELECT key, ?, ?, ?, ?, ?, ?, ?, ? FROM recordings WHERE name = ?",
            [(*_values(part), recording.name) for part in change.parts],
        )
        connection.execute(_UPDATE_STATE, (recording.name,))


def drop_part(connection: sqlite3.Connection, name: str, number: int) -> None:
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


def page(connection: sqlite3.Connection, query: RowQuery) -> Sequence[RecordingRow]:
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
    if query.room:
        # with this alone, the index `by_room` has the rows, in their order
        is_known = not undescribed(connection, after="", limit=1)
        conditions.append("room = ? AND room != ''" if is_known else "(room = ? OR info IS NULL)")
        values.append(query.room)
    if query.texts:
        like = "name LIKE ? ESCAPE '!'"  # takes a third of the time of instr and lower
        likes = [like] * len(query.texts) + ["title LIKE ? ESCAPE '!'"] * bool(query.title)
        conditions.append(f"({' OR '.join(likes)})")
        texts = [*query.texts, *([query.title] if query.title else [])]
        values += [f"%{_WILDCARD.sub(_ESCAPED, text)}%" for text in texts]
    rows = connection.execute(
        f"SELECT {_RECORDING} FROM recordings WHERE {' AND '.join(conditions)}"  # noqa: S608
        " ORDER BY started_ms DESC, name DESC LIMIT ?",
        (*values, query.limit),
    ).fetchall()
    return [_with_parts(connection, row) for row in rows]


def undescribed(
    connection: sqlite3.Connection, *, after: str, limit: int
) -> Sequence[RecordingRow]:
    """Return recordings of which only the name is known, in the order of their names."""
    rows = connection.execute(
        f"SELECT {_RECORDING} FROM recordings WHERE info IS NULL AND name > ?"  # noqa: S608
        " ORDER BY name LIMIT ?",
        (after, limit),
    ).fetchall()
    return [_with_parts(connection, row) for row in rows]


def find(connection: sqlite3.Connection, recording_id: str) -> RecordingRow | None:
    row = connection.execute(
        f"SELECT {_RECORDING} FROM recordings WHERE id = ?1 OR name = ?1"  # noqa: S608
        " ORDER BY name = ?1, name LIMIT 1",
        (recording_id,),
    ).fetchone()
    return None if row is None else _with_parts(connection, row)


def _with_parts(connection: sqlite3.Connection, row: Sequence[Any]) -> RecordingRow:
    key, name, recording_id, started_ms, is_live, info = row
    is_text = info is None or isinstance(info, str)
    _require(_is_name(name) and _is_name(recording_id) and is_text and _is_time(started_ms))
    found = connection.execute(
        f"SELECT {_PART} FROM parts WHERE recording = ? ORDER BY number",  # noqa: S608
        (key,),
    )
    parts = tuple(
        PartRow(number, container, bool(live), *rest) for number, container, live, *rest in found
    )
    _require(all(map(_is_known, parts)))
    return RecordingRow(name, recording_id, started_ms, bool(is_live), info, parts=parts)


def _values(part: PartRow) -> tuple[Any, ...]:
    return (
        part.number, part.container, part.is_live, part.start, part.length, part.end_reason,
        part.ended_at, part.ledger_ns,
    )  # fmt: skip
