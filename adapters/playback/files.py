"""Writes sound to a WAV file, or raw to a pipe."""

from __future__ import annotations

import asyncio
import os
from typing import BinaryIO

import numpy as np
import soundfile

from domain.errors import PlaybackFailed
from domain.sound.formats import AudioFormat, Samples

MAX_BYTES = (1 << 32) - (1 << 16)
"""Of the sound in a WAV file: 12 hours of mono."""
_BLOCK = 65_536
"""Samples of silence that are written at once."""


class WavOutput:
    """A WAV file, as long as reality was: gaps are silence. Use `open`."""

    def __init__(self, file: soundfile.SoundFile, path: str) -> None:
        self._file = file
        self._path = path
        self._size = 0  # of the samples that were written

    @classmethod
    async def open(cls, path: str, audio_format: AudioFormat) -> WavOutput:
        """Make the file. Raises `PlaybackFailed`, also if there is one already."""

        def make() -> soundfile.SoundFile:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            return soundfile.SoundFile(
                descriptor,
                "w",
                audio_format.sample_rate_hz,
                audio_format.channels,
                "PCM_16",
                format="WAV",
                closefd=True,
            )

        try:
            return cls(await asyncio.to_thread(make), path)
        except (OSError, soundfile.LibsndfileError) as error:
            raise _failed(path, error) from error

    async def write(self, samples: Samples) -> None:
        await asyncio.to_thread(self._write, samples)

    async def gap(self, length: int) -> None:
        await asyncio.to_thread(self._write_silence, length)

    async def close(self) -> None:
        try:
            await asyncio.to_thread(self._file.close)
        except (OSError, soundfile.LibsndfileError) as error:
            raise _failed(self._path, error) from error

    def _write_silence(self, length: int) -> None:
        silent = np.zeros((min(length, _BLOCK), self._file.channels), "<i2")
        for begin in range(0, length, _BLOCK):
            self._write(silent[: length - begin])

    def _write(self, samples: Samples) -> None:
        self._size += 2 * samples.size
        if self._size > MAX_BYTES:
            raise PlaybackFailed(f"cannot write {self._path}: a WAV file holds 4 GiB")
        try:
            self._file.write(samples)
        except (OSError, RuntimeError) as error:  # libsndfile's errors are RuntimeErrors
            raise _failed(self._path, error) from error


class RawOutput:
    """A pipe that gets the samples and nothing else: 16 bits, little endian."""

    def __init__(self, stream: BinaryIO, channels: int) -> None:
        self._stream = stream
        self._channels = channels

    async def write(self, samples: Samples) -> None:
        await asyncio.to_thread(self._write, samples.astype("<i2", copy=False).tobytes())

    async def gap(self, length: int) -> None:
        size = 2 * self._channels
        for begin in range(0, length, _BLOCK):
            await asyncio.to_thread(self._write, bytes(size * min(_BLOCK, length - begin)))

    async def close(self) -> None:
        """Do nothing: the pipe belongs to the process."""

    def _write(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            self._stream.flush()
        except OSError as error:
            raise _failed("the output", error) from error


def _failed(what: str, error: Exception) -> PlaybackFailed:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return PlaybackFailed(f"cannot write {what}: {reason}")
