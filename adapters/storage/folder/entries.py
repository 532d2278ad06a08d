"""Makes catalogue entries from rows of the index and the files that they name."""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapters.descriptors import RESERVE
from adapters.opening import open_sound
from adapters.storage.documents import parse
from adapters.storage.folder.files import RecordingFiles
from adapters.storage.folder.index import FolderIndex
from adapters.storage.folder.index_tables import Change, PartRow, RecordingRow
from adapters.storage.folder.journal import FoundJournal, read_info, read_journal
from adapters.storage.folder.ledgers import join, read_document, read_ledger, read_state
from adapters.storage.folder.listing import files_of
from adapters.storage.folder.media import data_offset_of, measure, read_format
from adapters.storage.folder.reader import OpenedOgg, OpenedPart, OpenedWav
from adapters.storage.folder.summary import part_start, read_summary
from domain.ports.catalogue import CatalogueEntry, RecordingState
from domain.ports.codec import DecoderFactory
from domain.recording.completed import CompletedPart
from domain.recording.ledger import Container, Ledger, RecordingInfo, RestoreState, describe
from domain.recording.naming import split_recording_id
from domain.session.rooms import room_key
from domain.session.titles import title_key
from domain.sound.detection import CodecParameters

_OPUS = CodecParameters("opus", 111, 48_000, 2)


@dataclass(frozen=True, slots=True)
class _Found:
    """A part whose file exists."""

    row: PartRow
    files: RecordingFiles
    path: pathlib.Path
    """The file under its present name."""
    size: int

    @property
    def length(self) -> int:
        return self.row.length or 0


class EntryReader:
    """Reads entries, and stores in the index what it reads about complete parts."""

    def __init__(self, folder: pathlib.Path, index: FolderIndex, decoders: DecoderFactory) -> None:
        self._folder = folder
        self._index = index
        self._decoders = decoders

    def read(self, rows: Sequence[RecordingRow]) -> Sequence[CatalogueEntry | None]:
        """Return the entries of recordings; None for one whose files are gone or hold no sound.

        Such a recording is removed from the index.
        """
        changes: list[Change] = []
        entries = [self._read(row, changes) for row in rows]
        if (
            changes
        ):  # one transaction for all of them: there may be one change for each entry of the page
            self._index.put(changes)
        return entries

    def _read(self, row: RecordingRow, changes: list[Change]) -> CatalogueEntry | None:
        found = [part for part in map(functools.partial(self._find, row), row.parts) if part]
        info = None if row.info is None else _read_info(row.info)
        if any(map(_is_outdated, found)):  # it was restored: it may begin earlier, and be longer
            info, row = None, replace(row, info=None)
            found = [replace(part, row=replace(part.row, length=None)) for part in found]
        if info is None and found:
            info = self._describe(row, found)
        if info is None or not found:
            if not any(part.is_live for part in row.parts):
                for part in row.parts:
                    self._index.drop_part(row.name, part.number)
            return None
        known = [part.row for part in found]
        found = [self._measure(info, part) for part in found]
        changed = [
            part.row
            for part, before in zip(found, known, strict=True)
            if not part.row.is_live and part.row != before
        ]
        if row.info is None or changed:
            changes.append(Change(describe_row(row, info), changed))
        last = found[-1].row
        ended_at = None if row.is_live else last.ended_at
        return CatalogueEntry(
            info=info,
            state=RecordingState.LIVE if row.is_live else RecordingState.COMPLETE,
            parts=tuple(
                CompletedPart(part.row.number, str(part.path), part.row.start, part.length)
                for part in found
            ),
            size=sum(part.size for part in found),
            end_reason=None if row.is_live else last.end_reason,
            ended_at=None if ended_at is None else datetime.datetime.fromisoformat(ended_at),
        )

    def ledger(self, row: RecordingRow, entry: CatalogueEntry) -> dict[str, Any]:
        """Return the ledger of a recording. Raises `OSError` or `ValueError`."""
        files = list(self._files_of(row, entry))
        if len(files) == 1 and entry.state is not RecordingState.LIVE:
            return read_document(files[0][1].ledger)
        parts, state = [], RestoreState.LIVE
        for part, part_files, is_live in files:
            if is_live and not part_files.ledger.exists():
                ledger = read_journal(part_files.journal).ledger(part.length)
            else:
                found = read_document(part_files.ledger)
                ledger, state = read_ledger(found), read_state(found)
            parts.append((part.start, ledger))
        if entry.state is RecordingState.LIVE:
            state = RestoreState.LIVE
        return join(
            entry.info,
            parts,
            end_reason=entry.end_reason,
            ended_at=entry.ended_at,
            restore_state=state,
        )

    def open(self, row: RecordingRow) -> OpenedWav | OpenedOgg | None:
        """Open all parts; return None if there are none any more."""
        (entry,) = self.read([row])
        if entry is None:
            return None
        opened: list[OpenedPart] = []
        try:
            for part, files, is_live in self._files_of(row, entry):
                if (one := self._open(part, files, entry.info, is_live=is_live)) is not None:
                    opened.append(one)
        except BaseException:
            for one in opened:
                RESERVE.close(one.descriptor)
            raise
        entry = replace(entry, parts=tuple(one.part for one in opened))
        if entry.info.container is Container.OGG:
            return OpenedOgg(
                entry, opened, functools.partial(self._decoders, _OPUS, entry.info.format)
            )
        return OpenedWav(entry, opened)

    def _open(
        self, part: CompletedPart, files: RecordingFiles, info: RecordingInfo, *, is_live: bool
    ) -> OpenedPart | None:
        descriptor = _open_either(files, is_live=is_live)
        if descriptor is None:
            return None
        try:
            if is_live:
                length = measure(descriptor, info.container)
                part = replace(part, length=length)
            ledger = None
            if info.container is Container.OGG:
                with contextlib.suppress(OSError, ValueError):
                    ledger = self._ledger(files, part.length, is_live=is_live)
            found = os.fstat(descriptor)
            return OpenedPart(
                part,
                read_format(descriptor, info.container) or info.format,
                descriptor,
                found.st_size,
                data_offset_of(descriptor, info.container),
                ledger,
                f"{found.st_dev} {found.st_ino} {found.st_mtime_ns} {_ledger_ns(files)}",
            )
        except BaseException:
            RESERVE.close(descriptor)
            raise

    def _files_of(
        self, row: RecordingRow, entry: CatalogueEntry
    ) -> Iterator[tuple[CompletedPart, RecordingFiles, bool]]:
        rows = {part.number: part for part in row.parts}
        for part in entry.parts:
            files = files_of(self._folder, row.name, part.number, entry.info.container)
            yield part, files, rows[part.number].is_live

    def _ledger(self, files: RecordingFiles, length: int, *, is_live: bool) -> Ledger:
        """Read one part's ledger from its file or journal. Raises `OSError`, `ValueError`."""
        if is_live and not files.ledger.exists():
            return read_journal(files.journal).ledger(length)
        return read_ledger(read_document(files.ledger))

    def _find(self, row: RecordingRow, part: PartRow) -> _Found | None:
        """Find the file of a part. A live part may be complete by now, or not have a file yet."""
        files = files_of(self._folder, row.name, part.number, Container(part.container))
        for path in (files.part, files.recording) if part.is_live else (files.recording,):
            with contextlib.suppress(OSError):
                return _Found(part, files, path, path.lstat().st_size)
        return None

    def _describe(self, row: RecordingRow, found: Sequence[_Found]) -> RecordingInfo | None:
        """Describe a recording of which the index has only the name; None if it is not one.

        Its format is that of the last part.
        """
        info = self._describe_first(row, found[0])
        if info is None or len(found) == 1:
            return info
        with contextlib.suppress(OSError):
            descriptor = open_sound(found[-1].path)
            try:
                audio_format = read_format(descriptor, info.container)
            finally:
                RESERVE.close(descriptor)
            return replace(info, format=audio_format or info.format)
        return info

    def _describe_first(self, row: RecordingRow, first: _Found) -> RecordingInfo | None:
        info: RecordingInfo | None = None
        if first.row.is_live:
            info = journal_of(first.files).info
        else:
            with contextlib.suppress(OSError):
                summary = read_summary(first.files.ledger)
                info = None if summary is None else summary.info
        info = info or self._describe_file(row, first)
        if info is None or info.container is not first.files.container:
            return None
        # a rendering has the id of its original, so use its name
        return replace(info, name=row.name, id=row.id)

    def _describe_file(self, row: RecordingRow, first: _Found) -> RecordingInfo | None:
        """Describe a recording by its file alone: it has neither journal nor ledger."""
        container = first.files.container
        with contextlib.suppress(OSError):
            descriptor = open_sound(first.path)
            try:
                audio_format = read_format(descriptor, container)
            finally:
                RESERVE.close(descriptor)
            if audio_format is None:
                return None
            session_id, track = split_recording_id(row.id)
            return RecordingInfo(
                id=row.id,
                name=row.name,
                format=audio_format,
                codec="opus" if container is Container.OGG else "",
                started_at=datetime.datetime.fromtimestamp(row.started_ms / 1000, datetime.UTC),
                container=container,
                session_id=session_id,
                track=track,
            )
        return None

    def _measure(self, info: RecordingInfo, found: _Found) -> _Found:
        """Return length and end of a part; the index has them until the ledger changes."""
        if found.row.is_live:
            length = _measure_file(found.path, info)
            start = found.row.start
            if (
                start == 0 and found.row.number > 1
            ):  # the index knows only its name; the journal knows the start
                start = journal_of(found.files).before.samples
            return replace(found, row=replace(found.row, length=length, start=start))
        ledger_ns = _ledger_ns(found.files)
        if found.row.length is not None and found.row.ledger_ns == ledger_ns:
            return found
        summary = None
        with contextlib.suppress(OSError):
            summary = read_summary(found.files.ledger)
        if summary is None:
            length = _measure_file(found.path, info)
            part = replace(found.row, length=length, ledger_ns=ledger_ns)
        else:
            part = replace(
                found.row,
                start=part_start(summary.info, info.started_at),
                length=summary.length,
                end_reason=summary.end_reason,
                ended_at=summary.ended_at.isoformat(),
                ledger_ns=ledger_ns,
            )
        return replace(found, row=part)


def journal_of(files: RecordingFiles) -> FoundJournal:
    """Return what the journal of a part says; nothing if it cannot be read."""
    try:
        return read_journal(files.journal)
    except OSError:
        return FoundJournal()


def describe_row(row: RecordingRow, info: RecordingInfo) -> RecordingRow:
    """Describe a recording for the index."""
    described = {**describe(info), "session_id": info.session_id, "restore": info.restore.value}
    room, title = room_key(info.room), title_key(info.title)
    return replace(row, info=json.dumps(described), room=room, title=title)


def _is_outdated(found: _Found) -> bool:
    """Return whether a complete part has another ledger than the one that the index has read."""
    return not found.row.is_live and found.row.ledger_ns != _ledger_ns(found.files)


def _ledger_ns(files: RecordingFiles) -> int:
    """Return when the ledger of a part was written; 0 if there is none."""
    try:
        return files.ledger.stat().st_mtime_ns
    except OSError:
        return 0


def _read_info(text: str) -> RecordingInfo | None:
    try:
        return read_info(parse(text.encode()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _measure_file(path: pathlib.Path, info: RecordingInfo) -> int:
    try:
        descriptor = open_sound(path)
    except OSError:
        return 0
    try:
        return measure(descriptor, info.container)
    except OSError:
        return 0
    finally:
        RESERVE.close(descriptor)


def _open_either(files: RecordingFiles, *, is_live: bool) -> int | None:
    """Open the file of a part under either name, because it may be renamed at this moment."""
    paths: Sequence[pathlib.Path] = (files.recording,)
    if is_live:
        paths = (files.part, files.recording)
    for path in paths:
        try:
            return open_sound(path)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # the part is not missing
                raise
    return None
