"""The one module that uses private names of the soundfile package.

`tests/contracts/test_private_names.py` checks that they exist.
"""

from __future__ import annotations

import datetime
import os
import struct
from collections.abc import Callable

import soundfile

from domain.sound.formats import Samples

_SFC_UPDATE_HEADER_NOW = 0x1060
_SFC_SET_UPDATE_HEADER_AUTO = 0x1061
_SFC_SET_BROADCAST_INFO = 0x10F1
_SFC_RF64_AUTO_DOWNGRADE = 0x1210

_WRITERS = {"i2": "short", "i4": "int", "f4": "float", "f8": "double"}
# SF_BROADCAST_INFO of sndfile.h: description, originator, reference, date, time, time reference
# (low, high), version, UMID, loudness, reserved, coding history
_BROADCAST_INFO = struct.Struct("=256s32s32s10s8s2xIIh64s5h180sI256s")


def keep_header_true(file: soundfile.SoundFile) -> None:
    """Update the header now and with every write, which costs 5 µs each (measured).

    The file of a killed process can then be played: without it sox and Python's wave module see
    an empty file.
    """
    _command(file, _SFC_SET_UPDATE_HEADER_AUTO, soundfile._snd.SF_TRUE)
    for _ in range(2):  # the first update does not count the chunks that it writes itself
        _command(file, _SFC_UPDATE_HEADER_NOW, 0)


def write(file: soundfile.SoundFile, samples: Samples) -> None:
    """Append samples of shape (n, channels), C-contiguous, as they lie in memory.

    `SoundFile.write` asks for the position before and after, which takes 15 of 50 µs for half a
    second of sound. Raises `soundfile.LibsndfileError`.
    """
    kind = _WRITERS[samples.dtype.str[1:]]
    data = soundfile._ffi.from_buffer(f"{kind}[]", samples)
    written = getattr(soundfile._snd, f"sf_writef_{kind}")(file._file, data, len(samples))
    if written != len(samples):
        soundfile._error_check(soundfile._snd.sf_error(file._file))
        raise OSError("libsndfile wrote only a part, without a reason")


def reopen(
    descriptor: int,
    create: Callable[[int], soundfile.SoundFile],
    *,
    data_offset: int,
    frames: int,
) -> soundfile.SoundFile:
    """Continue the file of another process after its `frames`th sample.

    `create` makes a new file on a descriptor as that process did. Raises `ValueError`, before it
    changes anything, when the new header has another length.

    libsndfile can open a file for reading and writing, but refuses every WAV with tags. So the
    header is made again in memory, and then the descriptor that libsndfile holds is replaced by
    one of the real file (dup2): libsndfile keeps only its number, and buffers nothing.
    """
    stand_in = os.memfd_create("wav header", os.MFD_CLOEXEC)
    file = create(stand_in)
    try:
        if os.fstat(stand_in).st_size != data_offset:
            raise ValueError("the header would have another length")
        os.dup2(descriptor, stand_in, inheritable=False)
        file.truncate(frames)
        _command(file, _SFC_UPDATE_HEADER_NOW, 0)
    except soundfile.LibsndfileError as error:
        file.close()
        raise ValueError(str(error)) from error
    except BaseException:
        file.close()
        raise
    return file


def downgrade_when_small(file: soundfile.SoundFile) -> None:
    """Make an RF64 file a plain WAV as long as it fits; call it before writing."""
    _command(file, _SFC_RF64_AUTO_DOWNGRADE, soundfile._snd.SF_TRUE)


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
