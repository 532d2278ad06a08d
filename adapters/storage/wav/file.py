"""Writes WAV or RF64 files."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import soundfile

from adapters.storage.digest import Digest, GrowingDigest, SampleSink
from adapters.storage.media_file import CutOff, write_all
from adapters.storage.wav import libsndfile
from adapters.storage.wav.header import MAX_RIFF_SIZE, frames_in
from domain.recording.ledger import RecordingInfo
from domain.sound.conversion import pack
from domain.sound.formats import SampleFormat, silence
from domain.sound.pieces import Sound

_SILENCE_BLOCK = 48_000
_FACT = b"fact\x04\0\0\0"
_DS64_DATA = 20  # offset of the sizes in the header of an RF64 file
_SUBTYPES = {
    SampleFormat.U8: "PCM_U8",
    SampleFormat.S16: "PCM_16",
    SampleFormat.S24: "PCM_24",
    SampleFormat.S32: "PCM_32",
    SampleFormat.F32: "FLOAT",
    SampleFormat.F64: "DOUBLE",
}


class WavFile:
    """A WAV file being written; its digest covers the PCM data."""

    def __init__(
        self,
        descriptor: int,
        info: RecordingInfo,
        make_header: Callable[[int], bytes],
        size: int,
        sink: SampleSink | None,
    ) -> None:
        """`size` is that of the PCM data in bytes; `sink` gets the samples in the file."""
        self._descriptor = descriptor
        self._format = info.format
        self._make_header = make_header
        self._size = size
        self._use_header(0, is_large=False)
        self.data_offset = len(self._header)
        self._digest = GrowingDigest(descriptor, self.data_offset, info.format, sink)

    @classmethod
    def create(
        cls,
        descriptor: int,
        info: RecordingInfo,
        *,
        rf64: bool,
        sink: SampleSink | None = None,
    ) -> WavFile:
        """Write the header of a new file. Raises `OSError`."""
        file = cls(descriptor, info, _header_maker(info, rf64=rf64), 0, sink)
        file._put_header(0)
        return file

    @classmethod
    def reopen(
        cls,
        descriptor: int,
        info: RecordingInfo,
        *,
        data_offset: int,
        rf64: bool,
        sink: SampleSink | None = None,
    ) -> tuple[WavFile, int]:
        """Continue the file of another process; also return how many samples it holds.

        The header is written again, because it may be damaged. Raises `ValueError` or `OSError`
        when that is impossible; nothing has been changed then.
        """
        frames = frames_in(descriptor, info.format, data_offset)
        size = frames * info.format.bytes_per_frame
        file = cls(descriptor, info, _header_maker(info, rf64=rf64), size, sink)
        if file.data_offset != data_offset:
            raise ValueError("the header would have another length")
        file._put_header(size)
        os.ftruncate(descriptor, data_offset + size)
        file._digest.begin_with(size)
        return file, frames

    @property
    def end(self) -> int:
        return self.data_offset + self._size

    @property
    def reading(self) -> threading.Thread | None:
        return self._digest.reading

    @property
    def intact(self) -> int:
        end = os.fstat(self._descriptor).st_size
        return max(0, min(end - self.data_offset, self._size)) // self._format.bytes_per_frame

    def write(self, pieces: Sequence[Sound]) -> None:
        # joining with numpy would release the GIL for each of the pieces
        joined = b"".join(pieces)  # type: ignore[arg-type]
        if self._format.sample_format is SampleFormat.S24:  # four bytes each in memory
            joined = pack(np.frombuffer(joined, "<i4"), SampleFormat.S24)
        self._append([joined])

    def write_silence(self, length: int) -> None:
        width, whole = self._format.bytes_per_frame, min(length, _SILENCE_BLOCK)
        block = pack(silence(self._format, whole), self._format.sample_format)
        self._append(
            block[: (length - start) * width] for start in range(0, length, _SILENCE_BLOCK)
        )

    def complete(self, length: int) -> Digest:
        size = length * self._format.bytes_per_frame
        self._size = size
        self._put_header(size)
        end = self.data_offset + size + size % 2
        if os.fstat(self._descriptor).st_size != end:
            os.ftruncate(self._descriptor, end)
        return self._digest.complete(size)

    def close(self) -> None:
        self._digest.close()

    def _append(self, blocks: Iterable[bytes]) -> None:
        """Write data at the end; after an error, another call writes at the same place."""
        if (found := os.fstat(self._descriptor).st_size) < self.end:
            raise CutOff(self.end - found)
        size = self._size
        for block in blocks:
            write_all(self._descriptor, block, self.data_offset + size)
            size += len(block)
        self._put_header(size)
        grown, self._size = size - self._size, size
        self._digest.grow(grown)

    def _use_header(self, frames: int, *, is_large: bool) -> None:
        self._is_large = is_large
        self._header = bytearray(self._make_header(frames if is_large else 0))
        before_tags = self._header[: self._header.find(b"LIST")]
        fact = before_tags.find(_FACT)  # it repeats the number of samples
        self._fact = fact + len(_FACT) if fact >= 0 else -1

    def _put_header(self, size: int) -> None:
        """Write the header of a file with `size` bytes of data: a killed process leaves it so.

        Without it, sox and Python's wave module would see an empty file.
        """
        frames = size // self._format.bytes_per_frame
        riff_size = self.data_offset - 8 + size + size % 2
        is_large = riff_size > MAX_RIFF_SIZE
        if is_large != self._is_large:
            self._use_header(frames, is_large=is_large)
        if is_large and self._header[12:16] == b"ds64":
            struct.pack_into("<QQQ", self._header, _DS64_DATA, riff_size, size, frames)
        struct.pack_into("<I", self._header, 4, min(riff_size, MAX_RIFF_SIZE))
        struct.pack_into("<I", self._header, self.data_offset - 4, min(size, MAX_RIFF_SIZE))
        if self._fact >= 0:
            struct.pack_into("<I", self._header, self._fact, min(frames, MAX_RIFF_SIZE))
        write_all(self._descriptor, bytes(self._header), 0)


def _header_maker(info: RecordingInfo, *, rf64: bool) -> Callable[[int], bytes]:
    def make(frames: int) -> bytes:
        return libsndfile.make_header(
            lambda descriptor: _open(descriptor, info, rf64=rf64), frames=frames
        )

    return make


def _open(descriptor: int, info: RecordingInfo, *, rf64: bool) -> soundfile.SoundFile:
    file = soundfile.SoundFile(
        descriptor,
        "w",
        samplerate=info.format.sample_rate_hz,
        channels=info.format.channels,
        subtype=_SUBTYPES[info.format.sample_format],
        format="RF64" if rf64 else "WAV",
        closefd=False,
    )
    if rf64:
        libsndfile.downgrade_when_small(file)
    libsndfile.leave_out_peaks(file)
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
    return file
