"""Writes the new files of a recording that is rewritten."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapters.descriptors import RESERVE
from adapters.opening import create_file, mode_in
from adapters.storage.digest import Digest
from adapters.storage.folder.checking import check_file
from adapters.storage.folder.disk import add_path
from adapters.storage.folder.files import sync_file
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.parts import CONTINUED
from adapters.storage.folder.swap import Swap
from adapters.storage.wav.file import WavFile
from domain.recording.ledger import (
    Ledger,
    LedgerEvent,
    RecordingInfo,
    RestoreState,
    SampleKind,
    document,
)
from domain.recording.naming import part_name
from domain.sound.formats import Samples, silence


@dataclass(slots=True)
class _NewPart:
    """A part being written."""

    info: RecordingInfo
    start: int
    ledger: Ledger
    path: pathlib.Path
    descriptor: int
    file: WavFile | None
    digest: Digest | None = None


class NewParts:
    """The new files of a recording; each part ends where `PartOptions` say."""

    def __init__(self, swap: Swap, info: RecordingInfo, options: PartOptions) -> None:
        self._swap = swap
        self._info = info
        self._options = options
        self._limit = options.part_samples(info)
        # live recordings come first, also those that are yet to begin
        self._least_free = max(options.min_free_bytes, options.reserve_bytes)
        self._parts: list[_NewPart] = []
        self._length = 0
        self._together = info.format.sample_rate_hz  # a second
        self._pieces: list[Samples] = []  # of the last part; many short runs are written together
        self._waiting = 0  # samples in them

    def require(self, length: int) -> None:
        """Require room for so many samples per channel. Raises `OSError`."""
        stats = os.statvfs(self._swap.folder)
        needed = length * self._info.format.bytes_per_frame + self._least_free
        if stats.f_bavail * stats.f_frsize < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._swap.folder))

    def write(self, samples: Samples, kind: SampleKind) -> None:
        """Append samples in the recording's format. Raises `OSError`."""
        while len(samples):
            part, room = self._part_with_room()
            fitting = samples if room is None else samples[:room]
            self._pieces.append(fitting)
            self._waiting += len(fitting)
            self._note(part, kind, len(fitting))
            if self._waiting >= self._together:
                self._flush(part)
            samples = samples[len(fitting) :]

    def write_silence(self, length: int, kind: SampleKind) -> None:
        """Append silence. Raises `OSError`."""
        while length:
            count = min(length, self._together)
            self.write(silence(self._info.format, count), kind)
            length -= count

    def finish(
        self,
        events: Sequence[LedgerEvent],
        *,
        end_reason: str,
        ended_at: datetime.datetime,
        state: RestoreState,
    ) -> str:
        """Complete all files and their ledgers; return the hash of the PCM if there is one part.

        Raises `OSError`, or `NotAsRecorded`.
        """
        if not self._parts:
            self._open()
        self._complete(self._parts[-1])
        for part, following in zip(self._parts, [*self._parts[1:], None], strict=True):
            is_last = following is None
            end = part.start + part.ledger.length
            part.ledger.events += [
                event.moved(-part.start)
                for event in events
                if (event.position >= part.start or part.start == 0)
                and (is_last or event.position < end)
            ]
            assert part.digest is not None
            self._swap.write_json(
                f"{part.info.name}.json",
                document(
                    part.info,
                    part.ledger,
                    ended_at=ended_at if following is None else following.info.started_at,
                    end_reason=end_reason if is_last else CONTINUED,
                    sha256=part.digest.sha256,
                    loudness=part.digest.loudness,
                    restore_state=state,
                ),
            )
        digest = self._parts[0].digest
        return digest.sha256 if digest is not None and len(self._parts) == 1 else ""

    @property
    def names(self) -> list[str]:
        """The names of the parts, without extensions."""
        return [part.info.name for part in self._parts]

    def close(self) -> None:
        """Release the files."""
        for part in self._parts:
            _close(part)

    def _part_with_room(self) -> tuple[_NewPart, int | None]:
        if not self._parts:
            self._open()
        part = self._parts[-1]
        if self._limit is not None and part.ledger.length >= self._limit:
            self._complete(part)
            self._open()
            part = self._parts[-1]
        return part, None if self._limit is None else self._limit - part.ledger.length

    def _open(self) -> None:
        number = len(self._parts) + 1
        offset = datetime.timedelta(seconds=self._length / self._info.format.sample_rate_hz)
        info = replace(
            self._info,
            name=part_name(self._info.name, number),
            started_at=self._info.started_at + offset,
        )
        path = self._swap.new(f"{info.name}.{info.container.value}")
        ledger = Ledger(sample_rate_hz=info.format.sample_rate_hz)
        descriptor = create_file(path, mode_in(path.parent))
        part = _NewPart(info, self._length, ledger, path, descriptor, None)
        self._parts.append(part)
        part.file = WavFile.create(part.descriptor, info, rf64=self._options.rf64)
        if number > 1:
            ledger.events.append(LedgerEvent("continues", 0, {"recording": self._info.name}))

    def _note(self, part: _NewPart, kind: SampleKind, length: int) -> None:
        part.ledger.add(kind, length)
        self._length += length

    def _flush(self, part: _NewPart) -> None:
        """Write what waits, and leave room for what is recorded. Raises `OSError`."""
        pieces, self._pieces, self._waiting = self._pieces, [], 0
        assert part.file is not None
        part.file.write(pieces)
        stats = os.fstatvfs(part.descriptor)
        if stats.f_bavail * stats.f_frsize < self._least_free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(part.path))

    def _complete(self, part: _NewPart) -> None:
        self._flush(part)
        assert part.file is not None
        try:
            part.digest = part.file.complete(part.ledger.length)
        except OSError as error:
            add_path(error, part.path)
            raise
        sync_file(part.descriptor, part.path)
        check_file(part.path, part.info.container, part.info.format, part.ledger.length)
        _close(part)


def _close(part: _NewPart) -> None:
    file, part.file = part.file, None
    if file is not None:
        file.close()
    descriptor, part.descriptor = part.descriptor, -1
    if descriptor >= 0:
        with contextlib.suppress(OSError):  # what is used of it was synced
            RESERVE.close(descriptor)
