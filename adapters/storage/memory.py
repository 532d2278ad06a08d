"""Recordings in memory: for tests, and for servers that must not write to a disk."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from adapters.storage.digest import Digest
from domain.errors import StorageFailed, StorageFull
from domain.events.server import (
    ServerEvent,
)
from domain.ports.storage import PartCompletedCall, Recovery, ignore_part
from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.effects import EndReason
from domain.recording.ledger import Ledger, LedgerEvent, RecordingInfo, SampleKind, document
from domain.recording.naming import part_name
from domain.sound.conversion import mix_channels, pack
from domain.sound.formats import AudioFormat, Samples, silence
from domain.sound.pieces import EncodedSound, Sound


class MemoryStore:
    """Keeps recordings by name, with a limit for all together and for each."""

    def __init__(self, *, limit_bytes: int = 1 << 30, limit_bytes_each: int = 1 << 30) -> None:
        self.recordings: dict[str, MemoryRecording] = {}
        """Complete recordings by name."""
        self.live: dict[str, MemoryRecording] = {}
        """Live recordings by name."""
        self._limit_bytes = limit_bytes
        self._limit_bytes_each = limit_bytes_each
        self._used_bytes = 0
        self._lock = threading.Lock()

    def check(self) -> None:
        """Do nothing: memory can always be written."""

    def recover(self, *, resumable_since: datetime.datetime) -> Recovery:
        """Find nothing: recordings in memory do not outlive their process."""
        return Recovery()

    def check_room(self) -> None:
        if self._used_bytes >= self._limit_bytes:
            raise StorageFull("the memory for recordings is full")

    def poll_events(self) -> Sequence[ServerEvent]:
        """Return nothing: memory has no faults that pass."""
        return ()

    def create(self, info: RecordingInfo) -> MemoryRecording:
        recording = MemoryRecording(self, info)
        if info.name in self.recordings or info.name in self.live:
            recording.failure = StorageFailed(f"a recording {info.name} exists already")
            recording.is_nameless = True
        else:
            self.live[info.name] = recording
        return recording

    def announce(self, info: RecordingInfo) -> None:
        """List a recording without sound, unless its name is taken."""
        if info.name not in self.recordings and info.name not in self.live:
            self.create(info)

    def close(self) -> None:
        """Do nothing: the recordings can still be read."""

    def reserve(self, size: int, *, held: int) -> bool:
        """Reserve `size` bytes for a recording that already holds some."""
        with self._lock:
            if self._used_bytes + size > self._limit_bytes or held + size > self._limit_bytes_each:
                return False
            self._used_bytes += size
            return True

    def remove(self, recording: MemoryRecording) -> None:
        """Forget a complete recording, and free its memory."""
        with self._lock:  # other methods run in another thread
            if self.recordings.pop(recording.info.name, None) is not None:
                self._used_bytes -= recording.held_bytes


class MemoryRecording:
    """One recording and its writer.

    A part begins where the format changes. Like a catalogue, it shows all parts as one, in the
    format of the last part.
    """

    def __init__(self, store: MemoryStore, info: RecordingInfo) -> None:
        self.info = info
        self.failure: StorageFailed | None = None
        self.is_nameless = False
        """Whether another recording has its name."""
        self.part_completed: PartCompletedCall = ignore_part
        self.completed: CompletedRecording | None = None
        self.held_bytes = 0
        self._store = store
        self._pieces: list[Samples] = []  # each with the channels of its part
        self._earlier: list[CompletedPart] = []
        self._ledger = Ledger(sample_rate_hz=info.format.sample_rate_hz)
        self._document: dict[str, Any] | None = None

    @property
    def length(self) -> int:
        """Samples per channel recorded so far."""
        return self._ledger.length

    @property
    def samples(self) -> Samples:
        """A copy of all samples recorded so far, shape (n, channels)."""
        pieces = list(self._pieces)  # first, since another thread may add some in a wider format
        audio_format = self.info.format
        mixed = [
            mix_channels(piece, audio_format.sample_format, audio_format.channels)
            for piece in pieces
        ]
        return np.concatenate([silence(audio_format, 0), *mixed])

    @property
    def parts(self) -> tuple[CompletedPart, ...]:
        """All parts; the last one has the length that it has now."""
        earlier = tuple(self._earlier)
        start = earlier[-1].end if earlier else 0
        number = len(earlier) + 1
        location = f"memory:{part_name(self.info.name, number)}"
        return (*earlier, CompletedPart(number, location, start, self._ledger.length - start))

    def part_samples(self, number: int) -> Samples:
        """A copy of the samples of one part, with the channels of that part."""
        part = self.parts[number - 1]
        pieces, position = [], 0
        for piece in self._pieces:
            if part.start <= position < part.end:
                pieces.append(piece)
            position += len(piece)
        return np.concatenate(pieces)

    @property
    def ledger(self) -> dict[str, Any]:
        """The ledger; without an end while the recording is live."""
        if self._document is not None:
            return self._document
        return document(self.info, self._ledger, ended_at=None, end_reason=None, sha256=None)

    def append(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        for piece in pieces:
            self._add(piece, kind)

    def append_silence(self, length: int, kind: SampleKind) -> None:
        self._add(silence(self.info.format, length), kind)

    def change_format(self, audio_format: AudioFormat) -> None:
        if self.failure is not None:
            return
        part = self.parts[-1]
        self._earlier.append(part)
        self.info = replace(self.info, format=audio_format)
        self.part_completed(part, False)
        details = {"recording": self.info.name}
        self.note(LedgerEvent("continues", self._ledger.length, details))

    def note(self, event: LedgerEvent) -> None:
        self._ledger.note(event)

    async def finish(self, reason: EndReason, ended_at: datetime.datetime) -> CompletedRecording:
        if self.is_nameless:
            assert self.failure is not None
            raise self.failure
        if self.failure is not None:
            reason = EndReason.STORAGE_FAILED
            details = {"reason": str(self.failure)}
            self.note(LedgerEvent("storage failed", self._ledger.length, details))
        digest = None
        if not self._earlier:
            digest = Digest(self.info.format)
            samples = self.samples
            self._pieces = [samples]
            digest.update(pack(samples, self.info.format.sample_format))
        self._document = document(
            self.info,
            self._ledger,
            ended_at=ended_at,
            end_reason=reason.value,
            sha256=None if digest is None else digest.sha256,
            loudness=None if digest is None else digest.loudness,
        )
        parts, length = self.parts, self._ledger.length
        self.completed = CompletedRecording(self.info, parts, length, reason.value, ended_at)
        self._store.recordings[self.info.name] = self
        del self._store.live[self.info.name]
        self.part_completed(parts[-1], True)
        return self.completed

    def _add(self, piece: Sound, kind: SampleKind) -> None:
        if self.failure is not None:
            return
        size = len(piece) * self.info.format.bytes_per_frame
        if not self._store.reserve(size, held=self.held_bytes):
            self.failure = StorageFailed("the memory for recordings is full")
            return
        self.held_bytes += size
        assert not isinstance(piece, EncodedSound)  # memory holds decoded sound
        self._pieces.append(piece)
        self._ledger.add(kind, len(piece))
