"""The event loop's side of a recording: a queue of steps for the disk's thread."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from adapters.descriptors import RESERVE
from adapters.storage.folder.disk import DiskThread, describe, reason_of
from adapters.storage.folder.endings import EndingThreads
from adapters.storage.folder.faults import DiskFaults, may_pass
from adapters.storage.folder.parts import RecordingParts, ignore_written
from domain.errors import StorageFailed
from domain.ports.storage import PartCompletedCall, ignore_part
from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.effects import EndReason
from domain.recording.ledger import LedgerEvent, SampleKind
from domain.sound.formats import AudioFormat
from domain.sound.pieces import Sound, skip

DESCRIPTORS = 2
"""Descriptors that are kept for each recording: its next part needs two files."""
QUEUE_S = 30.0
"""Sound of a recording that may wait for the disk; further sound becomes silence."""
MAX_FAULT_S = 24.0
"""A recording fails when the disk cannot be written for longer than this: its queue is then almost
full."""
MAX_ENDING_S = 5.0
"""An ending fails when the disk cannot be written for longer than this; all sound is written."""
_RETRY_S = 0.5
_MAX_RETRY_S = 5.0
_ABANDON_S = 0.5


@dataclasses.dataclass(slots=True, eq=False)
class _Write:
    """A step that writes sound; consecutive steps of one kind are done together."""

    pieces: Sequence[Sound]
    length: int
    kind: SampleKind


@dataclasses.dataclass(frozen=True, slots=True)
class _WriteSilence:
    """A step that writes silence."""

    length: int
    kind: SampleKind


@dataclasses.dataclass(frozen=True, slots=True)
class _Finish:
    """Completes the recording after the last step."""

    reason: EndReason
    ended_at: datetime.datetime
    done: asyncio.Future[None]


_Step = _Write | _WriteSilence | Callable[[], None]


class FolderWriter:
    """A `RecordingWriter` that queues its steps for the disk's thread.

    When the disk cannot be written, the steps wait, and the recording goes on where it was as soon
    as it can. When all steps are done, an ending thread completes the recording.
    """

    def __init__(
        self,
        recording: RecordingParts,
        disk: DiskThread,
        endings: EndingThreads,
        faults: DiskFaults,
        leave: Callable[[RecordingParts], None],
        over: Callable[[FolderWriter], None],
    ) -> None:
        """`leave` receives a recording that could not be completed now.

        `over` is called when all work is done, by whichever thread does it.
        """
        self._disk = disk
        self._endings = endings
        self._faults = faults
        self._leave = leave
        self._over = over
        self._limit = round(QUEUE_S * recording.info.format.sample_rate_hz)
        self._recording = recording
        recording.part_written = self._part_written
        self._position = recording.length
        self._queued = 0  # samples queued; only the event loop changes this
        self._written = 0  # samples written; only the disk's thread changes this
        self._overflow = 0  # samples left out since the last queued step
        self._steps: deque[_Step] = deque()
        self._is_scheduled = False
        self._completing = threading.Lock()  # one ending thread at a time completes parts
        self._ending_since: float | None = None
        self._unfinished_part: Exception | None = None  # why a part could not be completed
        self._finish: _Finish | None = None
        self._part_completed: PartCompletedCall = ignore_part
        self._completed: CompletedRecording | None = None
        self.failure: StorageFailed | None = None
        RESERVE.keep(DESCRIPTORS)
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

    @property
    def waiting_samples(self) -> int:
        """Samples per channel that the disk's thread has not written yet."""
        return self._queued - self._written

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
        self._do(_WriteSilence(length, kind))

    def change_format(self, audio_format: AudioFormat) -> None:
        self._end_overflow()
        self._do(functools.partial(self._recording.change_format, audio_format))

    def note(self, event: LedgerEvent) -> None:
        self._do(functools.partial(self._recording.note, event))

    async def finish(self, reason: EndReason, ended_at: datetime.datetime) -> CompletedRecording:
        self._end_overflow()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._finish = _Finish(reason, ended_at, done)
        self._disk.submit(self._do_steps, at_once=True)
        await done
        if self._completed is None:
            assert self.failure is not None
            raise self.failure
        return self._completed

    def abandon(self) -> None:
        """Close the files and leave them to recovery; call it after the threads have ended."""
        self._set_finished()
        if (reading := self._recording.reading) is not None:
            reading.join(_ABANDON_S)
            if reading.is_alive():
                return  # hashing hours of sound takes too long; the files close with the process
        self._recording.abandon()

    def _set_finished(self) -> None:
        if not self.is_finished:
            self.is_finished = True
            RESERVE.give_back(DESCRIPTORS)
            self._over(self)

    def _do(self, step: _Step, *, at_once: bool = False) -> None:
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
        finish = self._finish  # read first: if it is set, no steps are added any more
        while self._steps and self.failure is None:
            step = self._steps.popleft()
            if isinstance(step, _Write):
                step = self._join(step)
            before = self._recording.length
            try:
                self._do_step(step)
            except Exception as error:
                # an error concerns this recording only; the thread also serves others
                written = self._recording.length - before
                if self._waits(error):
                    self._steps.appendleft(self._rest_of(step, written))
                    self._is_scheduled = True
                    self._disk.submit(self._do_steps)
                    return
                self._fail(error)
            else:
                self._fault_passed()
                if isinstance(step, _Write):
                    self._written += step.length
        if self.failure is not None:
            self._steps.clear()
        if finish is not None and self._finish is not None:
            self._finish = None
            self._endings.submit(functools.partial(self._complete, finish))

    def _do_step(self, step: _Step) -> None:
        match step:
            case _Write(pieces, _, kind):
                self._recording.write(pieces, kind)
            case _WriteSilence(length, kind):
                self._recording.write_silence(length, kind)
            case call:
                call()

    def _join(self, first: _Write) -> _Write:
        """Join a step with those of its kind that follow."""
        pieces, length = list(first.pieces), first.length
        while self._steps:
            step = self._steps[0]
            if not isinstance(step, _Write) or step.kind is not first.kind:
                break
            pieces += step.pieces
            length += step.length
            self._steps.popleft()
        return _Write(pieces, length, first.kind)

    def _rest_of(self, step: _Step, done: int) -> _Step:
        """Return what is left of a step of which `done` samples are written."""
        match step:
            case _Write(pieces, length, kind):
                self._written += done
                return _Write(skip(pieces, done)[0], length - done, kind)
            case _WriteSilence(length, kind):
                return _WriteSilence(length - done, kind)
            case call:
                return call

    def _waits(self, error: Exception) -> bool:
        """Return whether to repeat what raised an error, because its cause may pass."""
        if not may_pass(error) or self._disk.is_closing:
            return False
        return self._faults.met(self, error).seconds < MAX_FAULT_S

    def _fault_passed(self) -> None:
        if (fault := self._faults.passed(self)) is not None:
            details = {"reason": fault.reason, "seconds": round(fault.seconds, 1)}
            self._recording.note(LedgerEvent("disk fault", self._recording.length, details))

    def _part_written(self) -> None:
        self._endings.submit(self._complete_part)

    def _fail(self, error: Exception) -> None:
        self._faults.passed(self, is_over=False)
        if self.failure is not None:
            return
        if isinstance(error, OSError) and error.filename is not None:
            what = describe(error)
        else:
            what = f"{self._recording.name}: {reason_of(error)}"
        self.failure = StorageFailed(what)
        self.failure.__cause__ = error

    # -- in an ending thread -------------------------------------------------------------------

    def _complete_part(self) -> None:
        """Complete a part that another one has followed."""
        with self._completing:
            if self.is_finished:
                return
            try:
                self._recording.complete_written()
            except Exception as error:
                if may_pass(error):
                    fault = self._faults.met(self._completing, error)
                    delay_s = min(_RETRY_S + fault.seconds / 4, _MAX_RETRY_S)
                    self._endings.submit(self._complete_part, delay_s=delay_s)
                    return
                self._unfinished_part = self._unfinished_part or error
            self._faults.passed(self._completing)

    def _complete(self, finish: _Finish) -> None:
        with self._completing:
            if self._ending_since is None:
                self._ending_since = time.monotonic()
                if self.failure is not None:
                    self._recording.give_up(reason_of(self.failure.__cause__ or self.failure))
            reason = finish.reason if self.failure is None else EndReason.STORAGE_FAILED
            try:
                self._recording.finish(reason.value, finish.ended_at)
                if self._unfinished_part is not None:
                    raise self._unfinished_part
            except Exception as error:
                if may_pass(error) and time.monotonic() - self._ending_since < MAX_ENDING_S:
                    self._faults.met(self, error)
                    again = functools.partial(self._complete, finish)
                    self._endings.submit(again, delay_s=_RETRY_S)
                    return
                reason = EndReason.STORAGE_FAILED
                self._fail(error)
                self._leave(self._recording)
            self._faults.passed(self)
            self._faults.passed(self._completing)
            self._completed = self._recording.completed(reason.value, finish.ended_at)
            self._set_finished()
            self._recording.part_written = ignore_written  # it refers to this writer
        with contextlib.suppress(RuntimeError):  # the loop is closed
            finish.done.get_loop().call_soon_threadsafe(_resolve, finish.done)


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
