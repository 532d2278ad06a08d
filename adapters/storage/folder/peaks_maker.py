"""Makes the peaks of recordings that have none, from their sound."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import pathlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from adapters.descriptors import RESERVE
from adapters.opening import create_file, mode_in, open_found
from adapters.storage.folder.disk import reason_of
from adapters.storage.folder.files import PEAKS, RecordingFiles
from adapters.storage.folder.peaks_file import (
    OpenedPeaks,
    PeaksDamaged,
    PeaksHeader,
    identity_of,
    this_boot,
    write_entries,
)
from adapters.storage.folder.summary import read_summary
from adapters.storage.folder.swap import NEW
from adapters.storage.media_file import write_all
from domain.errors import PeaksUnavailable
from domain.recording.completed import CompletedPart
from domain.sound.formats import AudioFormat, Samples
from domain.sound.peaks import BASE, Pyramid, as_s16

_MAX_WAITING = 1000
"""Recordings that may wait; who asks for further ones has to ask again."""
_KEPT_FAILURES = 100
_TRY_AGAIN_S = 60.0
_LEAST_FREE_BYTES = 64 << 20
"""Live recordings come first."""
_NICENESS = 10
_CLOSE_S = 1.0
_log = logging.getLogger("gapless")


def peaks_of(
    files: RecordingFiles, part: CompletedPart, audio_format: AudioFormat, *, is_live: bool
) -> OpenedPeaks | None:
    """Open the peaks of a part; None if there are none, or they are not those of its sound."""
    try:
        found = OpenedPeaks.open(files.peaks)
    except (OSError, PeaksDamaged):
        return None
    header = found.header
    if is_live:
        fits = header.length is None and header.boot == this_boot()
    else:
        fits = header.length == part.length and header.identity == identity_in(files)
        fits = fits and part.length - found.length < BASE
    # a part may have fewer channels than the recording
    fits = fits and header.sample_rate_hz == audio_format.sample_rate_hz
    if fits and header.channels <= audio_format.channels and found.length <= part.length:
        return found
    found.close()
    return None


def identity_in(files: RecordingFiles) -> bytes:
    """Return what ties peaks to the sound of which a ledger has the hash."""
    summary = None
    with contextlib.suppress(OSError):
        summary = read_summary(files.ledger)
    return identity_of(None if summary is None else summary.sha256)


class PeaksMaker:
    """Makes peaks in one thread, which gives way to all others."""

    def __init__(self, make: Callable[[str, Callable[[], bool]], None]) -> None:
        """`make` makes what a recording lacks, until the other callable says that it is enough."""
        self._make = make
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._failures: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def ask(self, recording_id: str) -> None:
        """Let peaks be made, unless they are. Raises `PeaksUnavailable` if that has failed."""
        with self._lock:
            failed_at, why = self._failures.get(recording_id, (-_TRY_AGAIN_S, ""))
            if why and time.monotonic() - failed_at < _TRY_AGAIN_S:
                raise PeaksUnavailable(why)
            self._failures.pop(recording_id, None)
            if self._closing.is_set() or len(self._waiting) >= _MAX_WAITING:
                return
            self._waiting.setdefault(recording_id)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="gapless-peaks", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if (thread := self._thread) is not None:
            thread.join(_CLOSE_S)

    def _run(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # a thread of Linux has its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while True:
            with self._lock:
                if not self._waiting or self._closing.is_set():
                    self._thread = None
                    return
                recording_id = next(iter(self._waiting))
            why = ""
            try:
                self._make(recording_id, self._closing.is_set)
            except Exception as error:
                if self._closing.is_set():
                    continue
                why = f"the waveform cannot be made: {reason_of(error)}"
                _log.warning("the peaks of %s cannot be made: %s", recording_id, reason_of(error))
            with self._lock:
                del self._waiting[recording_id]
                if why:
                    self._failures[recording_id] = time.monotonic(), why
                    if len(self._failures) > _KEPT_FAILURES:
                        self._failures.popitem(last=False)


def make_file(
    files: RecordingFiles,
    part: CompletedPart,
    audio_format: AudioFormat,
    blocks: Iterable[Samples],
    *,
    is_live: bool,
    is_enough: Callable[[], bool],
) -> None:
    """Make the peaks of a part of its sound, in blocks, with a pause after each.

    It does nothing if another process makes them. Raises `OSError`.
    """
    path, new = files.peaks, files.peaks.with_name(f"{files.name}{PEAKS}{NEW}")
    identity = bytes(16) if is_live else identity_in(files)
    descriptor = _claim(new)
    if descriptor is None:
        return
    try:
        _require_room(path.parent)
        boot = this_boot()
        growing = PeaksHeader(audio_format.sample_rate_hz, audio_format.channels, boot=boot)
        write_all(descriptor, growing.pack(), 0)
        pyramid = Pyramid(audio_format.channels)
        for block in blocks:
            began = time.monotonic()
            made = pyramid.add(as_s16(block, audio_format.sample_format))
            write_entries(descriptor, made)
            if is_enough():
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED), str(path))
            time.sleep(min(0.1, time.monotonic() - began))
        if not is_live:
            os.fdatasync(descriptor)
            header = PeaksHeader(
                audio_format.sample_rate_hz, audio_format.channels, part.length, identity, boot
            )
            write_all(descriptor, header.pack(), 0)
        with contextlib.suppress(FileNotFoundError):  # a swap begins with what is left of others
            new.replace(path)
        # whoever has removed the recording meanwhile must not find anything of it later
        if not any(map(os.path.lexists, (files.recording, files.part))):
            path.unlink(missing_ok=True)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
    finally:
        RESERVE.close(descriptor)


def _claim(new: pathlib.Path) -> int | None:
    """Create the file and lock it; return None if another process has it.

    One that a killed process has left is not locked, and deleted. Raises `OSError`.
    """
    with contextlib.suppress(FileNotFoundError):
        left = open_found(new)
        try:
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        finally:
            RESERVE.close(left)
        new.unlink(missing_ok=True)
    descriptor = create_file(new, mode_in(new.parent))
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _require_room(folder: pathlib.Path) -> None:
    stats = os.statvfs(folder)
    if stats.f_bavail * stats.f_frsize < _LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
