"""The one module that uses private names of the soundfile package.

`tests/contracts/test_private_names.py` checks that they exist.
"""

from __future__ import annotations

import datetime
import os
import struct
from collections.abc import Callable

import soundfile

from adapters.descriptors import RESERVE

_SFC_SET_ADD_PEAK_CHUNK = 0x1050
_SFC_UPDATE_HEADER_NOW = 0x1060
_SFC_SET_BROADCAST_INFO = 0x10F1
_SFC_RF64_AUTO_DOWNGRADE = 0x1210

# SF_BROADCAST_INFO of sndfile.h: description, originator, reference, date, time, time reference
# (low, high), version, UMID, loudness, reserved, coding history
_BROADCAST_INFO = struct.Struct("=256s32s32s10s8s2xIIh64s5h180sI256s")


def make_header(create: Callable[[int], soundfile.SoundFile], *, frames: int = 0) -> bytes:
    """Return the header of a file with `frames` samples per channel, up to the first sample.

    `create` makes a new file on a descriptor, which it does not close. libsndfile writes its header
    in memory, and `WavFile` writes the data: libsndfile does not say which error a write met, and
    cannot repeat a write that failed. Raises `soundfile.LibsndfileError`.
    """
    descriptor = RESERVE.open(lambda: os.memfd_create("wav header", os.MFD_CLOEXEC))
    try:
        with create(descriptor) as file:
            for _ in range(2):  # the first update does not count the chunks that it writes itself
                _command(file, _SFC_UPDATE_HEADER_NOW, 0)
            size = os.fstat(descriptor).st_size
            if frames:
                file.truncate(frames)  # a sparse file takes no memory
                _command(file, _SFC_UPDATE_HEADER_NOW, 0)
            return os.pread(descriptor, size, 0)
    finally:
        RESERVE.close(descriptor)


def downgrade_when_small(file: soundfile.SoundFile) -> None:
    """Make an RF64 file a plain WAV as long as it fits; call it before writing."""
    _command(file, _SFC_RF64_AUTO_DOWNGRADE, soundfile._snd.SF_TRUE)


def leave_out_peaks(file: soundfile.SoundFile) -> None:
    """Write no PEAK chunk with the largest samples, which change with every write."""
    _command(file, _SFC_SET_ADD_PEAK_CHUNK, soundfile._snd.SF_FALSE)


def set_broadcast_info(
    file: soundfile.SoundFile,
    *,
    description: str,
    originator: str,
    reference: str,
    started_at: datetime.datetime,
    time_reference: int,
) -> None:
    """Write a bext chunk (EBU Tech 3285); `time_reference` in samples since midnight, UTC."""
    data = _BROADCAST_INFO.pack(
        description.encode("ascii", "replace")[:255],
        originator.encode("ascii", "replace")[:31],
        reference.encode("ascii", "replace")[:31],
        f"{started_at:%Y-%m-%d}".encode(),
        f"{started_at:%H:%M:%S}".encode(),
        time_reference & 0xFFFFFFFF,
        time_reference >> 32,
        1,
        b"", 0, 0, 0, 0, 0, b"", 0, b"",
    )  # fmt: skip
    buffer = soundfile._ffi.from_buffer(data)
    soundfile._snd.sf_command(file._file, _SFC_SET_BROADCAST_INFO, buffer, len(data))


def _command(file: soundfile.SoundFile, command: int, argument: int) -> None:
    soundfile._snd.sf_command(file._file, command, soundfile._ffi.NULL, argument)
