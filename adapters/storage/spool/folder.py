"""The spools of a user on a disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pathlib
from collections.abc import Sequence

from adapters.opening import PRIVATE_FOLDER, is_folder, make_folder
from adapters.storage.folder.disk import describe, sync_folder
from adapters.storage.spool.files import (
    JOURNAL,
    clear,
    delete,
    disk_errors,
    has_sound,
    list_chunks,
    locked,
    new_name,
)
from adapters.storage.spool.flac import encode
from adapters.storage.spool.journal import VERSION, JournalInUse, SpoolJournal
from adapters.storage.spool.listing import list_spools, warn_of_version
from adapters.storage.spool.room import Room, SpoolOptions
from adapters.storage.spool.sound import SpoolSound
from adapters.storage.spool.spool import DiskSpool
from adapters.storage.spool.writer import DiskSpoolWriter
from domain.ports.spool import Spool, SpoolDescription, SpoolEntry, SpoolWriter
from domain.sound.formats import silence

_log = logging.getLogger("gapless")


class DiskSpoolFolder:
    """A folder of spools; it is created with the first one."""

    def __init__(self, folder: str, options: SpoolOptions | None = None) -> None:
        self._folder = pathlib.Path(folder)
        self._options = options or SpoolOptions()

    async def create(self, description: SpoolDescription) -> SpoolWriter:
        return await asyncio.to_thread(self._create, description)

    async def owed(self) -> Sequence[Spool]:
        return await asyncio.to_thread(self._owed)

    async def entries(self) -> Sequence[SpoolEntry]:
        return await asyncio.to_thread(list_spools, self._folder)

    def _create(self, description: SpoolDescription) -> SpoolWriter:
        audio_format = description.format
        encode(silence(audio_format, 1), audio_format)
        with disk_errors(self._folder):
            make_folder(self._folder)
            folder = self._folder / description.id
            with locked(self._folder):
                journal = self._begin(folder, description)
            try:
                sync_folder(self._folder)
                room = Room(folder, self._options)
                room.require(0)
            except BaseException:
                with contextlib.suppress(OSError):  # `owed` removes it, as it is empty
                    delete(folder)
                journal.close()
                raise
        sound = SpoolSound(audio_format)
        spool = DiskSpool(folder, description, journal, sound)
        return DiskSpoolWriter(folder, spool, sound, journal, room, self._options)

    def _begin(self, folder: pathlib.Path, description: SpoolDescription) -> SpoolJournal:
        """Make the folder of a spool: complete enough to be found, or a leftover."""
        new = new_name(self._folder, folder.name)
        new.mkdir(mode=PRIVATE_FOLDER)
        journal = SpoolJournal.create(new / JOURNAL, description)
        try:
            sync_folder(new)
            new.rename(folder)
        except BaseException:
            journal.close()
            raise
        return journal

    def _owed(self) -> Sequence[Spool]:
        with disk_errors(self._folder):
            try:
                paths = sorted(self._folder.iterdir())
            except FileNotFoundError:
                return []
        # on a disk that cannot be written, leftovers stay
        with contextlib.suppress(OSError), locked(self._folder):
            clear(self._folder)
        return [spool for path in paths if (spool := _open(path)) is not None]


def _open(folder: pathlib.Path) -> Spool | None:
    """Open a spool; None if it is no spool, in use, empty, or cannot be read at all."""
    if folder.name.startswith(".") or not is_folder(folder):
        return None
    try:
        journal, found = SpoolJournal.open(folder / JOURNAL)
    except (JournalInUse, FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        _log.warning("a spool cannot be read: %s", describe(error))
        return None
    try:
        if found.version != VERSION:
            warn_of_version(folder, found.version)
        elif found.description is None:
            _log.warning("a spool cannot be read: the beginning of %s/journal is damaged", folder)
        elif not has_sound(folder):
            delete(folder)
        else:
            chunks = list_chunks(folder, found.description.format)
            sound = SpoolSound(found.description.format, chunks, found.holes)
            return DiskSpool(folder, found.description, journal, sound, found.session)
    except OSError as error:
        _log.warning("a spool cannot be read: %s", describe(error))
    journal.close()
    return None
