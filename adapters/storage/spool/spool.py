"""One spool on the disk."""

from __future__ import annotations

import asyncio
import pathlib
import threading
from collections.abc import Callable
from typing import TypeVar

from adapters.storage.spool.export import export_wav
from adapters.storage.spool.files import JOURNAL, delete, disk_errors
from adapters.storage.spool.flac import encode
from adapters.storage.spool.journal import SpoolJournal
from adapters.storage.spool.sound import SpoolSound
from domain.ports.spool import MAX_PIECE_SAMPLES, SpoolDescription, SpoolSession
from domain.recording.ranges import RangeSet

Result = TypeVar("Result")


class DiskSpool:
    """A spool in a folder that this process has locked. Files are read in worker threads."""

    def __init__(
        self,
        folder: pathlib.Path,
        description: SpoolDescription,
        journal: SpoolJournal,
        sound: SpoolSound,
        session: SpoolSession | None = None,
    ) -> None:
        self._folder = folder
        self._description = description
        self._journal = journal
        self._sound = sound
        self._session = session
        self._is_removed = False

    @property
    def description(self) -> SpoolDescription:
        return self._description

    @property
    def session(self) -> SpoolSession | None:
        return self._session

    @property
    def length(self) -> int:
        return self._sound.length

    @property
    def captured(self) -> RangeSet:
        return self._sound.captured

    async def flac(self, start: int, length: int) -> bytes:
        assert 0 < length <= MAX_PIECE_SAMPLES
        return await asyncio.to_thread(self._flac, start, length)

    def _flac(self, start: int, length: int) -> bytes:
        return encode(self._sound.read(start, length), self._sound.format)

    async def sha256(self) -> str:
        return await _stoppable(lambda stop: self._sound.sha256(is_stopped=stop))

    async def export(self, path: str) -> None:
        target = pathlib.Path(path)
        await _stoppable(lambda stop: export_wav(self._sound, target, is_stopped=stop))

    async def note_session(self, session: SpoolSession) -> None:
        with disk_errors(self._folder / JOURNAL):
            await asyncio.to_thread(self._journal.note_session, session)
        self._session = session

    async def remove(self) -> None:
        if not self._is_removed:
            with disk_errors(self._folder):
                await asyncio.to_thread(delete, self._folder)
            self._is_removed = True
        self._journal.close()

    async def release(self) -> None:
        self._journal.close()


async def _stoppable(call: Callable[[Callable[[], bool]], Result]) -> Result:
    """Run a long call in a thread; it ends when its caller is cancelled."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(call, stop.is_set)
    finally:
        stop.set()
