"""A recording on disk: one file, or several that follow each other to the sample.

The disk's thread writes it. An ending thread completes its parts, one after another.
"""

from __future__ import annotations

import datetime
import logging
import pathlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from adapters.storage.folder.disk import NotSynced, SyncThread, describe, reason_of
from adapters.storage.folder.faults import may_pass
from adapters.storage.folder.files import RecordingFiles
from adapters.storage.folder.journal import Before, FoundJournal
from adapters.storage.folder.part import Part, PartOptions
from adapters.storage.folder.summary import earlier_parts
from domain.ports.catalogue import PartRegister
from domain.ports.storage import PartCompletedCall, ignore_part
from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.ledger import ANCHOR, LedgerEvent, RecordingInfo, SampleKind
from domain.recording.naming import part_name, split_part_name
from domain.recording.restoring import PLACED
from domain.sound.formats import AudioFormat
from domain.sound.pieces import Sound, split


def ignore_written() -> None:
    """Do nothing when a part is written."""


CONTINUED = "continued"
"""The end reason of all parts of a recording but the last."""
_log = logging.getLogger("gapless")


@dataclass(slots=True, eq=False)
class _WrittenPart:
    """A part to which nothing is added any more, and which has to be completed."""

    part: Part
    number: int
    start: int
    reason: str
    ended_at: datetime.datetime


class RecordingParts:
    """Writes a recording into one file, or into several that follow each other to the sample.

    A call that raises `OSError` has kept what it could; `length` tells how much. It can be
    repeated with the rest.
    """

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
        self._set_format(info.format)
        self._is_overdue = False  # the next part could not be created yet
        self._number = 0
        self._before = 0  # samples in the parts before this one
        self._connections = 1
        self._anchor: LedgerEvent | None = None
        self._placed: LedgerEvent | None = None
        self._part: Part | None = None
        self._is_leftover = False  # files of the next part are left from a failed `open`
        self._written: deque[_WrittenPart] = deque()
        self._unfinished: set[str] = set()  # parts that are left to recovery
        self.unsynced: set[str] = set()
        """Those of them that the system could not write to the disk."""
        self._completed: list[CompletedPart] = []
        self._end: tuple[str, datetime.datetime] | None = None  # of a complete last part
        self.part_written: Callable[[], None] = ignore_written
        """Called in the disk's thread when `complete_written` has something to do."""
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
        if info.name != files.name:  # the names of its next parts would be others
            raise ValueError("its journal is that of another recording")
        base, number = split_part_name(info.name)
        offset = datetime.timedelta(seconds=found.before.samples / info.format.sample_rate_hz)
        whole = replace(info, name=base, started_at=info.started_at - offset)
        parts = cls(files.folder, whole, options, sync, register)
        parts._number, parts._before = number, found.before.samples
        parts._connections = found.connections
        parts._anchor, parts._placed = found.anchor, found.placed
        parts._part = Part.reopen(files, info, found, options, sync)
        parts._completed += earlier_parts(files.folder, whole, number)
        parts._announce(number, parts._before)
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
        readings = [part.reading for part in self._open_parts()]
        return next((reading for reading in readings if reading is not None), None)

    @property
    def length(self) -> int:
        """Samples per channel of all parts."""
        return self._before + (self._part.length if self._part is not None else 0)

    def open(self) -> None:
        """Create the files of the next part. Raises `OSError`."""
        number = self._number + 1
        before = self.length
        offset = datetime.timedelta(seconds=before / self._info.format.sample_rate_hz)
        info = replace(
            self._info,
            name=part_name(self._info.name, number),
            started_at=self._info.started_at + offset,
        )
        files = RecordingFiles(self._folder, info.name, info.container)
        if self._is_leftover:
            for path in (files.part, files.journal):
                path.unlink(missing_ok=True)
            self._is_leftover = False
        # announce the part before its files exist: then the catalogue knows every file, even if
        # the process is killed in between
        self._announce(number, before)
        state = Before(before, self._connections, self._anchor, self._placed)
        try:
            part = Part.create(files, info, self._options, self._sync, state)
        except BaseException as error:
            # names are unique: unless the files were there before, they are ours
            self._is_leftover = not isinstance(error, FileExistsError)
            self._withdraw(number)
            raise
        self._number, self._before, self._part = number, before, part
        if number > 1:
            self.note(LedgerEvent("continues", before, {"recording": self._info.name}))

    def write(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        """Append sound. Raises `OSError` or `CutOff`."""
        while pieces:
            part, room = self._part_with_room()
            fitting, rest = (pieces, ()) if room is None else split(pieces, room)
            if (
                not fitting
            ):  # the packet does not fit: it begins the next part, or makes this one longer
                if part.length and self._begin_next(part):
                    continue
                fitting, rest = pieces[:1], pieces[1:]
            part.write(fitting, kind)
            pieces = rest

    def write_silence(self, length: int, kind: SampleKind) -> None:
        """Append silence. Raises `OSError` or `CutOff`."""
        while length:
            part, room = self._part_with_room()
            count = length if room is None else min(length, room)
            part.write_silence(count, kind)
            length -= count

    def change_format(self, audio_format: AudioFormat) -> None:
        """Begin another part, with another number of channels. Raises `OSError`."""
        former, number, start = self._part, self._number, self._before
        former_format = self._info.format
        assert former is not None
        self._set_format(audio_format)
        try:
            self.open()
        except BaseException:
            self._set_format(former_format)
            raise
        self._end_part(former, number, start)

    def note(self, event: LedgerEvent) -> None:
        """Add an event; its position counts from the beginning of the recording."""
        assert self._part is not None
        self._connections += event.type == "reconnected"
        if event.type == ANCHOR:
            self._anchor = event
        elif event.type == PLACED:
            self._placed = event
        self._part.note(replace(event, position=max(0, event.position - self._before)))

    def give_up(self, reason: str) -> None:
        """Keep what was written, and note why the sound ends here."""
        if self._part is not None:
            self._part.give_up(reason)

    def finish(self, reason: str, ended_at: datetime.datetime) -> None:
        """Complete all parts; nothing can be added any more. Raises as `complete_written`."""
        if (part := self._part) is not None:
            self._written.append(_WrittenPart(part, self._number, self._before, reason, ended_at))
            self._before, self._part = self.length, None
        self.complete_written()

    def complete_written(self) -> None:
        """Complete the parts to which nothing is added any more.

        Raises `OSError` for a fault that may pass; call it again then. Raises any other exception
        if a part cannot be completed and has to be left to recovery, or has lost sound, after the
        other parts.
        """
        failure: Exception | None = None
        while self._written:
            written = self._written[0]
            try:
                path = written.part.finish(written.reason, written.ended_at)
            except Exception as error:
                if may_pass(error):
                    raise
                failure = failure or error
                self._unfinished.add(written.part.name)
                if isinstance(error, NotSynced):
                    self.unsynced.add(written.part.name)
                written.part.close()
            else:
                failure = failure or written.part.damage
                self._register_complete(written, path)
            self._written.popleft()
        if failure is not None:
            raise failure

    def completed(self, reason: str, ended_at: datetime.datetime) -> CompletedRecording | None:
        """The complete parts as a recording; None if there are none."""
        if not self._completed:
            return None
        parts = tuple(self._completed)
        return CompletedRecording(self._info, parts, parts[-1].end, reason, ended_at)

    @property
    def completed_by_itself(self) -> CompletedRecording | None:
        """The recording with the end that it was given; None unless its last part is complete."""
        return None if self._end is None else self.completed(*self._end)

    def unfinished(self) -> set[str]:
        """Return the names of the parts that are not complete, without extensions."""
        return self._unfinished | {written.part.name for written in self._written}

    def leave(self) -> bool:
        """Close the files that recovery can find; return whether others stay open.

        A deleted file exists only as long as it is open, and recovery does not know where a moved
        file is: they stay open for `complete_written`.
        """
        for written in list(self._written):
            if written.part.can_be_found:
                written.part.close()
                self._written.remove(written)
        return bool(self._written)

    def abandon(self) -> None:
        """Close the files and leave them to recovery."""
        for part in self._open_parts():
            part.close()

    def discard(self) -> None:
        """Delete the unfinished parts."""
        for written in self._written:
            written.part.discard()
            self._withdraw(written.number)
        if self._part is not None:
            self._part.discard()
            self._withdraw(self._number)

    def _open_parts(self) -> list[Part]:
        parts = [written.part for written in self._written]
        return parts if self._part is None else [*parts, self._part]

    def _part_with_room(self) -> tuple[Part, int | None]:
        """Return the part for the next sample, and how many samples it can take.

        Begins another part if this one is full.
        """
        part = self._part
        assert part is not None
        limit = self._limit
        is_full = part.is_ledger_full or (limit is not None and part.length >= limit)
        if is_full and not self._begin_next(part):
            limit = self._max_length
        assert self._part is not None
        return self._part, None if limit is None else limit - self._part.length

    def _begin_next(self, full: Part) -> bool:
        """Begin another part; return False if this one has to go on.

        That is so while no file can be created, and this one can take more. Raises `OSError`
        when it cannot.
        """
        number, start = self._number, self._before
        # create the next part first: if that fails, this part goes on or is the last one
        try:
            self.open()
        except OSError as error:
            is_full = self._max_length is not None and full.length >= self._max_length
            if is_full or not may_pass(error):
                raise
            if not self._is_overdue:
                self._is_overdue = True
                _log.warning("the next part cannot be created yet: %s", describe(error))
                why = {"reason": reason_of(error)}
                self.note(LedgerEvent("next part delayed", self.length, why))
            return False
        self._is_overdue = False
        self._end_part(full, number, start)
        return True

    def _end_part(self, part: Part, number: int, start: int) -> None:
        """Let a part be completed that another one has followed."""
        seconds = self._before / self._info.format.sample_rate_hz
        cut_at = self._info.started_at + datetime.timedelta(seconds=seconds)
        self._written.append(_WrittenPart(part, number, start, CONTINUED, cut_at))
        self.part_written()

    def _set_format(self, audio_format: AudioFormat) -> None:
        self._info = replace(self._info, format=audio_format)
        self._limit = self._options.part_samples(self._info)
        self._max_length = self._options.max_part_samples(self._info)

    def _register_complete(self, written: _WrittenPart, path: pathlib.Path) -> None:
        part = CompletedPart(written.number, str(path), written.start, written.part.length)
        self._completed.append(part)
        reason, ended_at = written.reason, written.ended_at
        if reason != CONTINUED:
            self._end = reason, ended_at
        if path.stem != part_name(self._info.name, written.number):
            self._withdraw(written.number)  # its name was taken; listing the folder finds it
        elif self._register is not None:
            self._register.complete(self._info, part, end_reason=reason, ended_at=ended_at)
        self.part_completed(part, reason != CONTINUED)

    def _announce(self, number: int, start: int) -> None:
        if self._register is not None:
            self._register.announce(self._info, number=number, start=start)

    def _withdraw(self, number: int) -> None:
        if self._register is not None:
            self._register.withdraw(self._info, number=number)
