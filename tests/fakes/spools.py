from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import numpy as np

from domain.errors import SpoolFailed
from domain.ports.spool import Spool, SpoolDescription, SpoolEntry, SpoolSession
from domain.recording.ledger import RestoreState
from domain.recording.ranges import RangeSet
from domain.services.client.spool_sender import Delivered
from domain.sound.conversion import pack
from domain.sound.formats import AudioFrame, Samples, silence


class MemorySpool:
    def __init__(self, description: SpoolDescription) -> None:
        self.description = description
        self.session: SpoolSession | None = None
        self.sessions: list[SpoolSession] = []
        self.captured = RangeSet()
        self.is_removed = False
        self.releases = 0
        self.blocks: list[AudioFrame] = []

    @property
    def length(self) -> int:
        return self.captured.end

    @property
    def samples(self) -> Samples:
        samples = silence(self.description.format, self.length)
        for block in self.blocks:
            samples[block.position : block.end] = block.samples
        return samples

    async def flac(self, start: int, length: int) -> bytes:
        return self.samples[start : start + length].tobytes()

    async def sha256(self) -> str:
        data = pack(self.samples, self.description.format.sample_format)
        return hashlib.sha256(data).hexdigest()

    async def export(self, path: str) -> None:
        raise NotImplementedError

    async def note_session(self, session: SpoolSession) -> None:
        await asyncio.sleep(0)
        self.session = session
        self.sessions.append(session)

    async def remove(self) -> None:
        self.is_removed = True

    async def release(self) -> None:
        self.releases += 1


class MemorySpoolWriter:
    """Fails when it has `room` samples, if that is given."""

    def __init__(self, spool: MemorySpool, room: int | None) -> None:
        self.spool = spool
        self.failure: SpoolFailed | None = None
        self.finished = 0
        self._room = room

    def write(self, block: AudioFrame) -> None:
        assert block.format == self.spool.description.format
        assert block.position >= self.spool.length
        assert not self.finished
        if self._room is not None and self.spool.length + len(block) > self._room:
            self.failure = SpoolFailed("disk full")
        if self.failure is None and len(block):
            copy = AudioFrame(block.format, np.array(block.samples), block.position)
            self.spool.blocks.append(copy)
            self.spool.captured.add(block.position, block.end)

    async def finish(self) -> None:
        self.finished += 1


class MemorySpools:
    """Makes spools; `error` is raised instead, if it is given."""

    def __init__(self, error: SpoolFailed | None = None, *, room: int | None = None) -> None:
        self.error = error
        self.room = room
        self.writers: list[MemorySpoolWriter] = []
        self.left: list[Spool] = []

    async def create(self, description: SpoolDescription) -> MemorySpoolWriter:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.writers.append(MemorySpoolWriter(MemorySpool(description), self.room))
        return self.writers[-1]

    async def owed(self) -> Sequence[Spool]:
        if self.error is not None:
            raise self.error
        return self.left

    async def entries(self) -> Sequence[SpoolEntry]:
        return []


class FakeSender:
    """Delivers a spool at once; `error` is raised instead, if it is given."""

    def __init__(self, spool: Spool, error: Exception | None, state: RestoreState) -> None:
        self.spool = spool
        self.began_with: SpoolSession | None = None
        self.is_running = False
        self._error = error
        self._state = state

    async def run(self) -> None:
        self.began_with = self.spool.session
        self.is_running = True
        try:
            await asyncio.Event().wait()
        finally:
            self.is_running = False

    async def finish(self) -> Delivered:
        assert not self.is_running
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
        description = self.spool.description
        seconds = self.spool.length / description.format.sample_rate_hz
        return Delivered(self._state.value, await self.spool.sha256(), True, seconds)
