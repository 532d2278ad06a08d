"""Recordings as WAV files, written by libsndfile."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
import soundfile

from adapters.storage.disk import DiskThread
from adapters.storage.libsndfile import update_header_with_every_write
from domain.audio import SampleFormat, Samples, silence
from domain.conversion import convert
from domain.errors import StorageFailed
from domain.ports.storage import RecordingInfo, RecordingWriter
from domain.recording import EndReason

QUEUE_S = 30.0
"""Sound that may wait for the disk, per recording; beyond that it becomes silence."""
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


class WavStore:
    """A folder of WAV files, ``NAME.wav.part`` until they are complete."""

    def __init__(self, folder: str) -> None:
        self._folder = pathlib.Path(folder).absolute()
        self._disk: DiskThread | None = None

    def check(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder):
                pass
        except OSError as error:
            raise StorageFailed(
                f"cannot write recordings to {self._folder}: {error.strerror}"
            ) from error

    def create(self, info: RecordingInfo) -> RecordingWriter:
        if self._disk is None:
            self._disk = DiskThread()
        return _WavWriter(self._folder, info, self._disk)

    def close(self) -> None:
        if self._disk is not None:
            self._disk.close()
            self._disk = None


class _WavWriter:
    """One file. The first thing that goes wrong is kept, and told by `finish`."""

    def __init__(self, folder: pathlib.Path, info: RecordingInfo, disk: DiskThread) -> None:
        self._info = info
        self._disk = disk
        self._part = folder / f"{info.name}.wav.part"
        self._final = folder / f"{info.name}.wav"
        self._limit = round(QUEUE_S * info.format.sample_rate_hz)
        self._file: soundfile.SoundFile | None = None
        self._descriptor = -1
        self._failure: Exception | None = None
        self._queued = 0  # in samples; only the event loop adds, only the disk thread subtracts
        self._written = 0
        self._submit(self._open)

    def append(self, samples: Samples) -> None:
        if self._queued - self._written + len(samples) > self._limit:
            self.append_silence(len(samples))
            return
        self._queued += len(samples)
        self._submit(functools.partial(self._write_queued, samples))

    def append_silence(self, length: int) -> None:
        self._submit(functools.partial(self._write_silence, length))

    async def finish(self, length: int, reason: EndReason) -> str:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_settle, done)

        self._submit(self._complete)
        self._disk.submit(settle)
        await done
        if self._failure is not None:
            raise StorageFailed(f"{self._part}: {_reason(self._failure)}") from self._failure
        return str(self._final)

    # -- in the disk's thread ------------------------------------------------------------------

    def _submit(self, step: Callable[[], None]) -> None:
        def guarded() -> None:
            if self._failure is None:
                try:
                    step()
                except Exception as error:
                    # whatever it is, it is this recording's: the thread serves the others
                    self._failure = error
                    self._release()

        self._disk.submit(guarded)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._part, flags, 0o600)
        audio_format = self._info.format
        self._file = soundfile.SoundFile(
            self._descriptor,
            "w",
            samplerate=audio_format.sample_rate_hz,
            channels=audio_format.channels,
            subtype=_SUBTYPES[audio_format.sample_format],
            format="WAV",
            closefd=False,
        )
        update_header_with_every_write(self._file)

    def _write(self, samples: Samples) -> None:
        assert self._file is not None
        sample_format = self._info.format.sample_format
        storable = convert(samples, sample_format, _WRITTEN_AS.get(sample_format, sample_format))
        self._file.write(np.ascontiguousarray(storable))

    def _write_queued(self, samples: Samples) -> None:
        self._write(samples)
        self._written += len(samples)

    def _write_silence(self, length: int) -> None:
        block = silence(self._info.format, min(length, _SILENCE_BLOCK))
        for start in range(0, length, _SILENCE_BLOCK):
            self._write(block[: length - start])

    def _complete(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
        os.fsync(self._descriptor)
        self._release()
        _rename_without_replacing(self._part, self._final)
        _sync_folder(self._final.parent)

    def _release(self) -> None:
        with contextlib.suppress(OSError, soundfile.LibsndfileError):
            if self._file is not None:
                self._file.close()
        self._file = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _rename_without_replacing(source: pathlib.Path, target: pathlib.Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # a file system without hard links; names are unique, so nothing is there to be replaced
        source.rename(target)
    else:
        source.unlink()


def _sync_folder(folder: pathlib.Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
