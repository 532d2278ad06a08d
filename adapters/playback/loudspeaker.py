"""Plays sound with sounddevice (PortAudio)."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

import numpy as np

from domain.errors import BackendMissing, PlaybackFailed
from domain.sound.formats import AudioFormat, Samples

_MAX_GAP_S = 0.2
"""How much of a gap is played: its time has passed already when it is known."""


class Loudspeaker:
    """The default output device. Use `open`."""

    def __init__(
        self, stream: Any, audio_format: AudioFormat, thread: concurrent.futures.Executor
    ) -> None:
        self._stream = stream
        self._format = audio_format
        self._thread = thread  # PortAudio's calls may take as long as the sound does
        self._is_closed = False

    @classmethod
    async def open(cls, audio_format: AudioFormat) -> Loudspeaker:
        """Open the device. Raises `PlaybackFailed` or `BackendMissing`."""
        try:
            import sounddevice
        except (ImportError, OSError) as error:
            raise BackendMissing(
                f"sounddevice cannot be used ({error}); install PortAudio, or use --output"
            ) from error

        def start() -> Any:
            stream = sounddevice.OutputStream(
                samplerate=audio_format.sample_rate_hz,
                channels=audio_format.channels,
                dtype="int16",
            )
            stream.start()
            return stream

        thread = concurrent.futures.ThreadPoolExecutor(1, "playback")
        try:
            stream = await asyncio.get_running_loop().run_in_executor(thread, start)
        except sounddevice.PortAudioError as error:
            thread.shutdown(wait=False)
            raise PlaybackFailed(
                f"no output device plays {audio_format}: {error.args[0]}; use --output FILE.wav"
            ) from error
        return cls(stream, audio_format, thread)

    async def write(self, samples: Samples) -> None:
        await self._call(lambda: self._stream.write(np.ascontiguousarray(samples)))

    async def gap(self, length: int) -> None:
        longest = int(_MAX_GAP_S * self._format.sample_rate_hz)
        silent = np.zeros((min(length, longest), self._format.channels), "<i2")
        await self.write(silent)

    async def close(self) -> None:
        """Play what was written, and release the device."""
        if not self._is_closed:
            self._is_closed = True
            try:
                await self._call(lambda: (self._stream.stop(), self._stream.close()))
            finally:
                self._thread.shutdown(wait=False)

    async def _call(self, call: Any) -> None:
        import sounddevice

        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except sounddevice.PortAudioError as error:
            raise PlaybackFailed(f"the output device failed: {error.args[0]}") from error
