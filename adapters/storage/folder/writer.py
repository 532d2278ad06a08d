"""The event loop's side of a recording: a queue of steps for the disk's thread."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import threading
from collections import deque
from collections.abc import Callable, Sequence

from adapters.storage.folder.disk import DiskThread
from adapters.storage.folder.parts import RecordingParts
from domain.errors import StorageFailed
from domain.ports.storage import PartCompletedCall, ignore_part
from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.ledger import LedgerEvent, SampleKind
from domain.recording.recording import EndReason
from domain.sound.pieces import Sound

QUEUE_S = 30.0
"""Sound of a recording that may wait for the disk; further sound becomes silence."""
_ABANDON_S = 0.5


@dataclasses.dataclass(slots=True, eq=False)
class _Write:
    """A step that writes sound; consecutive steps of one kind are done together."""

    pieces: Sequence[Sound]
    length: int
    kind: SampleKind


class FolderWriter:
    """A `RecordingWriter` that queues its steps for the disk's thread."""

    def __init__(self, recording: RecordingParts, disk: DiskThread) -> None:
        self._disk = disk
        self._limit = round(QUEUE_S * recording.info.format.sample_rate_hz)
        self._recording = recording
        self._position = recording.length
        self._queued = 0  # samples queued; only the event loop changes this
        self._written = 0  # samples written; only the disk's thread changes this
        self._overflow = 0  # samples left out since the last queued step
        self._steps: deque[_Write | Callable[[], None]] = deque()
        self._is_scheduled = False
        self._part_completed: PartCompletedCall = ignore_part
        self._completed: CompletedRecording | None = None
        self.failure: StorageFailed | None = None
        self.is_finished = False
        """Whether all work on the recording is done, successful or not."""

    @property
    def part_completed(self) -> PartCompletedCall:
        return self._part_completed

    @part_completed.setter
    def part_completed(self, call: PartCompletedCall) -> None:
        self._part_completed = call
        loop = asyncio.get_running_loop()

        def completed(part: CompletedPart, is_last: bool) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(call, part, is_last)

        self._recording.part_completed = completed

    @property
    def waiting(self) -> int:
        """Number of steps that the disk's thread has not done yet."""
        return len(self._steps)

    def begin(self) -> None:
        """Create the files of a new recording."""
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
        self._do(_Write(pieces, length, kind))

    def append_silence(self, length: int, kind: SampleKind) -> None:
        if self._overflow:
            self._overflow += length  # leave out this silence together with the sound around it
            return
        self._position += length
        self._do(functools.partial(self._recording.write_silence, length, kind))

    def note(self, event: LedgerEvent) -> None:
        self._do(functools.partial(self._recording.note, event))

    async def finish(self, reason: EndReason, ended_at: datetime.datetime) -> CompletedRecording:
        self._end_overflow()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        completing = functools.partial(self._complete, reason, ended_at, done.get_loop(), done)
        self._disk.submit(completing, at_once=True)
        await done
        if self._completed is None:
            assert self.failure is not None
            raise self.failure
        return self._completed

    def abandon(self) -> None:
        """Close the files and leave them to recovery; call it after the disk's thread has ended."""
        self.is_finished = True
        if (reading := self._recording.reading) is not None:
            reading.join(_ABANDON_S)
            if reading.is_alive():
                return  # hashing hours of sound takes too long; the files close with the process
        self._recording.abandon()

    def _do(self, step: _Write | Callable[[], None], *, at_once: bool = False) -> None:
        """Queue a step for the disk's thread, which does all queued steps together."""
        self._steps.append(step)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._disk.submit(self._do_steps, at_once=at_once)

    def _end_overflow(self) -> None:
        """Queue one step for everything that was left out."""
        if length := self._overflow:
            self._overflow = 0
            self.note(LedgerEvent("overflow", self._position, {"length": length}))
            self.append_silence(length, SampleKind.SILENCE)

    # -- in the disk's thread ------------------------------------------------------------------

    def _do_steps(self) -> None:
        self._is_scheduled = False
        while self._steps:
            step = self._steps.popleft()
            if self.failure is not None:
                continue
            try:
                if isinstance(step, _Write):
                    self._write(step)
                else:
                    step()
            except Exception as error:
                # an error concerns this recording only; the thread also serves others
                self._fail(error)

    def _write(self, first: _Write) -> None:
        pieces, length = list(first.pieces), first.length
        while self._steps:
            step = self._steps[0]
            if not isinstance(step, _Write) or step.kind is not first.kind:
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
        self._do_steps()
        if (reading := self._recording.reading) is not None:
            # wait in another thread: hashing hours of sound takes seconds
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
            reason = EndReason.STORAGE_FAILED
            self._fail(error)
            self._recording.abandon()
        self._completed = self._recording.completed(reason.value, ended_at)
        self.is_finished = True
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_resolve, done)


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
