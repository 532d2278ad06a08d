"""The one place that reaches behind the soundfile package's public face.

Held by `tests/contracts/test_private_names.py`.
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
    """Write the header now and again with every write.

    What a killed process leaves behind can then be played. Without it sox and Python's wave
    module see an empty file (5 µs a write, measured).
    """
    _command(file, _SFC_SET_UPDATE_HEADER_AUTO, soundfile._snd.SF_TRUE)
    for _ in range(2):  # the first one does not count the chunks that it writes
        _command(file, _SFC_UPDATE_HEADER_NOW, 0)


def write(file: soundfile.SoundFile, samples: Samples) -> None:
    """Append samples of shape (n, channels), C-contiguous, as they lie in memory.

    `SoundFile.write` asks for the position before and behind it, by as many calls as the writing
    takes (15 of 50 µs for half a second of sound). Raises `soundfile.LibsndfileError`.
    """
    kind = _WRITERS[samples.dtype.str[1:]]
    data = soundfile._ffi.from_buffer(f"{kind}[]", samples)
    written = getattr(soundfile._snd, f"sf_writef_{kind}")(file._file, data, len(samples))
    if written != len(samples):
        soundfile._error_check(soundfile._snd.sf_error(file._file))
        raise OSError("libsndfile has written a part, and does not say why")


def reopen(
    descriptor: int,
    create: Callable[[int], soundfile.SoundFile],
    *,
    data_offset: int,
    frames: int,
) -> soundfile.SoundFile:
    """Go on with a file that another process has written, behind its `frames`th sample.

    `create` makes on a descriptor what that process has made. Raises `ValueError`, before it
    touches anything, when that has become another header.

    libsndfile's own way, opening for reading and writing, refuses every WAV with tags. So the
    header is made anew in memory, and the descriptor that libsndfile holds is then turned into
    one of the real file: libsndfile knows it by its number alone, and buffers nothing.
    """
    stand_in = os.memfd_create("wav header", os.MFD_CLOEXEC)
    file = create(stand_in)
    try:
        if os.fstat(stand_in).st_size != data_offset:
            raise ValueError("the header has another length by now")
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
    """Let an RF64 file be a plain WAV as long as it fits into one; call before writing."""
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
