"""Recordings in memory: for tests, and for servers that must not write."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapters.storage.digest import Digest
from domain.errors import StorageFailed, StorageFull
from domain.ports.storage import RecordingWriter, Recovery
from domain.recording.ledger import Ledger, LedgerEvent, RecordingInfo, SampleKind, document
from domain.recording.recording import EndReason
from domain.sound.conversion import pack
from domain.sound.formats import Samples, silence
from domain.sound.pieces import Sound


@dataclass(frozen=True, slots=True, eq=False)
class StoredRecording:
    """A recording that is complete; `samples` has shape (n, channels)."""

    info: RecordingInfo
    samples: Samples
    ledger: dict[str, Any]


class MemoryStore:
    """Keeps complete recordings by their names, up to a limit in all and for each."""

    def __init__(self, *, limit_bytes: int = 1 << 30, limit_bytes_each: int = 1 << 30) -> None:
        self.recordings: dict[str, StoredRecording] = {}
        self._limit_bytes = limit_bytes
        self._limit_bytes_each = limit_bytes_each
        self._names: set[str] = set()
        self._used_bytes = 0

    def check(self) -> None:
        """Memory is always there."""

    def recover(self, *, resumable_since: datetime.datetime) -> Recovery:
        """What a process had in memory went with it."""
        return Recovery()

    def check_room(self) -> None:
        if self._used_bytes >= self._limit_bytes:
            raise StorageFull("the memory for recordings is full")

    def create(self, info: RecordingInfo) -> RecordingWriter:
        writer = _MemoryWriter(self, info)
        if info.name in self._names:
            writer.failure = StorageFailed(f"a recording {info.name} exists already")
            writer.nameless = True
        self._names.add(info.name)
        return writer

    def close(self) -> None:
        """What was recorded can still be read."""

    def take(self, size: int, *, held: int) -> bool:
        """Ask for memory, for a recording that holds some already."""
        if self._used_bytes + size > self._limit_bytes or held + size > self._limit_bytes_each:
            return False
        self._used_bytes += size
        return True


class _MemoryWriter:
    def __init__(self, store: MemoryStore, info: RecordingInfo) -> None:
        self._store = store
        self._info = info
        self._pieces: list[Sound] = []
        self._held = 0
        self._ledger = Ledger()
        self.failure: StorageFailed | None = None
        self.nameless = False

    def append(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        for piece in pieces:
            self._add(piece, kind)

    def append_silence(self, length: int, kind: SampleKind) -> None:
        self._add(silence(self._info.format, length), kind)

    def note(self, event: LedgerEvent) -> None:
        self._ledger.note(event)

    async def finish(self, reason: EndReason, ended_at: datetime.datetime) -> str:
        if self.nameless:
            assert self.failure is not None
            raise self.failure
        if self.failure is not None:
            reason = EndReason.STORAGE_FAILED
            details = {"reason": str(self.failure)}
            self.note(LedgerEvent("storage failed", self._ledger.length, details))
        samples = np.concatenate([silence(self._info.format, 0), *self._pieces])
        digest = Digest(self._info.format)
        digest.update(pack(samples, self._info.format.sample_format))
        ledger = document(
            self._info,
            self._ledger,
            ended_at=ended_at,
            end_reason=reason.value,
            sha256=digest.sha256,
            loudness=digest.loudness,
        )
        self._store.recordings[self._info.name] = StoredRecording(self._info, samples, ledger)
        return f"memory:{self._info.name}"

    def _add(self, piece: Sound, kind: SampleKind) -> None:
        if self.failure is not None:
            return
        size = len(piece) * self._info.format.bytes_per_frame
        if not self._store.take(size, held=self._held):
            self.failure = StorageFailed("the memory for recordings is full")
            return
        self._held += size
        self._pieces.append(piece)
        self._ledger.add(kind, len(piece))
