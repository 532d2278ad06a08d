"""Reads WAV headers defensively, and repairs them in place (RIFF; EBU Tech 3306 for RF64)."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from domain.sound.formats import AudioFormat, SampleFormat

CANONICAL_SIZE = 44
_DS64_SIZE = 36
MAX_RIFF_SIZE = 2**32 - 1
_PCM, _FLOAT, _EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
_FORMATS = {
    (_PCM, 8): SampleFormat.U8,
    (_PCM, 16): SampleFormat.S16,
    (_PCM, 24): SampleFormat.S24,
    (_PCM, 32): SampleFormat.S32,
    (_FLOAT, 32): SampleFormat.F32,
    (_FLOAT, 64): SampleFormat.F64,
}
_MAX_CHUNKS = 1000
_MAX_CHANNELS, _MAX_RATE_HZ = 1024, 768_000  # larger values are damage


@dataclass(frozen=True, slots=True)
class WavHeader:
    """The format and the place of the data in a WAV."""

    format: AudioFormat
    data_offset: int
    data_size: int
    """Bytes according to the header; the file may hold more or less."""
    ds64_offset: int | None = None
    """Offset of the chunk with the sizes of an RF64 file."""
    trailing: bool = False
    """Whether other chunks follow the data."""


def read_header(descriptor: int) -> WavHeader | None:
    """The header of a WAV or RF64 file; None for other files and damaged headers."""
    size = os.fstat(descriptor).st_size
    head = os.pread(descriptor, 12, 0)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return None
    audio_format: AudioFormat | None = None
    ds64_offset: int | None = None
    big_data_size = 0
    position = 12
    for _ in range(_MAX_CHUNKS):
        chunk = os.pread(descriptor, 8, position)
        if len(chunk) < 8:
            return None
        name, length = chunk[:4], int.from_bytes(chunk[4:], "little")
        position += 8
        if name == b"ds64" and length >= 24:
            ds64_offset = position
            big_data_size = int.from_bytes(os.pread(descriptor, 8, position + 8), "little")
        elif name == b"fmt ":
            audio_format = _parse_format(os.pread(descriptor, min(length, 40), position))
        elif name == b"data":
            if audio_format is None:
                return None
            data_size = big_data_size if length == MAX_RIFF_SIZE and ds64_offset else length
            end = position + data_size + data_size % 2
            return WavHeader(audio_format, position, data_size, ds64_offset, trailing=end < size)
        position += length + length % 2
        if position > size:
            return None
    return None


def write_sizes(descriptor: int, header: WavHeader, data_size: int) -> None:
    """Write the sizes of a file that ends with `data_size` bytes of data into its header."""
    riff_size = header.data_offset - 8 + data_size + data_size % 2
    if header.ds64_offset is not None:
        samples = data_size // header.format.bytes_per_frame
        os.pwrite(descriptor, struct.pack("<QQQ", riff_size, data_size, samples),
                  header.ds64_offset)  # fmt: skip
    os.pwrite(descriptor, struct.pack("<I", min(riff_size, MAX_RIFF_SIZE)), 4)
    os.pwrite(descriptor, struct.pack("<I", min(data_size, MAX_RIFF_SIZE)), header.data_offset - 4)


def frames_in(descriptor: int, audio_format: AudioFormat, data_offset: int) -> int:
    """Whole samples per channel in a file whose data last to its end, without the pad byte."""
    size = os.fstat(descriptor).st_size - data_offset
    header = read_header(descriptor)
    if header is not None and header.data_offset == data_offset:
        padded = header.data_size % 2 == 1 and size == header.data_size + 1
        size -= padded
    return max(0, size) // audio_format.bytes_per_frame


def header_fits(data_offset: int) -> bool:
    """Whether a header can have exactly this length."""
    return data_offset == CANONICAL_SIZE or data_offset >= CANONICAL_SIZE + 8


def write_header(
    descriptor: int, audio_format: AudioFormat, data_offset: int, *, large: bool = False
) -> WavHeader:
    """Write a new header before data that begin at `data_offset`; its sizes are still 0.

    A JUNK chunk fills the space after the canonical header, see `header_fits`.
    """
    assert header_fits(data_offset)
    # a file too large for RIFF becomes RF64 if its sizes fit into the header
    ds64 = large and data_offset >= CANONICAL_SIZE + _DS64_SIZE + 8
    room = data_offset - CANONICAL_SIZE - (_DS64_SIZE if ds64 else 0)
    os.pwrite(descriptor, _header(audio_format, room, ds64=ds64), 0)
    return WavHeader(audio_format, data_offset, 0, ds64_offset=20 if ds64 else None)


def whole_header(audio_format: AudioFormat, data_size: int) -> bytes:
    """Make the header of a WAV or RF64 that holds `size` bytes of data and nothing else."""
    ds64 = data_size > MAX_RIFF_SIZE - CANONICAL_SIZE
    header = bytearray(_header(audio_format, 0, ds64=ds64))
    riff_size = len(header) - 8 + data_size + data_size % 2
    if ds64:
        samples = data_size // audio_format.bytes_per_frame
        struct.pack_into("<QQQ", header, 20, riff_size, data_size, samples)
    struct.pack_into("<I", header, 4, min(riff_size, MAX_RIFF_SIZE))
    struct.pack_into("<I", header, len(header) - 4, min(data_size, MAX_RIFF_SIZE))
    return bytes(header)


def _header(audio_format: AudioFormat, room: int, *, ds64: bool) -> bytes:
    """Make a header with sizes of 0 and a JUNK chunk of `room` bytes."""
    tag = _FLOAT if audio_format.sample_format.is_float else _PCM
    width = audio_format.bytes_per_frame
    header = b"RF64\0\0\0\0WAVE" if ds64 else b"RIFF\0\0\0\0WAVE"
    if ds64:
        header += struct.pack("<4sI", b"ds64", _DS64_SIZE - 8) + bytes(_DS64_SIZE - 8)
    header += struct.pack(
        "<4sIHHIIHH", b"fmt ", 16, tag, audio_format.channels, audio_format.sample_rate_hz,
        audio_format.sample_rate_hz * width, width, audio_format.sample_format.bits,
    )  # fmt: skip
    if room:
        header += struct.pack("<4sI", b"JUNK", room - 8) + bytes(room - 8)
    return header + b"data\0\0\0\0"


def _parse_format(chunk: bytes) -> AudioFormat | None:
    if len(chunk) < 16:
        return None
    tag, channels, rate, _, width, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        tag = int.from_bytes(chunk[24:26], "little")
    sample_format = _FORMATS.get((tag, bits))
    if sample_format is None or not 0 < channels <= _MAX_CHANNELS or not 0 < rate <= _MAX_RATE_HZ:
        return None
    audio_format = AudioFormat(rate, channels, sample_format)
    return audio_format if width == audio_format.bytes_per_frame else None
