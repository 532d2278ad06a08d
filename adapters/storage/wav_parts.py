"""A recording on disk: one WAV file, or several that follow each other to the sample.

Everything in here runs in the disk's thread.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import functools
import hashlib
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import soundfile

from adapters.storage import libsndfile
from adapters.storage.disk import SyncThread
from adapters.storage.files import RecordingFiles, complete, create_private
from adapters.storage.journal import Before, FoundJournal, Journal
from adapters.storage.wav_header import frames_in, read_header, update_hash, write_sizes
from domain.audio import AudioFormat, SampleFormat, Samples, Sound, silence
from domain.conversion import convert, pack
from domain.ledger import Event, Ledger, RecordingInfo, SampleKind, document

RESERVE_BYTES = 4 << 20
"""Recordings stop when so little is free: enough to complete them and write their ledgers."""
MAX_WAV_DATA_BYTES = 2**32 - 2**20
"""What a WAV can hold, with room for its header: 12 h 25 min of 48 kHz mono s16."""
CONTINUED = "continued"
"""The end reason of all parts of a recording but the last."""

_SILENCE_BLOCK = 48_000
_SUBTYPES = {
    SampleFormat.U8: "PCM_U8",
    SampleFormat.S16: "PCM_16",
    SampleFormat.S24: "PCM_24",
    SampleFormat.S32: "PCM_32",
    SampleFormat.F32: "FLOAT",
    SampleFormat.F64: "DOUBLE",
}
# libsndfile is handed integers of 16 and 32 bits and keeps what the file's format has room for
_WRITTEN_AS = {SampleFormat.U8: SampleFormat.S16, SampleFormat.S24: SampleFormat.S32}


@dataclass(frozen=True, slots=True, kw_only=True)
class WavOptions:
    """How recordings are laid out on disk."""

    min_free_bytes: int = 0
    """No new recording when less is free."""
    rf64: bool = False
    """Past the size of a WAV go on as RF64 in the same file, instead of in a new part."""
    max_data_bytes: int = MAX_WAV_DATA_BYTES
    """Where a new part begins."""
    rotate_s: float | None = None
    """A new part after so much time, too."""
    reserve_bytes: int = RESERVE_BYTES

    def part_samples(self, audio_format: AudioFormat) -> int | None:
        """Samples per channel that a part holds; None for no limit."""
        limits = []
        if not self.rf64:
            limits.append(self.max_data_bytes // audio_format.bytes_per_frame)
        if self.rotate_s is not None:
            limits.append(round(self.rotate_s * audio_format.sample_rate_hz))
        return max(1, min(limits)) if limits else None


class WavParts:
    """A recording as one file, or as several that follow each other to the sample."""

    def __init__(
        self, folder: pathlib.Path, info: RecordingInfo, options: WavOptions, sync: SyncThread
    ) -> None:
        self._folder = folder
        self._info = info
        self._options = options
        self._sync = sync
        self._limit = options.part_samples(info.format)
        self._number = 0
        self._before = 0  # samples in the parts before this one
        self._attempts = 1
        self._anchor: Event | None = None
        self._part: _Part | None = None
        self.completed: pathlib.Path | None = None
        """The first part, once it is complete."""

    @classmethod
    def reopen(
        cls,
        files: RecordingFiles,
        found: FoundJournal,
        options: WavOptions,
        sync: SyncThread,
    ) -> WavParts:
        """Go on with a recording that another process has left, from its last part.

        Raises `BlockingIOError` when somebody is still writing it, and `ValueError` or `OSError`
        when it cannot be gone on with; nothing has been changed then.
        """
        info = found.info
        if info is None or found.data_offset is None:
            raise ValueError("it has no journal")
        base, number = _split_name(info.name)
        offset = datetime.timedelta(seconds=found.before.samples / info.format.sample_rate_hz)
        whole = replace(info, name=base, started_at=info.started_at - offset)
        parts = cls(files.folder, whole, options, sync)
        parts._number, parts._before = number, found.before.samples
        parts._attempts, parts._anchor = found.attempts, found.anchor
        parts._part = _Part.reopen(files, info, found, options, sync)
        return parts

    @staticmethod
    def is_last(files: RecordingFiles) -> bool:
        """Whether a recording ends with this part, as far as it was written."""
        base, number = _split_name(files.name)
        return not RecordingFiles(files.folder, _part_name(base, number + 1)).exist

    @property
    def name(self) -> str:
        return self._info.name

    @property
    def info(self) -> RecordingInfo:
        return self._info

    @property
    def rehash(self) -> threading.Thread | None:
        """Hashes what was there when the recording was reopened; to be waited for elsewhere."""
        return self._part.rehash if self._part is not None else None

    @property
    def length(self) -> int:
        """Samples per channel, of all parts."""
        return self._before + (self._part.length if self._part is not None else 0)

    def open(self) -> None:
        self._number += 1
        offset = datetime.timedelta(seconds=self._before / self._info.format.sample_rate_hz)
        info = replace(
            self._info,
            name=_part_name(self._info.name, self._number),
            started_at=self._info.started_at + offset,
        )
        files = RecordingFiles(self._folder, info.name)
        before = Before(self._before, self._attempts, self._anchor)
        self._part = _Part.create(files, info, self._options, self._sync, before)
        if self._number > 1:
            self.note(Event("continues", self._before, {"recording": self._info.name}))

    def write(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        samples: Samples = np.concatenate(pieces)  # type: ignore[arg-type]
        while len(samples):
            part = self._room()
            taken = samples if self._limit is None else samples[: self._limit - part.length]
            part.write(taken, kind)
            samples = samples[len(taken) :]

    def write_silence(self, length: int, kind: SampleKind) -> None:
        block = silence(self._info.format, min(length, _SILENCE_BLOCK))
        for start in range(0, length, _SILENCE_BLOCK):
            self.write([block[: length - start]], kind)

    def note(self, event: Event) -> None:
        """Positions count from the beginning of the recording; a part's from its own."""
        assert self._part is not None
        self._attempts += event.type == "reconnected"
        if event.type == "anchor":
            self._anchor = event
        self._part.note(replace(event, position=max(0, event.position - self._before)))

    def give_up(self, reason: str) -> None:
        """Keep what could be written, and say why there is no more."""
        if self._part is not None:
            self._part.give_up(reason)

    def finish(self, reason: str, ended_at: datetime.datetime) -> None:
        if self._part is not None:
            path = self._part.finish(reason, ended_at)
            self.completed = self.completed or path

    def abandon(self) -> None:
        """Leave the files to recovery."""
        if self._part is not None:
            self._part.close()

    def _room(self) -> _Part:
        """The part that takes the next sample."""
        assert self._part is not None
        if self._limit is not None and self._part.length >= self._limit:
            self._before += self._part.length
            seconds = self._before / self._info.format.sample_rate_hz
            cut_at = self._info.started_at + datetime.timedelta(seconds=seconds)
            full = self._part
            # the next part first: should there be none, this one says why it is the last
            self.open()
            path = full.finish(CONTINUED, cut_at)
            self.completed = self.completed or path
        return self._part


def _part_name(base: str, number: int) -> str:
    # an underscore sorts behind the dot of the first part's name, a hyphen would not
    return base if number == 1 else f"{base}_part{number:03d}"


def _split_name(name: str) -> tuple[str, int]:
    """The recording's name, and the number of the part."""
    base, separator, number = name.rpartition("_part")
    return (base, int(number)) if separator and number.isdigit() else (name, 1)


class _Part:
    """One file with its journal."""

    def __init__(
        self, files: RecordingFiles, info: RecordingInfo, options: WavOptions, sync: SyncThread
    ) -> None:
        self._files = files
        self._info = info
        self._options = options
        self._sync = sync
        self._descriptor = -1
        self._data_offset = 0
        self._ledger = Ledger()
        self._hash = hashlib.sha256()
        self._rehash: threading.Thread | None = None  # hashes what was there on reopening
        self._hashed = 0  # samples
        self._journal: Journal | None = None
        self._file: soundfile.SoundFile | None = None

    @classmethod
    def create(
        cls,
        files: RecordingFiles,
        info: RecordingInfo,
        options: WavOptions,
        sync: SyncThread,
        before: Before,
    ) -> _Part:
        if files.wav.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(files.wav))
        part = cls(files, info, options, sync)
        part._descriptor = create_private(files.part)
        with part._closed_on_failure():
            # whoever recovers a folder sees by the lock that this one is still being written
            fcntl.flock(part._descriptor, fcntl.LOCK_EX)
            part._file = part._open_wav(part._descriptor, closefd=False)
            part._data_offset = os.fstat(part._descriptor).st_size
            part._journal = Journal.create(
                files.journal, info, data_offset=part._data_offset, before=before
            )
        return part

    @classmethod
    def reopen(
        cls,
        files: RecordingFiles,
        info: RecordingInfo,
        found: FoundJournal,
        options: WavOptions,
        sync: SyncThread,
    ) -> _Part:
        assert found.data_offset is not None
        part = cls(files, info, options, sync)
        part._descriptor = os.open(files.part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        part._data_offset = found.data_offset
        with part._closed_on_failure():
            fcntl.flock(part._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            frames = frames_in(part._descriptor, info.format, found.data_offset)
            part._file = libsndfile.reopen(
                part._descriptor,
                functools.partial(part._open_wav, closefd=True),
                data_offset=found.data_offset,
                frames=frames,
            )
            found.forget_behind(frames)
            part._ledger = found.ledger(frames)
            part._journal = Journal.reopen(files.journal, length=frames)
            # hours of sound take seconds, which nobody should have to wait for
            part._rehash = threading.Thread(
                target=part._hash_up_to, args=(frames,), name="gapless-hash", daemon=True
            )
            part._rehash.start()
        return part

    @property
    def length(self) -> int:
        return self._ledger.length

    @property
    def rehash(self) -> threading.Thread | None:
        return self._rehash if self._rehash is not None and self._rehash.is_alive() else None

    def write(self, samples: Samples, kind: SampleKind) -> None:
        assert self._file is not None
        assert self._journal is not None
        if self._sync.free_bytes < self._options.reserve_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        start = self._ledger.length
        sample_format = self._info.format.sample_format
        storable = convert(samples, sample_format, _WRITTEN_AS.get(sample_format, sample_format))
        try:
            if self._ledger.add(kind, len(samples)):
                self._journal.span(start, kind)
            self._file.write(np.ascontiguousarray(storable))
        except Exception as error:
            self._ledger.truncate(start)
            # libsndfile says "System error" and keeps the reason to itself
            if os.fstatvfs(self._descriptor).f_bavail == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        if self._rehash is None:
            self._hash.update(pack(samples, sample_format))
        elif not self._rehash.is_alive():
            self._catch_up()

    def note(self, event: Event) -> None:
        assert self._journal is not None
        # whoever goes on after a crash needs the anchors, however many events there are
        if self._ledger.note(event) or event.type == "anchor":
            self._journal.event(event)

    def give_up(self, reason: str) -> None:
        self._ledger.events.append(Event("storage failed", self._ledger.length, {"reason": reason}))

    def finish(self, reason: str, ended_at: datetime.datetime) -> pathlib.Path:
        assert self._journal is not None
        with contextlib.suppress(OSError):  # on a full disk the ledger has to do without
            self._journal.end(reason, ended_at)
        self._close_wav()
        self._make_true()
        os.fsync(self._descriptor)
        complete(
            self._files,
            document(
                self._info,
                self._ledger,
                ended_at=ended_at,
                end_reason=reason,
                sha256=self._digest(),
            ),
        )
        self.close()
        return self._files.wav

    def close(self) -> None:
        """Release everything; the files stay as they are."""
        if self._rehash is not None:
            self._rehash.join()  # it reads from the descriptor
        self._close_wav()
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @contextlib.contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _digest(self) -> str:
        if self._rehash is not None:
            self._rehash.join()
            self._catch_up()
        return self._hash.hexdigest()

    def _catch_up(self) -> None:
        """What was there is hashed by now; what was written meanwhile is not."""
        self._hash_up_to(self._ledger.length)
        self._rehash = None

    def _hash_up_to(self, length: int) -> None:
        width = self._info.format.bytes_per_frame
        offset = self._data_offset + self._hashed * width
        try:
            update_hash(self._hash, self._descriptor, offset, (length - self._hashed) * width)
        except OSError:
            self._hash, self._hashed = hashlib.sha256(), 0  # whoever goes on begins anew
            if threading.current_thread() is not self._rehash:
                raise
        else:
            self._hashed = length

    def _open_wav(self, descriptor: int, *, closefd: bool) -> soundfile.SoundFile:
        audio_format = self._info.format
        file = soundfile.SoundFile(
            descriptor,
            "w",
            samplerate=audio_format.sample_rate_hz,
            channels=audio_format.channels,
            subtype=_SUBTYPES[audio_format.sample_format],
            format="RF64" if self._options.rf64 else "WAV",
            closefd=closefd,
        )
        if self._options.rf64:
            libsndfile.downgrade_when_small(file)
        started_at = self._info.started_at
        midnight = started_at.replace(hour=0, minute=0, second=0, microsecond=0)
        since_midnight = (started_at - midnight).total_seconds()
        libsndfile.set_broadcast_info(
            file,
            description=self._info.name,
            originator="Gapless",
            reference=self._info.id,
            started_at=started_at,
            time_reference=round(since_midnight * audio_format.sample_rate_hz),
        )
        file.title = self._info.name
        file.software = "Gapless"
        file.date = started_at.isoformat(timespec="milliseconds")
        libsndfile.keep_header_true(file)
        return file

    def _close_wav(self) -> None:
        if self._file is not None:
            with contextlib.suppress(soundfile.LibsndfileError):
                self._file.close()
            self._file = None

    def _make_true(self) -> None:
        """After a write that failed half-way the file ends with what the ledger knows of."""
        size = self._ledger.length * self._info.format.bytes_per_frame
        end = self._data_offset + size + size % 2
        if os.fstat(self._descriptor).st_size != end:
            os.ftruncate(self._descriptor, end)
            if (header := read_header(self._descriptor)) is not None:
                write_sizes(self._descriptor, header, size)
