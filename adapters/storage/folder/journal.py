"""The journal of an unfinished recording, from which recovery makes its ledger.

Lines of JSON: first what the recording is, then ``{"span": [start, kind]}`` where a span begins
(the last one lasts to the end of the file), ``{"event": {...}}``, ``{"reopened": length}`` where
another process resumed, and ``{"end": {...}}`` when the recording is being completed. A line
is written before the samples that it describes.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.descriptors import RESERVE
from adapters.opening import create_file, open_found, read_found
from adapters.storage.documents import read_lines
from adapters.storage.folder.disk import add_path
from adapters.storage.media_file import write_all
from domain.recording.ledger import (
    ANCHOR,
    MAX_EVENTS,
    Container,
    Ledger,
    LedgerEvent,
    RecordingInfo,
    RestoreMode,
    SampleKind,
    describe,
    timestamp,
)
from domain.recording.naming import MAX_TRACKS, file_name, split_recording_id
from domain.recording.reading import audio_format, moment, text, whole
from domain.recording.restoring import PLACED
from domain.session.rooms import read_room
from domain.session.titles import title_of

VERSION = 1
MAX_BYTES = 64 << 20
"""A larger journal is not one of Gapless: a day that lost every tenth packet needs half of it."""
FULL_BYTES = 32 << 20
"""A part with a larger journal is followed by another one, so that its journal can be read."""
_MAX_HEADER_BYTES = 1 << 20


class Journal:
    """A journal being written. All calls may raise `OSError`, and can then be repeated."""

    def __init__(self, path: pathlib.Path, descriptor: int, end: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._end = end  # offset after the last line that was written completely
        self._unwritten = b""  # lines that could not be written

    @classmethod
    def create(
        cls, path: pathlib.Path, info: RecordingInfo, *, data_offset: int, before: Before
    ) -> Journal:
        """Begin a journal."""
        journal = cls(path, create_file(path), 0)
        begin = {"journal": VERSION, **describe(info), "data_offset": data_offset}
        begin |= {"session_id": info.session_id, "resume_digest": info.resume_digest}
        begin |= {"restore": info.restore.value, "before": before.as_json()}
        begin |= {"rendering": True} if info.is_rendering else {}
        try:
            journal._write(begin)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            with contextlib.suppress(OSError):
                journal.close()
            raise
        return journal

    @classmethod
    def reopen(cls, path: pathlib.Path, *, length: int) -> Journal:
        """Continue the journal of a recording that was found to hold `length` samples."""
        descriptor = open_found(path, os.O_WRONLY)
        try:
            journal = cls(path, descriptor, os.fstat(descriptor).st_size)
            # the last line may have been cut off
            journal._write({"reopened": length}, before="\n")
        except BaseException:
            RESERVE.close(descriptor)
            raise
        return journal

    def open_again(self) -> None:
        """Open the file by its name again, see `Part`. Raises `OSError`."""
        descriptor = open_found(self._path, os.O_WRONLY)
        try:
            os.dup2(descriptor, self._descriptor, inheritable=False)
        finally:
            RESERVE.close(descriptor)

    @property
    def is_full(self) -> bool:
        """Whether what follows should have another journal."""
        return self._end >= FULL_BYTES

    def span(self, start: int, kind: SampleKind) -> None:
        self._write({"span": [start, kind.value]})

    def event(self, event: LedgerEvent) -> None:
        """Write an event, or keep it for the next call if that fails."""
        self._write({"event": event.as_json()}, is_kept=True)

    def flush(self) -> None:
        """Write the events that could not be written before."""
        if self._unwritten:
            self._put(b"")

    def end(self, reason: str, ended_at: datetime.datetime) -> None:
        self._write({"end": {"reason": reason, "ended_at": timestamp(ended_at)}})

    def close(self) -> None:
        RESERVE.close(self._descriptor)

    def _write(self, entry: Mapping[str, Any], *, before: str = "", is_kept: bool = False) -> None:
        line = f"{before}{json.dumps(entry, separators=(',', ':'), ensure_ascii=False)}\n".encode()
        try:
            self._put(line)
        except OSError:
            if is_kept:
                self._unwritten += line
            raise

    def _put(self, line: bytes) -> None:
        data = self._unwritten + line
        try:
            # one call, so that a killed process leaves whole lines, except perhaps the last
            write_all(self._descriptor, data, self._end)
        except OSError as error:
            add_path(error, self._path)
            raise
        self._end += len(data)
        self._unwritten = b""


@dataclass(frozen=True, slots=True)
class Before:
    """The state of a recording before the part of this journal."""

    samples: int = 0
    """Samples per channel in earlier parts."""
    connections: int = 1
    """Number of connections that have served the recording."""
    anchor: LedgerEvent | None = None
    """The latest anchor, with its position in the whole recording."""
    placed: LedgerEvent | None = None
    """The latest event of the type `spool`, in the same way."""

    def as_json(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "attempts": self.connections,
            "anchor": None if self.anchor is None else self.anchor.as_json(),
            "placed": None if self.placed is None else self.placed.as_json(),
        }


@dataclass(slots=True)
class FoundJournal:
    """The content of a journal, as far as it can be read."""

    info: RecordingInfo | None = None
    data_offset: int | None = None
    before: Before = field(default_factory=Before)
    starts: list[tuple[int, SampleKind]] = field(default_factory=list)
    events: list[LedgerEvent] = field(default_factory=list)
    end_reason: str | None = None
    ended_at: datetime.datetime | None = None
    _indexes: dict[tuple[str, int], int] = field(default_factory=dict)
    """Where an event of a type and position is; the last one, if there are several."""

    @property
    def anchor(self) -> LedgerEvent | None:
        """The latest anchor, with its position in the whole recording."""
        return self._latest(ANCHOR) or self.before.anchor

    @property
    def placed(self) -> LedgerEvent | None:
        """The latest event of the type `spool`, with its position in the whole recording."""
        return self._latest(PLACED) or self.before.placed

    def _latest(self, event_type: str) -> LedgerEvent | None:
        for event in reversed(self.events):
            if event.type == event_type:
                return replace(event, position=event.position + self.before.samples)
        return None

    @property
    def connections(self) -> int:
        """Number of connections that have served the recording."""
        attempts = [
            event.details.get("attempt") for event in self.events if event.type == "reconnected"
        ]
        # several of these events may have become one
        numbers = [attempt for attempt in attempts if isinstance(attempt, int)]
        return max([self.before.connections, *numbers])

    def last_sample_at(self, length: int) -> datetime.datetime | None:
        """Return when the last of `length` samples (of the whole recording) arrived.

        Counted from the latest anchor: the modification time changes whenever the file is touched.
        """
        anchor = self.anchor
        if anchor is None or self.info is None or "at" not in anchor.details:
            return None
        seconds = (length - anchor.position) / self.info.format.sample_rate_hz
        try:
            at = moment(anchor.details["at"])
            return at + datetime.timedelta(seconds=seconds)
        except (ValueError, TypeError, OverflowError):  # the line is damaged
            return None

    @property
    def is_rendering(self) -> bool:
        return self.info is not None and self.info.is_rendering

    def position(self, *, sound: int, length: int) -> int:
        """Return the position that a recording has reached, given what its file holds.

        `sound` counts the samples of packets, `length` all samples. A file of packets can be up
        to 119 samples shorter than its recording: no packet can express the rest of a gap, and
        the next gap or the end makes up for it.
        """
        ends = [*(start for start, _ in self.starts[1:]), None]
        for (start, kind), end in zip(self.starts, ends, strict=False):
            if kind.has_packet:
                if end is None or sound < end - start:
                    return start + sound
                sound -= end - start
            elif not sound:
                return max(start, length if end is None else min(end, length))
        return length

    def read_line(self, entry: Mapping[str, Any]) -> None:
        """Add a line. One that is damaged, or says nothing, can raise any error."""
        if "journal" in entry:
            self.info = read_info(entry)
            self.before = _before(entry.get("before") or {})
            self.data_offset = whole(entry["data_offset"], most=_MAX_HEADER_BYTES)
        elif "span" in entry:
            start, kind = entry["span"]
            if whole(start) >= (self.starts[-1][0] if self.starts else 0):
                self.starts.append((start, SampleKind(kind)))
        elif "event" in entry:
            self.add_event(read_event(entry["event"]))
        elif "reopened" in entry:
            self.forget_behind(whole(entry["reopened"]))
        else:
            end = entry["end"]
            self.end_reason, self.ended_at = text(end["reason"]), moment(end["ended_at"])

    def add_event(self, event: LedgerEvent) -> None:
        """Add an event; one that has grown (`until`) replaces what it was before."""
        key = event.type, event.position
        index = self._indexes.get(key) if "until" in event.details else None
        if index is not None:
            self.events[index] = event
        elif len(self.events) < MAX_EVENTS:
            self._indexes[key] = len(self.events)
            self.events.append(event)

    def forget_behind(self, length: int) -> None:
        """Drop entries after the end of the file: their samples were never written."""
        self.starts = [(start, kind) for start, kind in self.starts if start < length]
        self.events = [event for event in self.events if event.position <= length]
        self._indexes = {
            (event.type, event.position): index for index, event in enumerate(self.events)
        }

    def ledger(self, length: int) -> Ledger:
        """Make the ledger of a file that holds `length` samples."""
        rate_hz = None if self.info is None else self.info.format.sample_rate_hz
        ledger = Ledger(sample_rate_hz=rate_hz or 48_000)
        for index, (start, kind) in enumerate(self.starts):
            last = index + 1 == len(self.starts)
            end = length if last else self.starts[index + 1][0]
            if ledger.length < start:
                ledger.add(SampleKind.SILENCE, min(start, length) - ledger.length)
            ledger.add(kind, min(end, length) - ledger.length)
        if ledger.length < length:
            # no journal entry covers these samples: they were received, and nothing else is known
            ledger.add(SampleKind.RECEIVED, length - ledger.length)
        ledger.events = [event for event in self.events if event.position <= length]
        return ledger


def read_journal(path: pathlib.Path) -> FoundJournal:
    """Read a journal; lines that are cut off or damaged are skipped. Raises `OSError`."""
    try:
        return parse_journal(read_found(path, MAX_BYTES))
    except FileNotFoundError:
        return FoundJournal()


def parse_journal(data: bytes) -> FoundJournal:
    """Read the lines of a journal; those that are cut off or damaged are skipped."""
    found = FoundJournal()
    read_lines(data, found.read_line)
    return found


def read_info(entry: Mapping[str, Any]) -> RecordingInfo:
    """Read what `describe` has written in a journal or ledger.

    Older journals and ledgers have no session and no track, but their ids have; they have no room
    and no title, and nothing of theirs is restored. Raises `KeyError`, `TypeError` or `ValueError`.
    """
    restore = entry.get("restore")  # a ledger says more of it than a journal
    mode = restore.get("mode") if isinstance(restore, dict) else restore
    recording_id = _identifier(entry["id"])
    session_id, track = split_recording_id(recording_id)
    return RecordingInfo(
        id=recording_id,
        session_id=_identifier(entry.get("session_id", session_id)),
        track=whole(entry.get("track", track), least=1, most=MAX_TRACKS),
        name=file_name(text(entry["name"])),
        room=read_room(entry.get("room")),
        title=title_of(text(entry.get("title") or "")),
        format=audio_format(entry),
        codec=text(entry["codec"]),
        started_at=moment(entry["started_at"]),
        resume_digest=text(entry.get("resume_digest", "")),
        container=Container(entry.get("container", "wav")),
        is_rendering=bool(entry.get("rendering", False)),
        restore=RestoreMode.OFF if mode is None else RestoreMode(mode),
    )


def _identifier(value: Any) -> str:
    """Read the id of a recording or session, which becomes part of file names.

    A recording that was recovered without a journal has none. Raises `ValueError`.
    """
    found = text(value)
    return file_name(found) if found else ""


def _before(entry: Mapping[str, Any]) -> Before:
    anchor, placed = entry.get("anchor"), entry.get("placed")
    return Before(
        samples=whole(entry.get("samples", 0)),
        connections=whole(entry.get("attempts", 1)),
        anchor=None if anchor is None else read_event(anchor),
        placed=None if placed is None else read_event(placed),
    )


def read_event(entry: Mapping[str, Any]) -> LedgerEvent:
    """Read what `LedgerEvent.as_json` has written. Raises `KeyError`, `TypeError`, `ValueError`."""
    details = {key: value for key, value in entry.items() if key not in ("type", "position")}
    return LedgerEvent(text(entry["type"]), whole(entry["position"]), details)
