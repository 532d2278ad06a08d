"""Recordings in memory: for tests, and for servers that must not write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domain.audio import Samples, silence
from domain.errors import StorageFailed
from domain.ports.storage import RecordingInfo, RecordingWriter
from domain.recording import EndReason


@dataclass(frozen=True, slots=True, eq=False)
class StoredRecording:
    """A recording that is complete; `samples` has shape (n, channels)."""

    info: RecordingInfo
    samples: Samples
    reason: EndReason


class MemoryStore:
    """Keeps complete recordings by their names."""

    def __init__(self) -> None:
        self.recordings: dict[str, StoredRecording] = {}
        self._names: set[str] = set()

    def check(self) -> None:
        """Memory is always there."""

    def create(self, info: RecordingInfo) -> RecordingWriter:
        taken = info.name in self._names
        self._names.add(info.name)
        return _MemoryWriter(self, info, taken=taken)

    def close(self) -> None:
        """What was recorded can still be read."""


class _MemoryWriter:
    def __init__(self, store: MemoryStore, info: RecordingInfo, *, taken: bool) -> None:
        self._store = store
        self._info = info
        self._taken = taken
        self._parts: list[Samples] = []

    def append(self, samples: Samples) -> None:
        self._parts.append(samples)

    def append_silence(self, length: int) -> None:
        # a view of one sample: silence takes no memory until it is read
        one = silence(self._info.format, 1)
        self._parts.append(np.broadcast_to(one, (length, one.shape[1])))

    async def finish(self, length: int, reason: EndReason) -> str:
        if self._taken:
            raise StorageFailed(f"a recording {self._info.name} exists already")
        samples = np.concatenate([silence(self._info.format, 0), *self._parts])
        self._store.recordings[self._info.name] = StoredRecording(self._info, samples, reason)
        return f"memory:{self._info.name}"
