"""All recordings of a server, whether they are being written or complete."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from domain.recording.completed import CompletedPart
from domain.recording.ledger import RecordingInfo
from domain.sound.formats import Samples


class RecordingState(enum.Enum):
    """What becomes of a recording; more states may follow."""

    LIVE = "live"
    """It is being written, or waits for its client or for recovery."""
    COMPLETE = "complete"
    """Nothing is added to it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueQuery:
    """Which recordings a page shows."""

    limit: int = 50
    """Entries on the page, at least 1."""
    before: str | None = None
    """The cursor of the page before this one; None for the newest recordings."""
    name: str = ""
    """Only recordings whose name contains this text, as it is or as a slug; case is ignored."""
    states: frozenset[RecordingState] = frozenset(RecordingState)
    since: datetime.datetime | None = None
    """Only recordings that began then or later; compared in milliseconds."""
    until: datetime.datetime | None = None
    """Only recordings that began earlier; compared in milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """A recording as the catalogue lists it."""

    info: RecordingInfo
    state: RecordingState
    parts: tuple[CompletedPart, ...]
    """In their order. The last part of a live recording is as long as it was when it was read."""
    size: int
    """Bytes of all parts on the disk, or in memory."""
    end_reason: str | None = None
    """None for a live recording, and for one without a ledger."""
    ended_at: datetime.datetime | None = None
    """UTC; None as above."""

    @property
    def length(self) -> int:
        """Samples per channel."""
        return self.parts[-1].end if self.parts else 0

    @property
    def seconds(self) -> float:
        return self.length / self.info.format.sample_rate_hz


@dataclass(frozen=True, slots=True)
class CataloguePage:
    """Recordings, newest first."""

    entries: tuple[CatalogueEntry, ...] = field(default=())
    next: str | None = None
    """The cursor for the page that follows; None on the last page.

    It stays valid while recordings come and go: pages that follow each other list every recording
    once, and leave out those that began after the first page was read."""


class PartRegister(Protocol):
    """Learns of each part from the store that writes it, in the thread that writes.

    These calls never raise: the catalogue must not cost a recording any samples.
    """

    def announce(self, info: RecordingInfo, *, number: int, start: int) -> None:
        """A part begins. `info` is the recording's; `start` counts from its beginning."""

    def complete(
        self,
        info: RecordingInfo,
        part: CompletedPart,
        *,
        end_reason: str,
        ended_at: datetime.datetime,
    ) -> None:
        """A part and its ledger have their final names."""

    def withdraw(self, info: RecordingInfo, *, number: int) -> None:
        """A part that was announced could not be begun, or was discarded."""


class OpenedRecording(Protocol):
    """A recording opened for reading, as it was when it was opened.

    Parts are read as one recording. Where a part is missing, samples are silence. The calls read
    from the disk: make them in a thread. It can still be read after it was removed.
    """

    @property
    def entry(self) -> CatalogueEntry:
        """What was opened; `entry.length` is the number of samples that can be read."""

    @property
    def size(self) -> int:
        """Bytes that can be read: one WAV, or one chained Ogg stream (RFC 3533 § 4)."""

    def read_bytes(self, start: int, length: int) -> bytes:
        """Bytes of the recording as one file; fewer than `length` only at its end."""

    def read_samples(self, start: int, length: int) -> Samples:
        """Samples of shape (n, channels) in the recording's format, Opus decoded.

        There are fewer than `length` only at the end. Raises `InputUnreadable` when packets have
        no ledger, or one that does not fit.
        """

    def close(self) -> None:
        """Release the files."""


class Catalogue(PartRegister, Protocol):
    """Lists, opens and removes recordings.

    All calls may wait for the disk: do not make them on the event loop.
    """

    def page(self, query: CatalogueQuery) -> CataloguePage:
        """Recordings, newest first. Raises `QueryInvalid` for a cursor that is none."""

    def entry(self, recording_id: str) -> CatalogueEntry:
        """One recording. Raises `RecordingUnknown`."""

    def ledger(self, recording_id: str) -> Mapping[str, Any]:
        """The ledger of a recording, all parts joined: positions count from its beginning.

        `sha256` and `levels` belong to a file: they are None where there are several, and while
        the recording is live. Raises `RecordingUnknown`, also when there is no readable ledger.
        """

    def open(self, recording_id: str) -> OpenedRecording:
        """Open a recording, live or complete. Close it afterwards. Raises `RecordingUnknown`."""

    def remove(self, recording_id: str) -> None:
        """Delete the files of a complete recording and their ledgers.

        Raises `RecordingUnknown`, `RecordingLive`, or `StorageFailed` when a file cannot be
        deleted; removing it again then deletes the rest.
        """

    def close(self) -> None:
        """Release what the catalogue holds."""
