"""Writes WAV or RF64 files, with libsndfile."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence

import numpy as np
import soundfile

from adapters.storage.digest import Digest, GrowingDigest
from adapters.storage.wav import libsndfile
from adapters.storage.wav.header import frames_in, read_header, write_sizes
from domain.recording.ledger import RecordingInfo
from domain.sound.conversion import convert
from domain.sound.formats import SampleFormat, silence
from domain.sound.pieces import Sound

_SILENCE_BLOCK = 48_000
_SUBTYPES = {
    SampleFormat.U8: "PCM_U8",
    SampleFormat.S16: "PCM_16",
    SampleFormat.S24: "PCM_24",
    SampleFormat.S32: "PCM_32",
    SampleFormat.F32: "FLOAT",
    SampleFormat.F64: "DOUBLE",
}
# libsndfile takes integers of 16 and 32 bits, and keeps the upper bits that fit the file
_WRITTEN_AS = {SampleFormat.U8: SampleFormat.S16, SampleFormat.S24: SampleFormat.S32}


class WavFile:
    """A WAV file being written; its digest covers the PCM data."""

    def __init__(
        self, descriptor: int, info: RecordingInfo, file: soundfile.SoundFile, data_offset: int
    ) -> None:
        self._descriptor = descriptor
        self._format = info.format
        self._file: soundfile.SoundFile | None = file
        self._digest = GrowingDigest(descriptor, data_offset, info.format)
        self.data_offset = data_offset

    @classmethod
    def create(cls, descriptor: int, info: RecordingInfo, *, rf64: bool) -> WavFile:
        file = _open(descriptor, info, rf64=rf64, closefd=False)
        return cls(descriptor, info, file, os.fstat(descriptor).st_size)

    @classmethod
    def reopen(
        cls, descriptor: int, info: RecordingInfo, *, data_offset: int, rf64: bool
    ) -> tuple[WavFile, int]:
        """Continue the file of another process; also return how many samples it holds.

        Raises `ValueError` or `OSError` when that is impossible; nothing has been changed then.
        """
        frames = frames_in(descriptor, info.format, data_offset)
        make: Callable[[int], soundfile.SoundFile] = lambda stand_in: _open(  # noqa: E731
            stand_in, info, rf64=rf64, closefd=True
        )
        file = libsndfile.reopen(descriptor, make, data_offset=data_offset, frames=frames)
        wav = cls(descriptor, info, file, data_offset)
        wav._digest.begin_with(frames * info.format.bytes_per_frame)
        return wav, frames

    @property
    def reading(self) -> threading.Thread | None:
        return self._digest.reading

    def write(self, pieces: Sequence[Sound]) -> None:
        assert self._file is not None
        sample_format = self._format.sample_format
        # joining with numpy would release the GIL for each of the pieces
        joined = b"".join(pieces)  # type: ignore[arg-type]
        samples = np.frombuffer(joined, sample_format.dtype).reshape(-1, self._format.channels)
        storable = convert(samples, sample_format, _WRITTEN_AS.get(sample_format, sample_format))
        libsndfile.write(self._file, storable)
        self._digest.grow(len(samples) * self._format.bytes_per_frame)

    def write_silence(self, length: int) -> None:
        block = silence(self._format, min(length, _SILENCE_BLOCK))
        for start in range(0, length, _SILENCE_BLOCK):
            self.write([block[: length - start]])

    def complete(self, length: int) -> Digest:
        self._close_file()
        size = length * self._format.bytes_per_frame
        end = self.data_offset + size + size % 2
        if os.fstat(self._descriptor).st_size != end:
            os.ftruncate(self._descriptor, end)
            if (header := read_header(self._descriptor)) is not None:
                write_sizes(self._descriptor, header, size)
        return self._digest.complete(size)

    def close(self) -> None:
        self._digest.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            with contextlib.suppress(soundfile.LibsndfileError):
                self._file.close()
            self._file = None


def _open(
    descriptor: int, info: RecordingInfo, *, rf64: bool, closefd: bool
) -> soundfile.SoundFile:
    file = soundfile.SoundFile(
        descriptor,
        "w",
        samplerate=info.format.sample_rate_hz,
        channels=info.format.channels,
        subtype=_SUBTYPES[info.format.sample_format],
        format="RF64" if rf64 else "WAV",
        closefd=closefd,
    )
    if rf64:
        libsndfile.downgrade_when_small(file)
    started_at = info.started_at
    midnight = started_at.replace(hour=0, minute=0, second=0, microsecond=0)
    since_midnight = (started_at - midnight).total_seconds()
    libsndfile.set_broadcast_info(
        file,
        description=info.name,
        originator="Gapless",
        reference=info.id,
        started_at=started_at,
        time_reference=round(since_midnight * info.format.sample_rate_hz),
    )
    file.title = info.name
    file.software = "Gapless"
    file.date = started_at.isoformat(timespec="milliseconds")
    libsndfile.keep_header_true(file)
    return file
