"""A folder of recordings: the store, and the event loop's side of each recording."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import pathlib
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence

from adapters.storage.folder.disk import DiskThread, SyncThread
from adapters.storage.folder.files import RecordingFiles
from adapters.storage.folder.journal import FoundJournal
from adapters.storage.folder.parts import PartOptions, RecordingParts
from adapters.storage.folder.recovery import recover
from domain.errors import StorageFailed, StorageFull
from domain.ports.storage import InterruptedRecording, RecordingWriter, Recovery
from domain.recording.ledger import LedgerEvent, RecordingInfo, SampleKind
from domain.recording.recording import Anchor, EndReason
from domain.session.placement import Share
from domain.sound.pieces import Sound

QUEUE_S = 30.0
"""Sound that may wait for the disk, per recording; beyond that it becomes silence."""


@dataclasses.dataclass(slots=True, eq=False)
class _Sounding:
    pieces: Sequence[Sound]
    length: int
    kind: SampleKind


class FolderStore:
    """A folder of WAV or Opus files, ``NAME.wav.part`` with a journal until they are complete."""

    def __init__(
        self, folder: str, options: PartOptions | None = None, share: Share | None = None
    ) -> None:
        self._folder = pathlib.Path(folder).absolute()
        self._share = share
        self._options = options or PartOptions()
        self._threads: tuple[DiskThread, SyncThread] | None = None

    def check(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder):
                pass
        except OSError as error:
            raise StorageFailed(
                f"cannot write recordings to {self._folder}: {error.strerror}"
            ) from error

    def recover(self, *, resumable_since: datetime.datetime) -> Recovery:
        interrupted: list[InterruptedRecording] = []

        def take_up(files: RecordingFiles, found: FoundJournal) -> bool:
            info = found.info
            if info is None or not info.resume_digest or found.end_reason is not None:
                return False
            written_at = datetime.datetime.fromtimestamp(
                files.part.stat().st_mtime, tz=datetime.UTC
            )
            if written_at < resumable_since or not RecordingParts.is_last(files):
                return False
            disk, sync = self._started()
            try:
                parts = RecordingParts.reopen(files, found, self._options, sync)
            except BlockingIOError:
                raise
            except (OSError, ValueError):
                return False  # then it is completed as it is
            interrupted.append(
                InterruptedRecording(
                    info=parts.info,
                    length=parts.length,
                    ended_at=found.last_sample_at(parts.length) or written_at,
                    anchor=_anchor(found.anchor),
                    attempts=found.attempts,
                    writer=_FolderWriter(parts, disk),
                )
            )
            return True

        found = recover(self._folder, take_up, self._share)
        return dataclasses.replace(found, interrupted=interrupted)

    def check_room(self) -> None:
        _, sync = self._started()
        if sync.free_bytes < max(self._options.min_free_bytes, self._options.reserve_bytes):
            raise StorageFull("the disk is full, or cannot be written")

    def create(self, info: RecordingInfo) -> RecordingWriter:
        disk, sync = self._started()
        parts = RecordingParts(self._folder, info, self._options, sync)
        writer = _FolderWriter(parts, disk)
        writer.begin()
        return writer

    def close(self) -> None:
        if self._threads is not None:
            disk, sync = self._threads
            disk.close()
            sync.close()
            self._threads = None

    def _started(self) -> tuple[DiskThread, SyncThread]:
        if self._threads is None:
            self._threads = DiskThread(), SyncThread(self._folder)
        return self._threads


class _FolderWriter:
    """The event loop's side of a recording: a queue of steps for the disk's thread."""

    def __init__(self, recording: RecordingParts, disk: DiskThread) -> None:
        self._disk = disk
        self._limit = round(QUEUE_S * recording.info.format.sample_rate_hz)
        self._recording = recording
        self._position = recording.length
        self._queued = 0  # samples; the event loop adds here,
        self._written = 0  # and the disk's thread here
        self._overflow = 0  # samples left out at the end of what there is so far
        self._steps: deque[_Sounding | Callable[[], None]] = deque()
        self._is_scheduled = False
        self.failure: StorageFailed | None = None

    def begin(self) -> None:
        """Make the files of a new recording; a process killed from now on leaves them behind."""
        self._do(self._recording.open, at_once=True)

    def append(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        length = sum(map(len, pieces))
        if self._queued - self._written + length > self._limit:
            self._overflow += length
            return
        if self._overflow:
            self._end_overflow()
        self._queued += length
        self._position += length
        self._do(_Sounding(pieces, length, kind))

    def append_silence(self, length: int, kind: SampleKind) -> None:
        if self._overflow:
            self._overflow += length  # what was to be silent in it makes no difference
            return
        self._position += length
        self._do(functools.partial(self._recording.write_silence, length, kind))

    def note(self, event: LedgerEvent) -> None:
        self._do(functools.partial(self._recording.note, event))

    async def finish(self, reason: EndReason, ended_at: datetime.datetime) -> str:
        self._end_overflow()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        completing = functools.partial(self._complete, reason, ended_at, done.get_loop(), done)
        self._disk.submit(completing, at_once=True)
        await done
        if self._recording.completed is None:
            assert self.failure is not None
            raise self.failure
        return str(self._recording.completed)

    def _do(self, step: _Sounding | Callable[[], None], *, at_once: bool = False) -> None:
        """Queue a step for the disk's thread, which takes all that has come together at once."""
        self._steps.append(step)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._disk.submit(self._take, at_once=at_once)

    def _end_overflow(self) -> None:
        """One step for all that was left out, however long the disk stalled."""
        if length := self._overflow:
            self._overflow = 0
            self.note(LedgerEvent("overflow", self._position, {"length": length}))
            self.append_silence(length, SampleKind.SILENCE)

    # -- in the disk's thread ------------------------------------------------------------------

    def _take(self) -> None:
        """Do all steps that there are, neighbouring sound of one kind in one piece."""
        self._is_scheduled = False
        while self._steps:
            step = self._steps.popleft()
            if self.failure is not None:
                continue
            try:
                if isinstance(step, _Sounding):
                    self._write(step)
                else:
                    step()
            except Exception as error:
                # whatever it is, it is this recording's: the thread serves the others
                self._fail(error)

    def _write(self, first: _Sounding) -> None:
        pieces, length = list(first.pieces), first.length
        while self._steps:
            step = self._steps[0]
            if not isinstance(step, _Sounding) or step.kind is not first.kind:
                break
            pieces += step.pieces
            length += step.length
            self._steps.popleft()
        self._recording.write(pieces, first.kind)
        self._written += length

    def _fail(self, error: Exception) -> None:
        self.failure = StorageFailed(f"{self._recording.name}: {_reason(error)}")
        self.failure.__cause__ = error

    def _complete(
        self,
        reason: EndReason,
        ended_at: datetime.datetime,
        loop: asyncio.AbstractEventLoop,
        done: asyncio.Future[None],
    ) -> None:
        self._take()
        if (reading := self._recording.reading) is not None:
            # hours of sound take seconds, in which the disk's thread has others to serve
            again = functools.partial(self._complete, reason, ended_at, loop, done)

            def wait() -> None:
                reading.join()
                self._disk.submit(again, at_once=True)

            threading.Thread(target=wait, name="gapless-hash-end", daemon=True).start()
            return
        try:
            if self.failure is not None:
                reason = EndReason.STORAGE_FAILED
                self._recording.give_up(_reason(self.failure.__cause__ or self.failure))
            self._recording.finish(reason.value, ended_at)
        except Exception as error:
            self._fail(error)
            self._recording.abandon()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, done)


def _anchor(event: LedgerEvent | None) -> Anchor | None:
    """Where RTP time stands, as the ledger's event says."""
    if event is None:
        return None
    details = event.details
    return Anchor(event.position, int(details["rtp_timestamp"]), int(details["ssrc"]))


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
