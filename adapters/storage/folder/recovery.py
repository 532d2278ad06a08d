"""What a process that died has left behind becomes recordings with ledgers.

Nothing is deleted or overwritten but what recovery itself replaces, and renderings that are not
complete. It can be cut off and repeated at any point: each step looks at what there is, and the
steps are those of `complete`.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import soundfile

from adapters.storage.digest import Digest, digest_of
from adapters.storage.folder.files import RecordingFiles, complete, publish_ledger
from adapters.storage.folder.journal import FoundJournal, read_journal
from adapters.storage.ogg.file import find_end
from adapters.storage.wav.header import (
    MAX_RIFF_SIZE,
    WavHeader,
    frames_in,
    header_fits,
    read_header,
    write_header,
    write_sizes,
)
from domain.errors import StorageFailed
from domain.ports.storage import RecoveredRecording, Recovery
from domain.recording.ledger import Container, LedgerEvent, RecordingInfo, document
from domain.recording.recording import EndReason
from domain.session.placement import Share
from domain.sound.formats import AudioFormat

_ASSUMED_FORMAT = AudioFormat(48_000, 1)
"""For a file whose header and journal are both gone: what Gapless records most."""
_ASSUMED_OFFSET = 44
_PARTS = {container: f".{container.value}.part" for container in Container}


TakeUp = Callable[[RecordingFiles, FoundJournal], bool]
"""Goes on with an unfinished recording instead of completing it; False when it cannot."""


def recover(
    folder: pathlib.Path, take_up: TakeUp | None = None, share: Share | None = None
) -> Recovery:
    """Complete the unfinished recordings in a folder, or a share of them.

    Raises `StorageFailed` without a folder.
    """
    result = Recovery()
    try:
        names = sorted(name for name in _unfinished(folder) if share is None or share.owns(name))
    except OSError as error:
        raise StorageFailed(f"cannot read {folder}: {error.strerror}") from error
    for name in names:
        files = RecordingFiles(folder, name)
        try:
            journal = read_journal(files.journal)
            files = replace(files, container=_container(files, journal))
            found = _recover_one(files, journal, take_up)
        except BlockingIOError:
            result.busy.append(str(files.part))
        except Exception as error:
            # whatever is wrong with this one, the others are recovered
            result.failed.append(StorageFailed(f"cannot recover {files.part}: {error}"))
        else:
            if found is not None:
                result.recovered.append(found)
    return result


def _unfinished(folder: pathlib.Path) -> set[str]:
    names = set()
    for path in folder.iterdir():
        for suffix in (*_PARTS.values(), ".journal", ".json.part"):
            if path.name.endswith(suffix):
                names.add(path.name.removesuffix(suffix))
    return names


def _container(files: RecordingFiles, journal: FoundJournal) -> Container:
    """What the journal says; without one, what there is."""
    if journal.info is not None:
        return journal.info.container
    others = [replace(files, container=container) for container in Container]
    there = [item.container for item in others if item.part.exists() or item.recording.exists()]
    return there[0] if there else Container.WAV


def _recover_one(
    files: RecordingFiles, journal: FoundJournal, take_up: TakeUp | None
) -> RecoveredRecording | None:
    is_part = files.part.exists()
    taken = files.recording.exists() or files.ledger.exists()
    if is_part and take_up is not None and not taken and take_up(files, journal):
        return None
    descriptor = _lock(files)
    if descriptor is None:
        if journal.is_rendering:
            _discard(files)
        return _go_on(files, journal)
    try:
        if not files.part.exists():
            return _go_on(files, journal)
        if files.recording.exists() and files.recording.samefile(files.part):
            files.part.unlink()  # cut off between the two steps of a rename: one file, two names
            return _go_on(files, journal)
        if journal.is_rendering:
            _discard(files)
            return None
        if files.recording.exists() or files.ledger.exists():
            files = _beside(files)  # another recording has the name: keep both
        return _complete(files, descriptor, journal)
    finally:
        os.close(descriptor)


def _lock(files: RecordingFiles) -> int | None:
    """The file of a recording, by the name that it has now, and locked; None when there is none.

    Raises `BlockingIOError` when somebody is still writing or completing it.
    """
    for path, flags, lock in (
        (files.part, os.O_RDWR | os.O_NOFOLLOW, fcntl.LOCK_EX),
        (files.recording, os.O_RDONLY, fcntl.LOCK_SH),
    ):
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
    return None


def _discard(files: RecordingFiles) -> None:
    """Remove a rendering that is not complete: it can be made again, of what it is made of."""
    for path in (files.ledger_part, files.part, files.journal):
        path.unlink(missing_ok=True)


def _go_on(files: RecordingFiles, journal: FoundJournal) -> RecoveredRecording | None:
    """Without a ``.part`` all that can be missing is the last steps of `complete`."""
    ours = journal.info is not None
    if files.recording.exists() and files.ledger_part.exists() and not files.ledger.exists():
        ledger = json.loads(files.ledger_part.read_text(encoding="utf-8"))
        length, rate = int(ledger["length_samples"]), int(ledger["sample_rate_hz"])
        publish_ledger(files)
        return RecoveredRecording(str(files.recording), length / rate)
    both = files.ledger.exists() and files.ledger_part.exists()
    if both and files.ledger.samefile(files.ledger_part):
        files.ledger_part.unlink()  # one file, two names, as above
    if ours and files.recording.exists() and files.ledger.exists():
        assert journal.info is not None
        ledger = json.loads(files.ledger.read_text(encoding="utf-8"))
        if ledger.get("id") == journal.info.id:
            files.journal.unlink(missing_ok=True)
    return None


def _complete(files: RecordingFiles, descriptor: int, journal: FoundJournal) -> RecoveredRecording:
    written = datetime.datetime.fromtimestamp(os.fstat(descriptor).st_mtime, tz=datetime.UTC)
    valid = (
        _make_valid_ogg(descriptor, journal)
        if files.container is Container.OGG
        else _make_valid_wav(files.part, descriptor, journal)
    )
    os.fsync(descriptor)
    arrived = journal.last_sample_at(journal.before.samples + valid.length)
    seconds = valid.length / valid.format.sample_rate_hz
    ledger = journal.ledger(valid.length)
    for note in [*([] if journal.info else ["journal missing"]), *valid.notes]:
        ledger.note(LedgerEvent(note, valid.length))
    info = journal.info or RecordingInfo(
        id="",
        name=files.name,
        format=valid.format,
        codec="opus" if files.container is Container.OGG else "",
        started_at=written - datetime.timedelta(seconds=seconds),
        container=files.container,
    )
    complete(
        files,
        document(
            info,
            ledger,
            ended_at=journal.ended_at or arrived or written,
            end_reason=EndReason.RECOVERED.value,
            sha256=valid.digest.sha256,
            loudness=valid.digest.loudness,
        ),
    )
    return RecoveredRecording(str(files.recording), seconds)


def _beside(files: RecordingFiles) -> RecordingFiles:
    """The same unfinished files, to be finished under a name that is free altogether."""
    number = 2
    while RecordingFiles(files.folder, f"{files.name}-{number}", files.container).exist:
        number += 1
    return replace(files, final=f"{files.name}-{number}")


@dataclass(frozen=True, slots=True)
class _Valid:
    """A file that has been made whole."""

    format: AudioFormat
    length: int
    digest: Digest
    notes: Sequence[str] = ()


def _make_valid_ogg(descriptor: int, journal: FoundJournal) -> _Valid:
    """Make the file end with a closing page, behind the last page that is whole."""
    found = find_end(descriptor, journal)
    if found is None:
        raise ValueError("its header cannot be read, and it is left as it is")
    length = found.writer.position
    if not found.ended:
        os.ftruncate(descriptor, found.size)
        os.pwrite(descriptor, found.writer.end(), found.size)
    digest = digest_of(descriptor, 0, os.fstat(descriptor).st_size)
    return _Valid(AudioFormat(48_000, found.channels), length, digest)


def _make_valid_wav(path: pathlib.Path, descriptor: int, journal: FoundJournal) -> _Valid:
    header, notes = _find_header(path, descriptor, journal)
    digest = digest_of(descriptor, header.data_offset, header.data_size, header.format)
    return _Valid(header.format, header.data_size // header.format.bytes_per_frame, digest, notes)


def _find_header(
    path: pathlib.Path, descriptor: int, journal: FoundJournal
) -> tuple[WavHeader, Sequence[str]]:
    """Make the file a WAV whose sizes are true and whose data are whole samples."""
    found = read_header(descriptor)
    if journal.info is not None and found is not None and found.format != journal.info.format:
        found = None  # the journal was written once, and by us
    if journal.info is None and _is_foreign(path, found):
        raise ValueError("it is no recording of ours, and it is left as it is")
    if found is not None:
        header = _cut_to_size(descriptor, found, keep_trailing=journal.info is None)
        frames = header.data_size // header.format.bytes_per_frame
        if _read_by_others(path) == (*_rate_and_channels(header), frames):
            return header, ()
    audio_format = journal.info.format if journal.info else _ASSUMED_FORMAT
    offset = journal.data_offset or (found.data_offset if found else _ASSUMED_OFFSET)
    if not header_fits(offset):
        offset = _ASSUMED_OFFSET
    size = os.fstat(descriptor).st_size - offset
    header = write_header(descriptor, audio_format, offset, large=size > MAX_RIFF_SIZE - offset)
    return _cut_to_size(descriptor, header, keep_trailing=False), ["header rebuilt"]


def _cut_to_size(descriptor: int, header: WavHeader, *, keep_trailing: bool) -> WavHeader:
    """Whole samples to the end of the file, and a header that says so."""
    if header.trailing and keep_trailing:
        return header  # somebody else's file: chunks behind the data are no sound
    frames = frames_in(descriptor, header.format, header.data_offset)
    size = frames * header.format.bytes_per_frame
    os.ftruncate(descriptor, header.data_offset + size + size % 2)
    write_sizes(descriptor, header, size)
    return replace(header, data_size=size, trailing=False)


def _is_foreign(path: pathlib.Path, header: WavHeader | None) -> bool:
    """Whether others read sound in it that we do not, or read differently."""
    read = _read_by_others(path)
    if read is None or not read[2]:
        return False
    return header is None or read[:2] != _rate_and_channels(header)


def _read_by_others(path: pathlib.Path) -> tuple[int, int, int] | None:
    """Rate, channels and frames as libsndfile has them: a header may be damaged where we do not
    look. None for what it cannot open.
    """
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError, ValueError):
        return None
    return info.samplerate, info.channels, info.frames


def _rate_and_channels(header: WavHeader) -> tuple[int, int]:
    return header.format.sample_rate_hz, header.format.channels
