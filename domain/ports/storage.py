"""Where recordings are written."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from domain.errors import StorageFailed
from domain.events.server import (
    RecordingBusy,
    RecordingInterrupted,
    RecordingRecovered,
    RecoveryFailed,
    ServerEvent,
)
from domain.recording.anchors import Anchor
from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.effects import EndReason
from domain.recording.ledger import LedgerEvent, RecordingInfo, SampleKind
from domain.sound.formats import AudioFormat
from domain.sound.pieces import Sound

PartCompletedCall: TypeAlias = Callable[[CompletedPart, bool], None]
"""Receives a complete part, and whether it is the last part of its recording."""


def ignore_part(_part: CompletedPart, _is_last: bool) -> None:
    """Do nothing when a part is complete."""


class RecordingWriter(Protocol):
    """Writes one recording and its ledger. Only `finish` waits.

    While the store cannot be written, sound waits in a queue of limited length, and is written
    when the fault has passed; a `disk fault` event says so. Sound that does not fit into the queue
    becomes silence, so that the recording keeps its length; an `overflow` event says where.
    """

    part_completed: PartCompletedCall
    """Called on the event loop when a part is complete, for the last part before `finish` returns.

    By default it does nothing. Set it before the first `append`.
    """

    @property
    def failure(self) -> StorageFailed | None:
        """The first fault that did not pass in time; nothing is written after it."""

    def append(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        """Add sound in the recording's format; returns at once. Do not change it later."""

    def append_silence(self, length: int, kind: SampleKind) -> None:
        """Add `length` samples of silence; returns at once."""

    def change_format(self, audio_format: AudioFormat) -> None:
        """Begin a new part for sound with another number of channels; returns at once.

        The rate and the sample format stay. The recording's format is that of its latest part;
        whoever reads it as a whole gets the sound of earlier parts in that format.
        """

    def note(self, event: LedgerEvent) -> None:
        """Add an event to the ledger; returns at once."""

    async def finish(self, reason: EndReason, ended_at: datetime.datetime) -> CompletedRecording:
        """Complete the recording and its ledger.

        After a failure, the samples written before it become a complete recording with the end
        reason `EndReason.STORAGE_FAILED`. Before a recording counts as complete, its file is
        opened, measured and compared with its ledger. Raises `StorageFailed` when it could not be
        completed, or when the name was taken. The store then tries again later, see
        `RecordingStore.poll_events`.
        """


@dataclass(frozen=True, slots=True)
class InterruptedRecording:
    """A recording whose process was killed, and whose client may still reconnect."""

    info: RecordingInfo
    """With the format of the last part, which continues."""
    length: int
    """Samples per channel."""
    ended_at: datetime.datetime
    """UTC, when the last sample was written."""
    anchor: Anchor | None
    connections: int
    """Number of connections that have served it."""
    writer: RecordingWriter
    """Continues behind the last sample."""
    placed: LedgerEvent | None = None
    """The latest event that ties its positions to those of its client's spool."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The unfinished recordings that were found, and what became of them."""

    recovered: list[CompletedRecording] = field(default_factory=list)
    """Recordings that are complete now, each with all its parts."""
    failed: list[StorageFailed] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    """Recordings that another process is still writing."""
    interrupted: list[InterruptedRecording] = field(default_factory=list)
    """Recordings that can be resumed. Finish them if no client reconnects."""

    def events(self) -> Iterator[ServerEvent]:
        """Return an event for each of them."""
        for recording in self.recovered:
            yield RecordingRecovered(recording)
        for interrupted in self.interrupted:
            yield RecordingInterrupted(interrupted.info, interrupted.length)
        for location in self.busy:
            yield RecordingBusy(location)
        for error in self.failed:
            yield RecoveryFailed(error)


class RecordingStore(Protocol):
    """Keeps recordings."""

    def check(self) -> None:
        """Raise `StorageFailed` when recordings cannot be kept here at all."""

    def recover(self, *, resumable_since: datetime.datetime) -> Recovery:
        """Complete what earlier processes have left unfinished.

        A recording that was written to after `resumable_since`, and whose client can resume it,
        is returned as interrupted instead.
        """

    def check_room(self) -> None:
        """Raise `StorageFull` when there is no room for another recording."""

    def poll_events(self) -> Sequence[ServerEvent]:
        """Return what has happened since the last call: faults, and recordings completed later."""

    def create(self, info: RecordingInfo) -> RecordingWriter:
        """Begin a recording. If its name exists, the new recording fails, not the old one."""

    def close(self) -> None:
        """Release the store's resources.

        Unfinished recordings stay as a killed process would leave them.
        """
