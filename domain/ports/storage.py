"""Where recordings are kept."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from domain.errors import StorageFailed
from domain.recording.ledger import LedgerEvent, RecordingInfo, SampleKind
from domain.recording.recording import Anchor, EndReason
from domain.sound.pieces import Sound


class RecordingWriter(Protocol):
    """One recording being written, and its ledger. Nothing here waits but `finish`.

    When the store cannot keep up, samples are left out: silence takes their place, so that the
    recording keeps its length, and an `overflow` event says where.
    """

    @property
    def failure(self) -> StorageFailed | None:
        """The first thing that went wrong; nothing is written after it."""

    def append(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        """Add sound in the recording's format; returns at once. Nobody changes it any more."""

    def append_silence(self, length: int, kind: SampleKind) -> None:
        """Add `length` samples of silence; returns at once."""

    def note(self, event: LedgerEvent) -> None:
        """Add an event to the ledger; returns at once."""

    async def finish(self, reason: EndReason, ended_at: datetime.datetime) -> str:
        """Complete the recording and its ledger, and say where it is.

        After a failure, what was written before it is completed, with that as the reason. Raises
        `StorageFailed` when not even that is possible, or the name was taken.
        """


@dataclass(frozen=True, slots=True)
class RecoveredRecording:
    """A recording that was brought to its end."""

    location: str
    seconds: float


@dataclass(frozen=True, slots=True)
class InterruptedRecording:
    """A recording whose process was killed, and whose client may still come back."""

    info: RecordingInfo
    length: int
    """Samples per channel."""
    ended_at: datetime.datetime
    """UTC, when the last of it was written."""
    anchor: Anchor | None
    attempts: int
    """Connections that have served it."""
    writer: RecordingWriter
    """It goes on behind the last sample."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found of recordings that nobody had finished."""

    recovered: list[RecoveredRecording] = field(default_factory=list)
    failed: list[StorageFailed] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    """Those that another process is still writing."""
    interrupted: list[InterruptedRecording] = field(default_factory=list)
    """Those that can be gone on with; finish them when nobody comes."""


class RecordingStore(Protocol):
    def check(self) -> None:
        """Raise `StorageFailed` when recordings cannot be kept here at all."""

    def recover(self, *, resumable_since: datetime.datetime) -> Recovery:
        """Complete what earlier processes have left unfinished.

        Recordings that were written to after `resumable_since`, and whose client can come back
        to them, are taken up instead.
        """

    def check_room(self) -> None:
        """Raise `StorageFull` when there is no room for one more recording."""

    def create(self, info: RecordingInfo) -> RecordingWriter:
        """Begin a recording. A name that exists is a failure of the new one."""

    def close(self) -> None:
        """Release what the store holds. Finish the recordings first."""
