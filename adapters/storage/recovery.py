"""What a process that died has left behind becomes recordings with ledgers.

Nothing is deleted or overwritten but what recovery itself replaces, and it can be cut off and
repeated at any point: each step looks at what there is, and the steps are those of `complete`.
"""

from __future__ import annotations

import datetime
import fcntl
import os
import pathlib
from dataclasses import replace

import soundfile

from adapters.storage.files import RecordingFiles, complete
from adapters.storage.journal import FoundJournal, read_journal
from adapters.storage.wav_header import (
    WavHeader,
    hash_data,
    header_fits,
    read_header,
    write_header,
    write_sizes,
)
from domain.audio import AudioFormat
from domain.errors import StorageFailed
from domain.ledger import Event, RecordingInfo, document
from domain.ports.storage import RecoveredRecording, Recovery
from domain.recording import EndReason

_ASSUMED_FORMAT = AudioFormat(48_000, 1)
"""For a file whose header and journal are both gone: what Gapless records most."""
_ASSUMED_OFFSET = 44


def recover(folder: pathlib.Path) -> Recovery:
    """Complete every unfinished recording in a folder. Raises `StorageFailed` without a folder."""
    result = Recovery()
    try:
        names = sorted(_unfinished(folder))
    except OSError as error:
        raise StorageFailed(f"cannot read {folder}: {error.strerror}") from error
    for name in names:
        files = RecordingFiles(folder, name)
        try:
            found = _recover_one(files)
        except BlockingIOError:
            result.busy.append(str(files.part))
        except (OSError, ValueError) as error:
            result.failed.append(StorageFailed(f"cannot recover {files.part}: {error}"))
        else:
            if found is not None:
                result.recovered.append(found)
    return result


def _unfinished(folder: pathlib.Path) -> set[str]:
    names = set()
    for path in folder.iterdir():
        for suffix in (".wav.part", ".journal"):
            if path.name.endswith(suffix):
                names.add(path.name.removesuffix(suffix))
    return names


def _recover_one(files: RecordingFiles) -> RecoveredRecording | None:
    journal = read_journal(files.journal)
    if files.part.exists():
        if files.wav.exists():
            if not files.wav.samefile(files.part):
                # another recording has the name: keep both
                return _recover_beside(files)
            files.part.unlink()  # cut off between the two steps of a rename: one file, two names
    elif not files.wav.exists():
        return None  # a journal without a recording: cut off before there was one
    elif files.ledger.exists():
        files.journal.unlink(missing_ok=True)  # complete but for this
        return None
    path = files.part if files.part.exists() else files.wav
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        header, notes = _make_valid(path, descriptor, journal)
        os.fsync(descriptor)
        frames = header.data_size // header.format.bytes_per_frame
        ledger = journal.ledger(frames)
        ledger.events += [Event(note, frames) for note in notes]
        info = journal.info or RecordingInfo(
            id="",
            name=files.name,
            format=header.format,
            codec="",
            started_at=_started_at(path, frames / header.format.sample_rate_hz),
        )
        ended_at = journal.ended_at or datetime.datetime.fromtimestamp(
            path.stat().st_mtime, tz=datetime.UTC
        )
        complete(
            files,
            document(
                info,
                ledger,
                ended_at=ended_at,
                end_reason=EndReason.RECOVERED.value,
                sha256=hash_data(descriptor, header.data_offset, header.data_size),
            ),
        )
    finally:
        os.close(descriptor)
    return RecoveredRecording(str(files.wav), frames / header.format.sample_rate_hz)


def _recover_beside(files: RecordingFiles) -> RecoveredRecording | None:
    """Give an unfinished recording whose name is taken a name that is free."""
    number = 2
    while (free := RecordingFiles(files.folder, f"{files.name}-{number}")).wav.exists():
        number += 1
    files.part.rename(free.part)
    if files.journal.exists():
        files.journal.rename(free.journal)
    return _recover_one(free)


def _make_valid(
    path: pathlib.Path, descriptor: int, journal: FoundJournal
) -> tuple[WavHeader, list[str]]:
    """Make the file a WAV whose sizes are true and whose data are whole samples."""
    notes = [] if journal.info else ["journal missing"]
    found = read_header(descriptor)
    if journal.info is not None and found is not None and found.format != journal.info.format:
        found = None  # the journal was written once, and by us
    if found is not None:
        header = _cut_to_size(descriptor, found, keep_trailing=journal.info is None)
        if _opens(path, header):
            return header, notes
    audio_format = journal.info.format if journal.info else _ASSUMED_FORMAT
    offset = journal.data_offset or (found.data_offset if found else _ASSUMED_OFFSET)
    if not header_fits(offset):
        offset = _ASSUMED_OFFSET
    header = write_header(descriptor, audio_format, offset)
    return _cut_to_size(descriptor, header, keep_trailing=False), [*notes, "header rebuilt"]


def _cut_to_size(descriptor: int, header: WavHeader, *, keep_trailing: bool) -> WavHeader:
    """Whole samples to the end of the file, and a header that says so."""
    if header.trailing and keep_trailing:
        return header  # somebody else's file: chunks behind the data are no sound
    size = max(0, os.fstat(descriptor).st_size - header.data_offset)
    size -= size % header.format.bytes_per_frame
    os.ftruncate(descriptor, header.data_offset + size + size % 2)
    write_sizes(descriptor, header, size)
    return replace(header, data_size=size, trailing=False)


def _opens(path: pathlib.Path, header: WavHeader) -> bool:
    """Whether others can read it: a header may be damaged where we do not look."""
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError, ValueError):
        return False
    frames = header.data_size // header.format.bytes_per_frame
    found = (info.samplerate, info.channels, info.frames)
    return found == (header.format.sample_rate_hz, header.format.channels, frames)


def _started_at(path: pathlib.Path, seconds: float) -> datetime.datetime:
    """Without a journal: so long before the last write."""
    written = datetime.datetime.fromtimestamp(path.stat().st_mtime, tz=datetime.UTC)
    return written - datetime.timedelta(seconds=seconds)
