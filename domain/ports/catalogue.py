"""All recordings of a server, whether they are being written or complete."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from domain.recording.completed import CompletedPart
from domain.recording.ledger import RecordingInfo
from domain.sound.formats import Samples


class RecordingState(enum.Enum):
    """Whether a recording is complete; more states may follow."""

    LIVE = "live"
    """The recording is being written, or waits for its client or for recovery."""
    COMPLETE = "complete"
    """Nothing is added to the recording any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueQuery:
    """Selects the recordings of a page."""

    limit: int = 50
    """Maximum number of entries on the page; at least 1."""
    before: str | None = None
    """The cursor of the page before this one; None for the newest recordings."""
    name: str = ""
    """Only recordings whose name contains this text, as it is or as a slug, or whose title does.
    Case is ignored, and in titles accents are. See `name_texts` and `title_key`."""
    room: str = ""
    """Only recordings of this room; case is ignored."""
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
    """In order. The last part of a live recording has the length that it had when it was read."""
    size: int
    """Size of all parts in bytes."""
    end_reason: str | None = None
    """None for a live recording, and for one without a ledger."""
    ended_at: datetime.datetime | None = None
    """UTC; None as for `end_reason`."""

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

    It stays valid while recordings are added and removed. Consecutive pages list every recording
    once, without those that began after the first page was read."""


class PartRegister(Protocol):
    """Keeps track of the parts that a store writes. The store calls it in its writing thread.

    The calls never raise, because a fault of the catalogue must not damage a recording.
    """

    def announce(self, info: RecordingInfo, *, number: int, start: int) -> None:
        """Add a part that begins now, `start` samples after its recording began."""

    def complete(
        self,
        info: RecordingInfo,
        part: CompletedPart,
        *,
        end_reason: str,
        ended_at: datetime.datetime,
    ) -> None:
        """Note that a part is complete: the part and its ledger have their final names."""

    def withdraw(self, info: RecordingInfo, *, number: int) -> None:
        """Remove an announced part that could not be begun, or that was discarded."""


class OpenedRecording(Protocol):
    """A recording opened for reading, with the samples that it had when it was opened.

    Parts are read as one recording; a missing part reads as silence. The calls read from the disk,
    so make them in a thread. The recording can still be read after it was removed.
    """

    @property
    def entry(self) -> CatalogueEntry:
        """What was opened; `entry.length` is the number of samples that can be read."""

    @property
    def size(self) -> int:
        """Size in bytes of one WAV, or of one chained Ogg stream (RFC 3533 § 4)."""

    @property
    def version(self) -> str:
        """Letters, digits and hyphens; others once the recording has grown, ended, or got more."""

    def read_bytes(self, start: int, length: int) -> bytes:
        """Return bytes of the recording as one file; fewer than `length` only at its end."""

    def read_samples(self, start: int, length: int) -> Samples:
        """Return samples of shape (n, channels) in the recording's format; Opus is decoded.

        There are fewer than `length` only at the end. Raises `InputUnreadable` when packets have
        no ledger, or one that does not fit.
        """

    def blocks(self, length: int) -> Iterator[Samples]:
        """Return all samples in order, in blocks of at most `length`; each packet is decoded once.

        Raises as `read_samples`.
        """

    def close(self) -> None:
        """Release the files."""


class Catalogue(PartRegister, Protocol):
    """Lists, opens and removes recordings.

    All calls may wait for the disk, so do not make them on the event loop.
    """

    def page(self, query: CatalogueQuery) -> CataloguePage:
        """Return recordings, newest first. Raises `QueryInvalid` for an invalid cursor."""

    def entry(self, recording_id: str) -> CatalogueEntry:
        """Return one recording. Raises `RecordingUnknown`."""

    def ledger(self, recording_id: str) -> Mapping[str, Any]:
        """Return the ledger of all parts; positions count from the beginning of the recording.

        `sha256` and `levels` describe one file. They are None if there are several parts, and
        while the recording is live. Raises `RecordingUnknown`, also if no ledger can be read.
        """

    def open(self, recording_id: str) -> OpenedRecording:
        """Open a recording, live or complete. Close it afterwards. Raises `RecordingUnknown`."""

    def remove(self, recording_id: str) -> None:
        """Delete the files of a complete recording, and what was captured for it.

        It cannot be removed while it is being restored. Raises `RecordingUnknown`,
        `RecordingLive`, or `StorageFailed` when a file cannot be deleted; another call then
        deletes the rest.
        """

    def close(self) -> None:
        """Release what the catalogue holds."""
