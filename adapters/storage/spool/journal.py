"""The journal of a spool."""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import pathlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters.opening import create_file, open_found, read_all
from adapters.storage.documents import read_lines
from adapters.storage.folder.disk import add_path
from adapters.storage.folder.files import is_open_file, sync_file
from adapters.storage.media_file import write_all
from domain.ports.spool import SpoolDescription, SpoolSession
from domain.recording.ledger import RestoreMode, timestamp
from domain.recording.ranges import RangeSet
from domain.recording.reading import audio_format, moment, text, whole
from domain.session.rooms import read_room

VERSION = 1
MAX_BYTES = 16 << 20
"""A larger journal is not one of Gapless: a hole takes 40 bytes."""
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_PEEKING_S = 0.001
"""More than asking for a lock and giving it back takes."""


class JournalInUse(Exception):
    """Another process, or another spool of this one, has locked the journal."""


class SpoolJournal:
    """A locked journal. Threads share it; all calls may raise `OSError`."""

    def __init__(self, path: pathlib.Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._end = 0  # offset after the last line
        self._is_torn = False  # whether the last line has no end
        self._is_synced = True
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: pathlib.Path, description: SpoolDescription) -> SpoolJournal:
        """Begin a journal, and lock it."""
        journal = cls(path, create_file(path))
        try:
            fcntl.flock(journal._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            journal._write({"spool": VERSION, **_described(description)})
            journal.sync()
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def open(cls, path: pathlib.Path) -> tuple[SpoolJournal, FoundJournal]:
        """Lock and read a journal. On a disk that is mounted read-only it can only be read.

        Raises `JournalInUse` or `OSError`.
        """
        try:
            descriptor = open_found(path, os.O_RDWR)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            descriptor = open_found(path)
        journal = cls(path, descriptor)
        try:
            while not _is_locked(descriptor, fcntl.LOCK_EX):
                # `peek` shares the lock for a moment, which is no use of the journal
                if not _is_locked(descriptor, fcntl.LOCK_SH):
                    raise JournalInUse
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                time.sleep(_PEEKING_S)
            if not is_open_file(path, descriptor):  # it was deleted before it was locked
                raise JournalInUse
            return journal, journal._read()
        except BaseException:
            journal.close()
            raise

    @classmethod
    def peek(cls, path: pathlib.Path) -> tuple[FoundJournal, bool]:
        """Read a journal, and return whether it is in use. Raises `OSError`.

        It can be opened by others meanwhile.
        """
        descriptor = open_found(path)
        try:
            is_in_use = not _is_locked(descriptor, fcntl.LOCK_SH)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            data = read_all(descriptor, MAX_BYTES, path)
        finally:
            os.close(descriptor)
        return parse_spool_journal(data, path.parent.name), is_in_use

    def note_hole(self, start: int, end: int) -> None:
        """Note what was not captured, before the sound behind it is written."""
        self._write({"hole": [start, end]})

    def note_session(self, session: SpoolSession) -> None:
        """Note a session, also for the time after a power failure."""
        entry = {"server": session.server, "id": session.session_id, "resume": session.resume}
        self._write({"session": entry})
        self.sync()

    def sync(self) -> None:
        with self._lock:
            if not self._is_synced:
                sync_file(self._descriptor, self._path)
                self._is_synced = True

    def close(self) -> None:
        """Release the lock."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1  # no other file with the same number is written

    def _write(self, entry: Mapping[str, Any]) -> None:
        with self._lock:
            before = "\n" if self._is_torn else ""
            line = f"{before}{json.dumps(entry, separators=(',', ':'))}\n".encode()
            try:
                write_all(self._descriptor, line, self._end)
            except OSError as error:
                add_path(error, self._path)
                raise
            self._end += len(line)
            self._is_torn = self._is_synced = False

    def _read(self) -> FoundJournal:
        data = read_all(self._descriptor, MAX_BYTES, self._path)
        self._end = len(data)
        self._is_torn = not data.endswith(b"\n")
        return parse_spool_journal(data, self._path.parent.name)


@dataclass(slots=True)
class FoundJournal:
    """The content of a journal, as far as it can be read."""

    description: SpoolDescription | None = None
    version: int = VERSION
    """Of the spool. There is no description of another one: its files may be others, too."""
    session: SpoolSession | None = None
    holes: RangeSet = field(default_factory=RangeSet)

    def add(self, entry: Mapping[str, Any], spool_id: str) -> None:
        """Add a line. Raises `KeyError`, `TypeError` or `ValueError`."""
        if "spool" in entry:
            self.version = whole(entry["spool"])
            if self.version != VERSION:
                return
            self.description = _read_description(entry, spool_id)
        elif "hole" in entry:
            start, end = entry["hole"]
            self.holes.add(whole(start), whole(end))
        else:
            session = entry["session"]
            self.session = SpoolSession(
                text(session["server"]), text(session["id"]), text(session["resume"])
            )


def _is_locked(descriptor: int, lock: int) -> bool:
    """Try to lock a file, and return whether that was possible. Raises `OSError`."""
    try:
        fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def parse_spool_journal(data: bytes, spool_id: str) -> FoundJournal:
    """Read the lines of a journal; those that are cut off or damaged are skipped."""
    found = FoundJournal()
    read_lines(data, lambda entry: found.add(entry, spool_id))
    return found


def _described(description: SpoolDescription) -> dict[str, Any]:
    return {
        **description.format.as_json(),
        "started_at": timestamp(description.started_at),
        "name": description.name,
        "room": description.room or None,
        "server": description.server,
        "rtp_timestamp": description.rtp_timestamp,
        "mode": description.mode.value,
    }


def _read_description(entry: Mapping[str, Any], spool_id: str) -> SpoolDescription:
    return SpoolDescription(
        id=spool_id,
        format=audio_format(entry),
        started_at=moment(entry["started_at"]).astimezone(datetime.UTC),
        name=text(entry["name"]),
        room=read_room(entry.get("room")),
        server=text(entry["server"]),
        rtp_timestamp=whole(entry["rtp_timestamp"], most=2**32 - 1),
        mode=RestoreMode(entry["mode"]),
    )
