"""A recording on disk: one file, or several that follow each other to the sample.

Everything here runs in the disk's thread.
"""

from __future__ import annotations

import contextlib
import datetime
import pathlib
import threading
from collections.abc import Sequence
from dataclasses import replace

from adapters.storage.folder.disk import SyncThread
from adapters.storage.folder.files import RecordingFiles
from adapters.storage.folder.journal import Before, FoundJournal
from adapters.storage.folder.part import Part, PartOptions
from adapters.storage.folder.summary import earlier_parts
from domain.ports.catalogue import PartRegister
from domain.ports.storage import PartCompletedCall, ignore_part
from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.ledger import LedgerEvent, RecordingInfo, SampleKind
from domain.recording.naming import part_name, split_part_name
from domain.sound.pieces import Sound, split

CONTINUED = "continued"
"""The end reason of all parts of a recording but the last."""


class RecordingParts:
    """Writes a recording into one file, or into several that follow each other to the sample."""

    def __init__(
        self,
        folder: pathlib.Path,
        info: RecordingInfo,
        options: PartOptions,
        sync: SyncThread,
        register: PartRegister | None = None,
    ) -> None:
        self._folder = folder
        self._info = info
        self._options = options
        self._sync = sync
        self._register = register
        self._limit = options.part_samples(info)
        self._number = 0
        self._before = 0  # samples in the parts before this one
        self._connections = 1
        self._anchor: LedgerEvent | None = None
        self._part: Part | None = None
        self._completed: list[CompletedPart] = []
        self.part_completed: PartCompletedCall = ignore_part
        """Called in the disk's thread when a part is complete."""

    @classmethod
    def reopen(
        cls,
        files: RecordingFiles,
        found: FoundJournal,
        options: PartOptions,
        sync: SyncThread,
        register: PartRegister | None = None,
    ) -> RecordingParts:
        """Resume a recording that another process has left, from its last part.

        Raises `BlockingIOError` if it is still being written, and `ValueError` or `OSError` if it
        cannot be resumed. In each case nothing has been changed.
        """
        info = found.info
        if info is None or found.data_offset is None:
            raise ValueError("it has no journal")
        base, number = split_part_name(info.name)
        offset = datetime.timedelta(seconds=found.before.samples / info.format.sample_rate_hz)
        whole = replace(info, name=base, started_at=info.started_at - offset)
        parts = cls(files.folder, whole, options, sync, register)
        parts._number, parts._before = number, found.before.samples
        parts._connections, parts._anchor = found.connections, found.anchor
        parts._part = Part.reopen(files, info, found, options, sync)
        parts._completed += earlier_parts(files.folder, whole, number)
        parts._announce()
        return parts

    @staticmethod
    def is_last(files: RecordingFiles) -> bool:
        """Whether this part is the last one."""
        base, number = split_part_name(files.name)
        return not RecordingFiles(files.folder, part_name(base, number + 1), files.container).exist

    @property
    def name(self) -> str:
        return self._info.name

    @property
    def info(self) -> RecordingInfo:
        return self._info

    @property
    def reading(self) -> threading.Thread | None:
        """The thread that hashes the data of a reopened part; wait for it in another thread."""
        return self._part.reading if self._part is not None else None

    @property
    def length(self) -> int:
        """Samples per channel of all parts."""
        return self._before + (self._part.length if self._part is not None else 0)

    def open(self) -> None:
        """Create the files of the next part. Raises `OSError`."""
        self._number += 1
        offset = datetime.timedelta(seconds=self._before / self._info.format.sample_rate_hz)
        info = replace(
            self._info,
            name=part_name(self._info.name, self._number),
            started_at=self._info.started_at + offset,
        )
        files = RecordingFiles(self._folder, info.name, info.container)
        before = Before(self._before, self._connections, self._anchor)
        # announce the part before its files exist: then the catalogue knows every file, even if
        # the process is killed in between
        self._announce()
        try:
            self._part = Part.create(files, info, self._options, self._sync, before)
        except BaseException:
            self._withdraw()
            raise
        if self._number > 1:
            self.note(LedgerEvent("continues", self._before, {"recording": self._info.name}))

    def write(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        while pieces:
            part = self._part_with_room()
            room = self._limit - part.length if self._limit is not None else None
            taken, rest = (pieces, ()) if room is None else split(pieces, room)
            if (
                not taken
            ):  # the packet does not fit: it begins the next part, or makes this one longer
                if part.length:
                    self._begin_next(part)
                    continue
                taken, rest = pieces[:1], pieces[1:]
            part.write(taken, kind)
            pieces = rest

    def write_silence(self, length: int, kind: SampleKind) -> None:
        while length:
            part = self._part_with_room()
            room = length if self._limit is None else self._limit - part.length
            part.write_silence(min(length, room), kind)
            length -= min(length, room)

    def note(self, event: LedgerEvent) -> None:
        """Add an event; its position counts from the beginning of the recording."""
        assert self._part is not None
        self._connections += event.type == "reconnected"
        if event.type == "anchor":
            self._anchor = event
        self._part.note(replace(event, position=max(0, event.position - self._before)))

    def give_up(self, reason: str) -> None:
        """Keep what was written, and note why the sound ends here."""
        if self._part is not None:
            self._part.give_up(reason)

    def finish(self, reason: str, ended_at: datetime.datetime) -> None:
        """Complete the last part. Raises `OSError`."""
        if self._part is not None:
            self._finish_part(self._part, self._number, self._before, reason, ended_at)

    def completed(self, reason: str, ended_at: datetime.datetime) -> CompletedRecording | None:
        """The complete parts as a recording; None if there are none."""
        if not self._completed:
            return None
        parts = tuple(self._completed)
        return CompletedRecording(self._info, parts, parts[-1].end, reason, ended_at)

    def abandon(self) -> None:
        """Close the files and leave them to recovery."""
        if self._part is not None:
            self._part.close()

    def discard(self) -> None:
        """Delete the unfinished part."""
        if self._part is not None:
            self._part.discard()
            self._withdraw()

    def _part_with_room(self) -> Part:
        """Return the part for the next sample; begin another one if this one is full."""
        assert self._part is not None
        if self._limit is not None and self._part.length >= self._limit:
            self._begin_next(self._part)
        return self._part

    def _begin_next(self, full: Part) -> None:
        number, start = self._number, self._before
        self._before += full.length
        seconds = self._before / self._info.format.sample_rate_hz
        cut_at = self._info.started_at + datetime.timedelta(seconds=seconds)
        # create the next part first: if that fails, this part notes the reason and is the last one
        try:
            self.open()
        except BaseException:
            self._number, self._before = number, start
            raise
        with contextlib.closing(full):
            self._finish_part(full, number, start, CONTINUED, cut_at)

    def _finish_part(
        self, part: Part, number: int, start: int, reason: str, ended_at: datetime.datetime
    ) -> None:
        path = part.finish(reason, ended_at)
        completed = CompletedPart(number, str(path), start, part.length)
        self._completed.append(completed)
        if self._register is not None:
            self._register.complete(self._info, completed, end_reason=reason, ended_at=ended_at)
        self.part_completed(completed, reason != CONTINUED)

    def _announce(self) -> None:
        if self._register is not None:
            self._register.announce(self._info, number=self._number, start=self._before)

    def _withdraw(self) -> None:
        if self._register is not None:
            self._register.withdraw(self._info, number=self._number)
