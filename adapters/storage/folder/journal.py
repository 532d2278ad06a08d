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

from adapters.storage.folder.disk import add_path
from adapters.storage.folder.files import create_private
from adapters.storage.media_file import write_all
from domain.recording.ledger import (
    ANCHOR,
    Container,
    Ledger,
    LedgerEvent,
    RecordingInfo,
    RestoreMode,
    SampleKind,
    describe,
    timestamp,
)
from domain.recording.naming import MAX_TRACKS, split_recording_id
from domain.recording.restoring import PLACED
from domain.sound.formats import AudioFormat

VERSION = 1
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
        journal = cls(path, create_private(path), 0)
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
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            journal = cls(path, descriptor, os.fstat(descriptor).st_size)
            # the last line may have been cut off
            journal._write({"reopened": length}, before="\n")
        except BaseException:
            os.close(descriptor)
            raise
        return journal

    def open_again(self) -> None:
        """Open the file by its name again, see `Part`. Raises `OSError`."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.dup2(descriptor, self._descriptor, inheritable=False)
        finally:
            os.close(descriptor)

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
        os.close(self._descriptor)

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
        return self.before.connections + sum(event.type == "reconnected" for event in self.events)

    def last_sample_at(self, length: int) -> datetime.datetime | None:
        """Return when the last of `length` samples (of the whole recording) arrived.

        Counted from the latest anchor: the modification time changes whenever the file is touched.
        """
        anchor = self.anchor
        if anchor is None or self.info is None or "at" not in anchor.details:
            return None
        seconds = (length - anchor.position) / self.info.format.sample_rate_hz
        try:
            at = datetime.datetime.fromisoformat(anchor.details["at"])
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

    def add_event(self, event: LedgerEvent) -> None:
        """Add an event; one that has grown (`until`) replaces what it was before."""
        if "until" in event.details:
            for index in range(len(self.events) - 1, -1, -1):
                earlier = self.events[index]
                if (earlier.type, earlier.position) == (event.type, event.position):
                    self.events[index] = event
                    return
        self.events.append(event)

    def forget_behind(self, length: int) -> None:
        """Drop entries after the end of the file: their samples were never written."""
        self.starts = [(start, kind) for start, kind in self.starts if start < length]
        self.events = [event for event in self.events if event.position <= length]

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
    found = FoundJournal()
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            entry = json.loads(line)
            if "journal" in entry:
                found.info = read_info(entry)
                found.before = _before(entry.get("before") or {})
                found.data_offset = min(max(0, int(entry["data_offset"])), _MAX_HEADER_BYTES)
            elif "span" in entry:
                start, kind = entry["span"]
                if not found.starts or int(start) >= found.starts[-1][0]:
                    found.starts.append((int(start), SampleKind(kind)))
            elif "event" in entry:
                found.add_event(read_event(entry["event"]))
            elif "reopened" in entry:
                found.forget_behind(int(entry["reopened"]))
            elif "end" in entry:
                found.end_reason = str(entry["end"]["reason"])
                found.ended_at = datetime.datetime.fromisoformat(entry["end"]["ended_at"])
        except Exception:  # noqa: S112 (a damaged line can raise anything, and costs only itself)
            continue
    return found


def read_info(entry: Mapping[str, Any]) -> RecordingInfo:
    """Read what `describe` has written in a journal or ledger.

    Older journals and ledgers have no session and no track, but their ids have; nothing of theirs
    is restored. Raises `KeyError`, `TypeError` or `ValueError`.
    """
    restore = entry.get("restore")  # a ledger says more of it than a journal
    mode = restore.get("mode") if isinstance(restore, dict) else restore
    session_id, track = split_recording_id(str(entry["id"]))
    track = int(entry.get("track", track))
    if not 1 <= track <= MAX_TRACKS:
        raise ValueError(f"a session has no track {track}")
    return RecordingInfo(
        id=str(entry["id"]),
        session_id=str(entry.get("session_id", session_id)),
        track=track,
        name=str(entry["name"]),
        format=AudioFormat.from_json(entry),
        codec=str(entry["codec"]),
        started_at=datetime.datetime.fromisoformat(entry["started_at"]),
        resume_digest=str(entry.get("resume_digest", "")),
        container=Container(entry.get("container", "wav")),
        is_rendering=bool(entry.get("rendering", False)),
        restore=RestoreMode.OFF if mode is None else RestoreMode(mode),
    )


def _before(entry: Mapping[str, Any]) -> Before:
    anchor, placed = entry.get("anchor"), entry.get("placed")
    return Before(
        samples=int(entry.get("samples", 0)),
        connections=int(entry.get("attempts", 1)),
        anchor=None if anchor is None else read_event(anchor),
        placed=None if placed is None else read_event(placed),
    )


def read_event(entry: Mapping[str, Any]) -> LedgerEvent:
    """Read what `LedgerEvent.as_json` has written. Raises `KeyError`, `TypeError`, `ValueError`."""
    details = {key: value for key, value in entry.items() if key not in ("type", "position")}
    return LedgerEvent(str(entry["type"]), int(entry["position"]), details)
