"""Completes the recordings that a killed process has left unfinished.

Only files that recovery itself replaces, and unfinished renderings, are deleted or overwritten.
Recovery can be interrupted and repeated at any point: it does the steps of `complete`, and each
step looks at the files that exist.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import os
import pathlib
from collections.abc import Callable, Iterable
from dataclasses import replace

from adapters.descriptors import RESERVE
from adapters.opening import open_sound
from adapters.storage.folder.checking import check_file
from adapters.storage.folder.disk import describe, reason_of
from adapters.storage.folder.files import (
    RecordingFiles,
    complete,
    is_same_file,
    publish_ledger,
    sync_file,
)
from adapters.storage.folder.index import FolderIndex
from adapters.storage.folder.journal import FoundJournal, read_journal
from adapters.storage.folder.listing import refresh_part
from adapters.storage.folder.repair import repair_ogg, repair_wav
from adapters.storage.folder.summary import LedgerSummary, earlier_parts, read_summary
from adapters.storage.folder.swap import SWAP, finish_swap
from domain.errors import StorageFailed
from domain.ports.storage import Recovery
from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, LedgerEvent, RecordingInfo, document
from domain.recording.naming import split_part_name

_PARTS = {container: f".{container.value}.part" for container in Container}
_UNFINISHED = (*_PARTS.values(), ".journal", ".json.part", SWAP)


Resume = Callable[[RecordingFiles, FoundJournal], bool]
"""Resumes an unfinished recording instead of completing it; returns False if it cannot."""


class FolderRecovery:
    """Recovers folders for `gapless recover`. It always lists the folder and uses no index."""

    def recover(self, folder: str) -> Recovery:
        path = pathlib.Path(folder)
        names = list_unfinished(path)
        found = recover(path, names)
        index = FolderIndex(path)
        if index.exists:
            with contextlib.closing(index):
                for name in names | names_of(found):
                    # the index is only an index, and the recordings are recovered
                    with contextlib.suppress(OSError, ValueError, StorageFailed):
                        refresh_part(path, index, *split_part_name(name))
        return found


def recover(
    folder: pathlib.Path,
    names: Iterable[str] | None = None,
    resume: Resume | None = None,
    faults: dict[str, Exception] | None = None,
) -> Recovery:
    """Complete the unfinished recordings in a folder.

    `names` are the unfinished files without extensions; without `names` the folder is listed.
    `faults` receives the errors by name. Raises `StorageFailed` if the folder cannot be read.
    """
    result = Recovery()
    recovered: dict[
        str, CompletedRecording
    ] = {}  # by name; the last part of a recording includes the earlier ones
    if names is None:
        names = list_unfinished(folder)
    for name in sorted(names):
        files = RecordingFiles(folder, name)
        try:
            journal = read_journal(files.journal)
            files = replace(files, container=_container(files, journal))
            finish_swap(folder, name)
            found = _recover_one(files, journal, resume)
        except BlockingIOError:
            is_restored = os.path.lexists(folder / f"{name}{SWAP}")
            result.busy.append(str(files.recording if is_restored else files.part))
        except Exception as error:
            # whatever is wrong with this recording, recover the others
            failure = StorageFailed(f"cannot recover {files.part}: {_text(error, files.part)}")
            failure.__cause__ = error
            result.failed.append(failure)
            if faults is not None:
                faults[name] = error
        else:
            if found is not None:
                recovered[found.info.name] = found
    result.recovered.extend(recovered.values())
    return result


def _text(error: Exception, path: pathlib.Path) -> str:
    """Return what an error says, with its path unless it is this one."""
    is_same = isinstance(error, OSError) and error.filename == str(path)
    return reason_of(error) if is_same else describe(error)


def list_unfinished(folder: pathlib.Path) -> set[str]:
    """Return the unfinished files without extensions. Raises `StorageFailed`."""
    try:
        # a server does this when it starts; iterdir takes five times as long
        found = [name for name in os.listdir(folder) if name.endswith(_UNFINISHED)]  # noqa: PTH208
    except OSError as error:
        raise StorageFailed(f"cannot read {folder}: {error.strerror}") from error
    return {
        name.removesuffix(suffix)
        for name in found
        for suffix in _UNFINISHED
        # what has no name, or is hidden, is not a recording
        if name.endswith(suffix) and not name.startswith(".")
    }


def names_of(found: Recovery) -> set[str]:
    """Return the present names of recovered parts, without extensions."""
    return {pathlib.Path(part.location).stem for item in found.recovered for part in item.parts}


def _container(files: RecordingFiles, journal: FoundJournal) -> Container:
    """Return the container that the journal states or, without a journal, the files show."""
    if journal.info is not None:
        return journal.info.container
    others = [replace(files, container=container) for container in Container]
    there = [
        item.container
        for item in others
        if os.path.lexists(item.part) or os.path.lexists(item.recording)
    ]
    return there[0] if there else Container.WAV


def _recover_one(
    files: RecordingFiles, journal: FoundJournal, resume: Resume | None
) -> CompletedRecording | None:
    is_part = os.path.lexists(files.part)
    taken = os.path.lexists(files.recording) or os.path.lexists(files.ledger)
    if is_part and resume is not None and not taken and resume(files, journal):
        return None
    descriptor = _lock(files)
    if descriptor is None:
        if journal.is_rendering:
            _discard(files)
            return None
        return _do_last_steps(files, journal)
    try:
        if not os.path.lexists(files.part):
            return _do_last_steps(files, journal)
        if is_same_file(files.recording, files.part):
            files.part.unlink()  # killed between the two steps of a rename: one file, two names
            return _do_last_steps(files, journal)
        if journal.is_rendering:
            _discard(files)
            return None
        if os.path.lexists(files.recording) or os.path.lexists(files.ledger):
            files = _beside(files)  # another recording has this name: keep both
        return _complete(files, descriptor, journal)
    finally:
        with contextlib.suppress(OSError):  # everything important was synced
            RESERVE.close(descriptor)


def _lock(files: RecordingFiles) -> int | None:
    """Open and lock the file under its present name; None if there is no file.

    Raises `BlockingIOError` when another process is still writing or completing it.
    """
    for path, flags, lock in (
        (files.part, os.O_RDWR, fcntl.LOCK_EX),
        (files.recording, os.O_RDONLY, fcntl.LOCK_SH),
    ):
        try:
            descriptor = open_sound(path, flags)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
        except BaseException:
            RESERVE.close(descriptor)
            raise
        return descriptor
    return None


def _discard(files: RecordingFiles) -> None:
    """Delete an unfinished rendering, which can be repeated."""
    for path in (files.ledger_part, files.part, files.journal):
        path.unlink(missing_ok=True)


def _do_last_steps(files: RecordingFiles, journal: FoundJournal) -> CompletedRecording | None:
    """Do the last steps of `complete`: without a ``.part`` only these can be missing.

    Raises `FileNotFoundError` if the sound is gone, and `NotAsRecorded` if it is not what the
    ledger says.
    """
    is_there = os.path.lexists
    if is_there(files.recording) and is_there(files.ledger_part) and not is_there(files.ledger):
        summary = read_summary(files.ledger_part)
        if summary is None:
            raise ValueError(f"{files.ledger_part.name} cannot be read")
        info = summary.info
        check_file(files.recording, info.container, info.format, summary.length)
        publish_ledger(files)
        return _of_part(files, summary, journal.before.samples)
    if is_same_file(files.ledger, files.ledger_part):
        files.ledger_part.unlink()  # one file, two names, as above
    if journal.info is not None and is_there(files.recording) and is_there(files.ledger):
        summary = read_summary(files.ledger)
        if summary is not None and summary.info.id == journal.info.id:
            files.journal.unlink(missing_ok=True)
    elif not is_there(files.recording) and (journal.info is not None or _is_ledger(files)):
        raise FileNotFoundError(errno.ENOENT, "the file is missing", str(files.part))
    return None


def _is_ledger(files: RecordingFiles) -> bool:
    return os.path.lexists(files.ledger_part) and read_summary(files.ledger_part) is not None


def _complete(files: RecordingFiles, descriptor: int, journal: FoundJournal) -> CompletedRecording:
    written = datetime.datetime.fromtimestamp(os.fstat(descriptor).st_mtime, tz=datetime.UTC)
    repaired = (
        repair_ogg(descriptor, journal)
        if files.container is Container.OGG
        else repair_wav(descriptor, journal)
    )
    sync_file(descriptor, files.part)
    container = files.container
    check_file(files.part, container, repaired.format, repaired.length)
    arrived = journal.last_sample_at(journal.before.samples + repaired.length)
    seconds = repaired.length / repaired.format.sample_rate_hz
    ledger = journal.ledger(repaired.length)
    for note in [*([] if journal.info else ["journal missing"]), *repaired.notes]:
        ledger.note(LedgerEvent(note, repaired.length))
    info = journal.info or RecordingInfo(
        id="",
        name=files.name,
        format=repaired.format,
        codec="opus" if files.container is Container.OGG else "",
        started_at=written - datetime.timedelta(seconds=seconds),
        container=files.container,
        session_id="",
    )
    summary = LedgerSummary(
        info, repaired.length, EndReason.RECOVERED.value, journal.ended_at or arrived or written
    )
    with contextlib.suppress(OSError):  # they may lack the end of the sound
        files.peaks.unlink(missing_ok=True)
    complete(
        files,
        document(
            info,
            ledger,
            ended_at=summary.ended_at,
            end_reason=summary.end_reason,
            sha256=repaired.digest.sha256,
            loudness=repaired.digest.loudness,
        ),
        descriptor,
    )
    return _of_part(files, summary, journal.before.samples)


def _of_part(files: RecordingFiles, summary: LedgerSummary, before: int) -> CompletedRecording:
    """Make the recording that ends with this completed part; `before` samples precede the part."""
    name, number = split_part_name(files.final or files.name)
    info = summary.info
    started_at = info.started_at - datetime.timedelta(seconds=before / info.format.sample_rate_hz)
    info = replace(info, name=name, started_at=started_at)
    part = CompletedPart(number, str(files.recording), before, summary.length)
    parts = (*earlier_parts(files.folder, info, number), part)
    return CompletedRecording(info, parts, part.end, summary.end_reason, summary.ended_at)


def _beside(files: RecordingFiles) -> RecordingFiles:
    """Return the same unfinished files with a final name that is free."""
    number = 2
    while RecordingFiles(files.folder, f"{files.name}-{number}", files.container).exist:
        number += 1
    return replace(files, final=f"{files.name}-{number}")
