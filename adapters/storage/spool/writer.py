"""Writes what a client captures to its spool."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import queue
import threading
import time
from dataclasses import dataclass

from adapters.opening import create_file
from adapters.storage.folder.disk import add_path, describe, sync_folder
from adapters.storage.folder.files import sync_file, write_new
from adapters.storage.media_file import write_all
from adapters.storage.spool.files import Chunk, pcm_path
from adapters.storage.spool.flac import encode
from adapters.storage.spool.journal import SpoolJournal
from adapters.storage.spool.room import Room, SpoolOptions
from adapters.storage.spool.sound import SpoolSound
from adapters.storage.spool.spool import DiskSpool
from domain.errors import SpoolFailed
from domain.ports.spool import Spool
from domain.sound.conversion import pack, unpack
from domain.sound.formats import AudioFrame, silence

_SYNC_S = 1.0
"""A power failure loses about this much sound; a killed process loses what waits for the disk."""
_CATCH_UP_S = 1.0
"""How long a block may be delayed, once, if too many wait."""
_POLL_S = 0.005
_HOLE_S = 1.0
"""A longer hole begins a new file."""


@dataclass(slots=True)
class _Head:
    """The file that grows, or has grown to its full size."""

    start: int
    path: pathlib.Path
    descriptor: int
    size: int = 0
    """Bytes that were written."""
    synced: int = 0


class DiskSpoolWriter:
    """A spool being written, by two threads.

    One writes each block at once, so that a killed process loses nothing that has come so far. The
    other one does what takes long: it syncs the files, and makes FLAC of full ones.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        spool: DiskSpool,
        sound: SpoolSound,
        journal: SpoolJournal,
        room: Room,
        options: SpoolOptions,
    ) -> None:
        self._folder = folder
        self._spool = spool
        self._sound = sound
        self._journal = journal
        self._room = room
        self._format = sound.format
        self._chunk = round(options.chunk_s * sound.format.sample_rate_hz)
        self._hole = round(_HOLE_S * sound.format.sample_rate_hz)
        self._waiting_s = options.waiting_s
        self._blocks: queue.SimpleQueue[AudioFrame | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[_Head | None] = queue.SimpleQueue()
        self._handed = self._taken = 0  # samples; each is written by one thread only
        self._end = 0  # the position after the last block
        self._failure: SpoolFailed | None = None
        self._is_broken = False  # whether the disk was the reason
        self._head: _Head | None = None
        self._threads = [
            threading.Thread(target=call, name=name, daemon=True)
            for call, name in ((self._write_blocks, "gapless-spool"), (self._keep, "gapless-flac"))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def spool(self) -> Spool:
        return self._spool

    @property
    def failure(self) -> SpoolFailed | None:
        return self._failure

    def write(self, block: AudioFrame) -> None:
        if self._failure is not None:
            return
        if self._has_too_much and not self._catches_up():
            self._hang()
            return
        self._handed += len(block)
        self._blocks.put(block)

    @property
    def _has_too_much(self) -> bool:
        return self._handed - self._taken > self._waiting_s * self._format.sample_rate_hz

    def _catches_up(self) -> bool:
        """Let the disk write what waits; return False if it does not.

        A process that was stopped, or a laptop that slept, may get all of its sound at once.
        """
        until = time.monotonic() + _CATCH_UP_S
        while self._has_too_much:
            if time.monotonic() > until:
                return False
            time.sleep(_POLL_S)
        return True

    async def finish(self) -> None:
        self._blocks.put(None)
        is_over = await asyncio.to_thread(self._join)
        if is_over and self._sound.length == 0:
            with contextlib.suppress(SpoolFailed):  # it is empty: `owed` removes it
                await self._spool.remove()

    def _join(self) -> bool:
        """Wait for the threads; return False if the disk hangs."""
        for thread in self._threads:
            thread.join(self._waiting_s)
            if thread.is_alive():
                self._hang()
                return False
        return True

    def _hang(self) -> None:
        """Fail: what waits is written if the disk goes on, and nothing behind it."""
        message = f"{self._folder}: the disk has not answered for {self._waiting_s:g} s"
        self._failure = self._failure or SpoolFailed(message)

    def _break(self, error: OSError | SpoolFailed) -> None:
        """Fail because of the disk: nothing more is written."""
        self._is_broken = True
        if isinstance(error, OSError):
            add_path(error, self._folder)
            failure = SpoolFailed(describe(error))
            failure.__cause__ = error
        else:
            failure = error
        self._failure = self._failure or failure

    # -- the thread that writes -------------------------------------------------------------------

    def _write_blocks(self) -> None:
        while (block := self._blocks.get()) is not None:
            if not self._is_broken and len(block):
                try:
                    self._append(block)
                except (OSError, SpoolFailed) as error:
                    self._break(error)
                    self._cut()
            self._taken += len(block)
        self._full.put(None)

    def _append(self, block: AudioFrame) -> None:
        width, end = self._format.bytes_per_frame, self._end
        data = pack(block.samples, self._format.sample_format)
        head = self._head
        is_full = head is not None and head.size >= self._chunk * width
        gap = block.position - end
        self._room.require(len(data) + min(gap, self._hole) * width)
        if head is None or is_full or gap > self._hole:
            head = self._begin(block.position)
        elif gap:
            self._journal.note_hole(end, block.position)
            data = pack(silence(self._format, gap), self._format.sample_format) + data
        try:
            write_all(head.descriptor, data, head.size)
        except OSError as error:
            add_path(error, head.path)
            raise
        head.size += len(data)
        self._room.take(len(data))
        self._sound.grow(self._chunk_of(head), block.position)
        self._end = block.end

    def _begin(self, start: int) -> _Head:
        """Begin a file, and hand the one before it to the other thread."""
        path = pcm_path(self._folder, start)
        following = _Head(start, path, create_file(path))
        before, self._head = self._head, following
        if before is not None:
            self._full.put(before)
        return following

    def _cut(self) -> None:
        """Cut off what was written of a block: a spool is the same for every process."""
        if self._head is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._head.descriptor, self._head.size)

    def _chunk_of(self, head: _Head) -> Chunk:
        return Chunk(head.start, head.size // self._format.bytes_per_frame, head.path)

    # -- the thread that syncs, and makes FLAC ----------------------------------------------------

    def _keep(self) -> None:
        is_running = True
        while is_running:
            head = self._head  # before the queue is read: a full one is closed below
            try:
                full = self._full.get(timeout=_SYNC_S)
            except queue.Empty:
                self._try_to_sync(head)
                continue
            if full is None:
                is_running, full = False, self._head
                self._try_to_sync(full)
            elif not self._is_broken:
                try:
                    self._compress(full)
                except (OSError, SpoolFailed) as error:
                    self._break(error)
            if full is not None:
                os.close(full.descriptor)

    def _try_to_sync(self, head: _Head | None) -> None:
        if head is None or head.synced == head.size or self._is_broken:
            return
        size = head.size
        try:
            self._journal.sync()
            sync_file(head.descriptor, head.path)
            if not head.synced:
                sync_folder(self._folder)
        except OSError as error:
            self._break(error)
        head.synced = size

    def _compress(self, head: _Head) -> None:
        """Make FLAC of a file: beside it, and renamed when it is on the disk."""
        data = os.pread(head.descriptor, head.size, 0)
        flac = encode(unpack(data, self._format), self._format)
        path = head.path.with_suffix(".flac")
        part = path.with_suffix(".flac.part")
        write_new(part, flac)
        self._journal.sync()
        part.rename(path)
        sync_folder(self._folder)
        old = self._chunk_of(head)
        self._sound.hash_along(old, data)
        self._sound.replace(old, Chunk(old.start, old.length, path))
        self._room.take(len(flac) - len(data))
        self._room.measure()
