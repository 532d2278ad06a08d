"""Lists the spools of a folder, without using them."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Sequence

from adapters.opening import is_folder
from adapters.storage.folder.disk import describe
from adapters.storage.spool.files import JOURNAL, disk_errors, list_chunks, size_of_spool
from adapters.storage.spool.journal import VERSION, SpoolJournal
from domain.ports.spool import SpoolEntry

_log = logging.getLogger("gapless")


def list_spools(folder: pathlib.Path) -> Sequence[SpoolEntry]:
    """Return what can be told of each spool, oldest first. Raises `SpoolFailed`."""
    with disk_errors(folder):
        try:
            paths = sorted(folder.iterdir())
        except FileNotFoundError:
            return []
    return [entry for path in paths if (entry := _entry(path)) is not None]


def _entry(spool: pathlib.Path) -> SpoolEntry | None:
    """Return what can be told of a spool; None if it is none, or gone meanwhile."""
    if spool.name.startswith(".") or not is_folder(spool):
        return None
    try:
        found, is_in_use = SpoolJournal.peek(spool / JOURNAL)
        if found.version != VERSION:
            warn_of_version(spool, found.version)
        if found.description is None:
            return None
        chunks = list_chunks(spool, found.description.format)
        size = size_of_spool(spool)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        _log.warning("a spool cannot be read: %s", describe(error))
        return None
    length = chunks[-1].end if chunks else 0
    return SpoolEntry(found.description, found.session, length, size, is_in_use)


def warn_of_version(spool: pathlib.Path, version: int) -> None:
    """Say that a spool is left alone."""
    _log.warning(
        "%s cannot be read: it has version %d, and this Gapless knows version %d",
        spool, version, VERSION,
    )  # fmt: skip
