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

from adapters.storage.folder.files import create_private
from domain.recording.ledger import (
    Container,
    Ledger,
    LedgerEvent,
    RecordingInfo,
    SampleKind,
    describe,
    timestamp,
)
from domain.recording.naming import MAX_TRACKS, split_recording_id
from domain.sound.formats import AudioFormat, SampleFormat

VERSION = 1
_MAX_HEADER_BYTES = 1 << 20


class Journal:
    """A journal being written."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def create(
        cls, path: pathlib.Path, info: RecordingInfo, *, data_offset: int, before: Before
    ) -> Journal:
        """Begin a journal."""
        journal = cls(create_private(path))
        begin = {"journal": VERSION, **describe(info), "data_offset": data_offset}
        begin |= {"session_id": info.session_id, "resume_digest": info.resume_digest}
        begin |= {"before": before.as_json()}
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
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        journal = cls(os.open(path, flags))
        try:
            os.write(journal.descriptor, b"\n")  # the last line may have been cut off
            journal._write({"reopened": length})
        except BaseException:
            journal.close()
            raise
        return journal

    def span(self, start: int, kind: SampleKind) -> None:
        self._write({"span": [start, kind.value]})

    def event(self, event: LedgerEvent) -> None:
        self._write({"event": event.as_json()})

    def end(self, reason: str, ended_at: datetime.datetime) -> None:
        self._write({"end": {"reason": reason, "ended_at": timestamp(ended_at)}})

    def close(self) -> None:
        os.close(self.descriptor)

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, separators=(",", ":"), ensure_ascii=False) + "\n"
        data = line.encode()
        # one call, so that a killed process leaves whole lines, except perhaps the last
        if os.write(self.descriptor, data) != len(data):
            raise OSError("a line of the journal was truncated")


@dataclass(frozen=True, slots=True)
class Before:
    """The state of a recording before the part of this journal."""

    samples: int = 0
    """Samples per channel in earlier parts."""
    connections: int = 1
    """Number of connections that have served the recording."""
    anchor: LedgerEvent | None = None
    """The latest anchor, with its position in the whole recording."""

    def as_json(self) -> dict[str, Any]:
        anchor = None if self.anchor is None else self.anchor.as_json()
        return {"samples": self.samples, "attempts": self.connections, "anchor": anchor}


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
        for event in reversed(self.events):
            if event.type == "anchor":
                return replace(event, position=event.position + self.before.samples)
        return self.before.anchor

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

    def forget_behind(self, length: int) -> None:
        """Drop entries after the end of the file: their samples were never written."""
        self.starts = [(start, kind) for start, kind in self.starts if start < length]
        self.events = [event for event in self.events if event.position <= length]

    def ledger(self, length: int) -> Ledger:
        """Make the ledger of a file that holds `length` samples."""
        ledger = Ledger()
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
                found.events.append(read_event(entry["event"]))
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

    Older journals and ledgers have no session and no track, but their ids have. Raises `KeyError`,
    `TypeError` or `ValueError`.
    """
    session_id, track = split_recording_id(str(entry["id"]))
    track = int(entry.get("track", track))
    if not 1 <= track <= MAX_TRACKS:
        raise ValueError(f"a session has no track {track}")
    return RecordingInfo(
        id=str(entry["id"]),
        session_id=str(entry.get("session_id", session_id)),
        track=track,
        name=str(entry["name"]),
        format=AudioFormat(
            int(entry["sample_rate_hz"]),
            int(entry["channels"]),
            SampleFormat(entry["sample_format"]),
        ),
        codec=str(entry["codec"]),
        started_at=datetime.datetime.fromisoformat(entry["started_at"]),
        resume_digest=str(entry.get("resume_digest", "")),
        container=Container(entry.get("container", "wav")),
        is_rendering=bool(entry.get("rendering", False)),
    )


def _before(entry: Mapping[str, Any]) -> Before:
    anchor = entry.get("anchor")
    return Before(
        samples=int(entry.get("samples", 0)),
        connections=int(entry.get("attempts", 1)),
        anchor=None if anchor is None else read_event(anchor),
    )


def read_event(entry: Mapping[str, Any]) -> LedgerEvent:
    """Read what `LedgerEvent.as_json` has written. Raises `KeyError`, `TypeError`, `ValueError`."""
    details = {key: value for key, value in entry.items() if key not in ("type", "position")}
    return LedgerEvent(str(entry["type"]), int(entry["position"]), details)
