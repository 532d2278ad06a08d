"""The catalogue of a folder of recordings, which uses an index."""

from __future__ import annotations

import contextlib
import datetime
import logging
import pathlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.opening import is_regular
from adapters.storage.cursors import milliseconds, read_cursor, write_cursor
from adapters.storage.folder.disk import reason_of, sync_folder
from adapters.storage.folder.entries import EntryReader, describe_row, journal_of
from adapters.storage.folder.files import RecordingFiles, restoring_files
from adapters.storage.folder.index import FolderIndex
from adapters.storage.folder.index_tables import Change, PartRow, RecordingRow, RowQuery
from adapters.storage.folder.listing import (
    BATCH,
    PAUSE_S,
    ListedPart,
    files_of,
    is_being_written,
    list_numbers,
    list_parts,
    new_row,
    paced,
    refresh_part,
)
from adapters.storage.folder.reader import OpenedOgg, OpenedWav
from adapters.storage.folder.swap import Swap
from domain.errors import QueryInvalid, RecordingLive, RecordingUnknown, StorageFailed
from domain.ports.catalogue import CatalogueEntry, CataloguePage, CatalogueQuery, RecordingState
from domain.ports.codec import DecoderFactory
from domain.recording.completed import CompletedPart
from domain.recording.ledger import RecordingInfo, timestamp
from domain.recording.naming import part_name, split_part_name
from domain.session.rooms import room_key
from domain.session.titles import name_texts, title_key

_RESCAN_S = 5.0
_REST = 20
"""After a scan, the next one waits for this many times its duration."""
_DELAY_S = 0.25
_DESCRIBED, _DESCRIBE_PAUSE_S = 10, 0.02
"""Ledgers that are read before a pause for other threads, and the least pause."""
_CLOSE_S = 1.0
_log = logging.getLogger("gapless")


class FolderCatalogue:
    """A `Catalogue` of the WAV and Opus files in one folder.

    When a page is read, the folder's modification time tells whether files were added or removed by
    hand. If so, a thread lists the folder, at most every `rescan_s` seconds.
    """

    def __init__(
        self, folder: str, decoders: DecoderFactory, *, rescan_s: float = _RESCAN_S
    ) -> None:
        self._folder = pathlib.Path(folder).absolute()
        self._index = FolderIndex(self._folder)
        self._entries = EntryReader(self._folder, self._index, decoders)
        self._rescan_s = rescan_s
        self._lock = threading.Lock()
        self._scanning = threading.Lock()
        self._scan: threading.Thread | None = None
        self._describing: threading.Thread | None = None
        self._next_scan = 0.0  # monotonic seconds
        self._seen_ns: int | None = None  # the folder's time of modification at the last scan
        self._closing = threading.Event()
        self._left: set[str] = set()  # unfinished files that were logged

    # -- PartRegister --------------------------------------------------------------------------

    def announce(self, info: RecordingInfo, *, number: int, start: int) -> None:
        part = PartRow(number, info.container.value, is_live=True, start=start)
        with _harmless("announced"):
            if number == 1:
                self._index.add([replace(_row(info), is_live=True, parts=(part,))])
            else:  # the format may be another than that of the parts before
                self._index.put([Change(_row(info), [part])])

    def complete(
        self,
        info: RecordingInfo,
        part: CompletedPart,
        *,
        end_reason: str,
        ended_at: datetime.datetime,
    ) -> None:
        files = files_of(self._folder, info.name, part.number, info.container)
        with _harmless("completed"):
            row = PartRow(
                part.number,
                info.container.value,
                is_live=False,
                start=part.start,
                length=part.length,
                end_reason=end_reason,
                ended_at=timestamp(ended_at),
                ledger_ns=files.ledger.stat().st_mtime_ns,
            )
            self._index.put([Change(_row(info), [row])])

    def withdraw(self, info: RecordingInfo, *, number: int) -> None:
        with _harmless("withdrawn"):
            self._refresh(info.name, number)

    # -- for recovery --------------------------------------------------------------------------

    def unfinished(self) -> set[str] | None:
        """Return the names of all unfinished parts; None if only a listing can tell.

        The index is believed if nothing has changed in the folder since it was closed. A killed
        process leaves the folder changed, and so does a file that was put there by hand.
        """
        is_as_closed = self._index.is_as_closed()
        with _harmless("found"):
            if is_as_closed and self._index.is_complete and self._index.is_on_disk:
                return {part_name(*key) for key in self._index.parts(live_only=True)}
        return None

    def recovered(self, names: Iterable[str]) -> None:
        """Update parts that may have been recovered; names have no extension."""
        for name in names:
            with _harmless("recovered"):
                self._refresh(*split_part_name(name))

    def fill(self) -> None:
        """Fill the index from a listing of the folder in a thread, unless it is filled."""
        with _harmless("listed"):
            if not self._index.is_complete:
                self._start_scan()

    def scan(self) -> None:
        """Update the index from a listing of the folder. Raises `OSError`."""
        with self._scanning:
            modified_ns, stale_ns = self._folder.stat().st_mtime_ns, self._index.stale_ns()
            # list the folder first: parts that begin or end later must not be forgotten
            listed = list_parts(self._folder)
            if self._compare(listed, self._index.parts()):
                self._index.put_filled(modified_ns, stale_ns=stale_ns)
                self._seen_ns = modified_ns

    # -- the catalogue ---------------------------------------------------------------------------

    def page(self, query: CatalogueQuery) -> CataloguePage:
        if query.limit < 1:
            raise QueryInvalid(f"a page cannot have {query.limit} recordings")
        is_live = RecordingState.LIVE in query.states
        is_complete = RecordingState.COMPLETE in query.states
        if not (is_live or is_complete) or not self._notice_changes():
            return CataloguePage()
        wanted = RowQuery(
            limit=query.limit + 1,
            before=None if query.before is None else read_cursor(query.before),
            texts=tuple(name_texts(query.name)),
            title=title_key(query.name),
            room=room_key(query.room),
            is_live=None if is_live and is_complete else is_live,
            since_ms=None if query.since is None else milliseconds(query.since),
            until_ms=None if query.until is None else milliseconds(query.until),
        )
        entries: list[CatalogueEntry] = []
        last: tuple[int, str] | None = None
        while len(entries) <= query.limit:
            rows = self._index.page(wanted)
            for row, entry in zip(rows, self._entries.read(rows), strict=True):
                if entry is None or (query.room and room_key(entry.info.room) != wanted.room):
                    continue
                if len(entries) == query.limit:
                    assert last is not None
                    return CataloguePage(tuple(entries), write_cursor(*last))
                entries.append(entry)
                last = row.started_ms, row.name
            if len(rows) < wanted.limit:
                break
            wanted = replace(wanted, before=(rows[-1].started_ms, rows[-1].name))
        return CataloguePage(tuple(entries))

    def entry(self, recording_id: str) -> CatalogueEntry:
        return self._find(recording_id)[1]

    def ledger(self, recording_id: str) -> dict[str, Any]:
        row, entry = self._find(recording_id)
        try:
            return self._entries.ledger(row, entry)
        except (OSError, ValueError) as error:
            raise RecordingUnknown(
                f"the ledger of {row.name} cannot be read: {reason_of(error)}"
            ) from error

    def open(self, recording_id: str) -> OpenedWav | OpenedOgg:
        row, _ = self._find(recording_id)
        opened = self._entries.open(row)
        if opened is None:
            raise RecordingUnknown(f"there is no recording {recording_id}")
        return opened

    def remove(self, recording_id: str) -> None:
        row, entry = self._find(recording_id)
        if entry.state is RecordingState.LIVE:
            raise RecordingLive(f"{row.name} is still being written")
        container = entry.info.container
        try:
            with Swap(self._folder, row.name):  # as long as it is held, nobody writes these files
                # a swap that was finished just now may have added parts
                numbers = list_numbers(self._folder, row.name, container)
                numbers |= {part.number for part in row.parts}
                for path in restoring_files(self._folder, row.name, row.id):
                    path.unlink(missing_ok=True)
                for number in sorted(numbers, reverse=True):
                    files = files_of(self._folder, row.name, number, container)
                    # delete the sound last: as long as it exists, the recording is listed, and
                    # `remove` can be called again
                    for path in (
                        *(files.peaks, files.journal, files.ledger_part, files.ledger),
                        files.recording,
                        files.peaks,  # somebody may have made them meanwhile
                    ):
                        path.unlink(missing_ok=True)
                sync_folder(self._folder)
        except BlockingIOError as error:
            raise RecordingLive(
                f"{row.name} is being restored; remove it when that is done"
            ) from error
        except (OSError, ValueError) as error:
            raise StorageFailed(f"cannot remove {row.name}: {reason_of(error)}") from error
        for number in numbers:
            self._index.drop_part(row.name, number)

    def close(self) -> None:
        self._closing.set()
        with self._lock:
            scan = self._scan
            describing = self._describing
        for thread in (scan, describing):
            if thread is not None:
                thread.join(_CLOSE_S)
        self._index.close()

    def _find(self, recording_id: str) -> tuple[RecordingRow, CatalogueEntry]:
        for _ in range(2):
            if not self._notice_changes():
                break
            row = self._index.find(recording_id)
            entry = None if row is None else self._entries.read([row])[0]
            if row is not None and entry is not None:
                return row, entry
            if row is None:
                break
        raise RecordingUnknown(f"there is no recording {recording_id}")

    # -- changes by others -----------------------------------------------------------------------

    def _notice_changes(self) -> bool:
        """Start a scan if the folder has changed, and wait for the first scan.

        Returns False if there is no folder.
        """
        try:
            modified_ns = self._folder.stat().st_mtime_ns
        except OSError:
            return False
        if not self._index.is_complete:
            self._start_scan().join()
            return True
        if self._seen_ns is None:
            self._seen_ns = self._index.fact("folder_ns")
        if modified_ns != self._seen_ns and time.monotonic() >= self._next_scan:
            self._start_scan()
        return True

    def _start_scan(self) -> threading.Thread:
        with self._lock:
            if self._scan is None or not self._scan.is_alive():
                self._scan = threading.Thread(
                    target=self._scan_folder, name="gapless-catalogue", daemon=True
                )
                self._scan.start()
            return self._scan

    def _scan_folder(self) -> None:
        began = time.monotonic()
        try:
            # the page that has noticed the change comes first, unless it waits for this scan
            if self._index.is_complete and self._closing.wait(_DELAY_S):
                return
            began = time.monotonic()
            self.scan()
            self._start_describing()
        except Exception:
            _log.exception("the recordings in %s cannot be listed", self._folder)
        took = time.monotonic() - began
        self._next_scan = time.monotonic() + max(self._rescan_s, _REST * took)

    def _start_describing(self) -> None:
        with self._lock:
            if self._describing is None or not self._describing.is_alive():
                self._describing = threading.Thread(
                    target=self._describe_all, name="gapless-describe", daemon=True
                )
                self._describing.start()

    def _describe_all(self) -> None:
        """Read the ledgers that no page has read yet: only they say rooms and titles."""
        after, took = "", 0.0
        with _harmless("described"):
            while not self._closing.wait(max(_DESCRIBE_PAUSE_S, 3 * took)):
                began = time.monotonic()
                rows = self._index.undescribed(after=after, limit=_DESCRIBED)
                if not rows:
                    return
                self._entries.read(rows)
                after, took = rows[-1].name, time.monotonic() - began

    def _compare(
        self,
        listed: Mapping[tuple[str, int], ListedPart],
        known: Mapping[tuple[str, int], bool],
    ) -> bool:
        """Update the index from the listing; return False if the catalogue was closed."""
        unknown = []
        for key, part in paced(listed.items()):
            is_live = known.get(key)
            if is_live is None:
                unknown.append((key, part))
            elif is_live and not part.is_live:
                self._refresh(*key)
        unknown.sort(key=_by_key)  # in the order of the index, which halves the time
        for start in range(0, len(unknown), BATCH):
            if self._closing.is_set():
                return False
            self._index.add(list(self._new_rows(unknown[start : start + BATCH])))
            time.sleep(PAUSE_S)
        for key in known.keys() - listed.keys():
            if not known[key]:  # the file of a live part may not have been made yet
                self._refresh(*key)
        return not self._closing.is_set()

    def _new_rows(
        self, parts: Sequence[tuple[tuple[str, int], ListedPart]]
    ) -> Iterator[RecordingRow]:
        for key, part in parts:
            files = files_of(self._folder, *key, part.container)
            if not part.is_live or self._is_live(files):
                with contextlib.suppress(OSError):  # the file was deleted meanwhile
                    yield new_row(files, is_live=part.is_live)

    def _is_live(self, files: RecordingFiles) -> bool:
        """Return whether a ``.part`` that the index does not know is being written."""
        if is_being_written(files.part):
            return not journal_of(files).is_rendering
        self._log_left(files)
        return False

    def _refresh(self, name: str, number: int) -> None:
        refresh_part(self._folder, self._index, name, number)

    def _log_left(self, files: RecordingFiles) -> None:
        if files.name not in self._left and is_regular(files.part):
            self._left.add(files.name)
            _log.warning(
                "%s is unfinished and no process writes it; run gapless recover", files.part
            )


def _by_key(item: tuple[tuple[str, int], ListedPart]) -> tuple[str, int]:
    return item[0]


def _row(info: RecordingInfo) -> RecordingRow:
    """Make the row of a recording that a store writes."""
    started_ms = milliseconds(info.started_at)
    return describe_row(RecordingRow(info.name, info.id, started_ms, False, None), info)


@contextlib.contextmanager
def _harmless(what: str) -> Iterator[None]:
    """Log errors instead of raising them: the catalogue must not damage a recording."""
    try:
        yield
    except Exception:
        _log.exception("parts cannot be %s in the catalogue", what)
