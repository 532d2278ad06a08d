"""The journal of a spool's pieces, so that another process goes on with them.

Lines of JSON: first which recording is restored from which spool, then ``{"held": [[start,
length], ...], "boot": id}`` after a piece was written, ``{"captured": {...}}``, ``{"ended_at":
time}``, and ``{"restored": {...}}`` when nothing is wanted any more. What is held adds up; of the
others, the last one counts.

Pieces are not synced one by one. So what is held is believed after a killed process, but not after
a reboot, unless its line has ``"synced": true`` instead of the boot.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.descriptors import RESERVE
from adapters.opening import open_found, read_found
from adapters.storage.documents import parse, read_lines
from adapters.storage.folder.disk import add_path, sync_folder
from adapters.storage.folder.files import rename_without_replacing, sync_file, write_new
from adapters.storage.media_file import write_all
from adapters.storage.restoring.pcm import unfinished
from domain.ports.restoring import Restored, RestoreKey
from domain.recording.ledger import RestoreMode, timestamp
from domain.recording.ranges import Range, RangeSet
from domain.recording.reading import audio_format, moment, shown, text, whole
from domain.recording.restoring import Captured, SpoolInfo
from domain.session.rooms import read_room

VERSION = 1
COMPACTED_BYTES = 1 << 20
"""A journal that has grown to this size, and to twice its least size, is written anew."""
MAX_BYTES = 64 << 20
"""A larger journal is not one of Gapless: a day that lost every tenth packet needs a quarter."""


class JournalDamaged(Exception):
    """The journal does not tell which recording is restored from which spool."""


@dataclass(slots=True)
class RestoreNotes:
    """The content of a journal."""

    key: RestoreKey
    held: RangeSet = field(default_factory=RangeSet)
    captured: Captured | None = None
    ended_at: datetime.datetime | None = None
    outcome: Restored | None = None


class RestoreJournal:
    """A journal on disk. It is opened for each line: there may be thousands, for a day.

    All calls may raise `OSError`; nothing has changed then.
    """

    def __init__(self, path: pathlib.Path, end: int) -> None:
        self.path = path
        self._end = end  # offset after the last whole line
        self._least = 0  # size when it was last written anew

    @property
    def has_grown(self) -> bool:
        """Whether it is worth while to call `write_anew`."""
        return self._end >= max(COMPACTED_BYTES, 2 * self._least)

    @classmethod
    def create(cls, path: pathlib.Path, key: RestoreKey) -> RestoreJournal:
        """Begin a journal. Raises `FileExistsError` instead of replacing one."""
        data = _lines(RestoreNotes(key))
        new = unfinished(path)
        new.unlink(missing_ok=True)  # a process was killed at this point
        write_new(new, data, is_synced=False)
        rename_without_replacing(new, path)
        return cls(path, len(data))

    def note_held(self, ranges: Iterable[Range], *, boot: str) -> None:
        """Note what was written in this boot of the machine."""
        self._append({"held": write_ranges(ranges), "boot": boot})

    def note_captured(self, captured: Captured) -> None:
        self._append({"captured": write_captured(captured)})

    def note_end(self, ended_at: datetime.datetime) -> None:
        self._append(_ended_at(ended_at))

    def note_outcome(self, outcome: Restored) -> None:
        """Note what has come of the recording; the line is on the disk when this returns."""
        self._append(_restored(outcome), is_synced=True)

    def write_anew(self, notes: RestoreNotes) -> None:
        """Replace the journal by a short one. What is held has to be synced.

        Raises `FileNotFoundError` if it was deleted with its recording: neither must come back.
        """
        self.path.lstat()
        data = _lines(notes)
        new = unfinished(self.path)
        new.unlink(missing_ok=True)
        write_new(new, data)
        new.replace(self.path)
        self._end = self._least = len(data)
        sync_folder(self.path.parent)

    def _append(self, entry: Mapping[str, Any], *, is_synced: bool = False) -> None:
        data = _line(entry)
        descriptor = open_found(self.path, os.O_RDWR)
        try:
            if os.fstat(descriptor).st_size > self._end:  # a write was cut off
                os.ftruncate(descriptor, self._end)
            write_all(descriptor, data, self._end)
            if is_synced:
                sync_file(descriptor, self.path)
        except OSError as error:
            add_path(error, self.path)
            raise
        finally:
            with contextlib.suppress(OSError):  # what was written is in the page cache
                RESERVE.close(descriptor)
        self._end += len(data)


def read_restore_journal(path: pathlib.Path, *, boot: str) -> tuple[RestoreNotes, RestoreJournal]:
    """Read a journal, and continue it behind its last whole line.

    `boot` is the boot of the machine that goes on. Raises `JournalDamaged` or `OSError`.
    """
    data = read_found(path, MAX_BYTES)
    whole = data[: data.rfind(b"\n") + 1]
    try:
        return parse_notes(whole, boot=boot), RestoreJournal(path, len(whole))
    except ValueError as error:
        raise JournalDamaged(f"{path}: {error}") from error


def parse_notes(data: bytes, *, boot: str) -> RestoreNotes:
    """Read the lines of a journal; damaged ones are left out, except the first.

    Raises `ValueError` if the first line is damaged.
    """
    first, _, rest = data.partition(b"\n")
    try:
        notes = RestoreNotes(_read_key(parse(first)))
    except Exception as error:  # a damaged line can raise anything
        raise ValueError("its first line cannot be read") from error
    read_lines(rest, lambda entry: _read_line(notes, entry, boot))
    return notes


def _read_line(notes: RestoreNotes, entry: Mapping[str, Any], boot: str) -> None:
    if "held" in entry:
        if entry.get("synced") is True or (boot and entry["boot"] == boot):
            for item in read_ranges(entry["held"]):
                notes.held.add(item.start, item.end)
    elif "captured" in entry:
        notes.captured = read_captured(entry["captured"])
    elif "ended_at" in entry:
        notes.ended_at = moment(entry["ended_at"])
    else:
        restored = entry["restored"]
        notes.outcome = Restored(
            sha256=text(restored["sha256"]),
            length=whole(restored["length"]),
            restored=whole(restored["restored"]),
            sample_rate_hz=whole(restored["sample_rate_hz"], least=1),
        )


def _read_key(entry: Mapping[str, Any]) -> RestoreKey:
    if entry["restore"] != VERSION:
        raise ValueError(f"version {shown(entry['restore'])} is not known")
    spool = entry["spool"]
    started_at, rtp, position = spool["started_at"], spool["rtp_timestamp"], spool.get("position")
    return RestoreKey(
        session_id=text(entry["session_id"]),
        resume_digest=text(entry["resume_digest"]),
        name=text(entry["name"]),
        room=read_room(entry.get("room")),
        spool=SpoolInfo(
            rtp_timestamp=None if rtp is None else whole(rtp, most=2**32 - 1),
            format=audio_format(spool),
            mode=RestoreMode(spool["restore"]),
            started_at=None if started_at is None else moment(started_at),
            position=None if position is None else whole(position),
        ),
        mode=RestoreMode(entry["mode"]),
        opened_at=moment(entry["opened_at"]),
    )


def _lines(notes: RestoreNotes) -> bytes:
    """Return a journal of which everything is synced."""
    lines = [_line(_key(notes.key))]
    if len(notes.held):
        lines.append(_line({"held": write_ranges(notes.held), "synced": True}))
    if notes.captured is not None:
        lines.append(_line({"captured": write_captured(notes.captured)}))
    if notes.ended_at is not None:
        lines.append(_line(_ended_at(notes.ended_at)))
    if notes.outcome is not None:
        lines.append(_line(_restored(notes.outcome)))
    return b"".join(lines)


def _key(key: RestoreKey) -> dict[str, Any]:
    spool = key.spool
    return {
        "restore": VERSION,
        "session_id": key.session_id,
        "resume_digest": key.resume_digest,
        "name": key.name,
        "room": key.room or None,
        "mode": key.mode.value,
        "opened_at": timestamp(key.opened_at),
        "spool": {
            "rtp_timestamp": spool.rtp_timestamp,
            **spool.format.as_json(),
            "restore": spool.mode.value,
            "started_at": None if spool.started_at is None else timestamp(spool.started_at),
            "position": spool.position,
        },
    }


def write_captured(captured: Captured) -> dict[str, Any]:
    """Return what a client has captured, for `read_captured`."""
    missing = write_ranges(captured.missing)
    return {"length": captured.length, "sha256": captured.sha256, "missing": missing}


def read_captured(entry: Mapping[str, Any]) -> Captured:
    """Read what a client has captured. Raises `KeyError`, `TypeError` or `ValueError`."""
    return Captured(whole(entry["length"]), text(entry["sha256"]), read_ranges(entry["missing"]))


def _ended_at(ended_at: datetime.datetime) -> dict[str, Any]:
    return {"ended_at": timestamp(ended_at)}


def _restored(outcome: Restored) -> dict[str, Any]:
    return {
        "restored": {
            "sha256": outcome.sha256,
            "length": outcome.length,
            "restored": outcome.restored,
            "sample_rate_hz": outcome.sample_rate_hz,
        }
    }


def _line(entry: Mapping[str, Any]) -> bytes:
    # ASCII: the client's name may hold half of a surrogate pair
    return f"{json.dumps(entry, separators=(',', ':'))}\n".encode()


def write_ranges(ranges: Iterable[Range]) -> list[list[int]]:
    """Return ranges as pairs of start and length: there may be many."""
    return [[item.start, item.length] for item in ranges]


def read_ranges(pairs: Sequence[Sequence[int]]) -> tuple[Range, ...]:
    """Read what `write_ranges` has written. Raises `TypeError` or `ValueError`."""
    return tuple(Range(whole(start), whole(length)) for start, length in pairs)
