from __future__ import annotations

from collections.abc import Sequence

from domain.audio import AudioFormat, AudioFrame


class FakeSource:
    """Delivers a script of blocks and errors, then ends."""

    def __init__(self, audio_format: AudioFormat, script: Sequence[AudioFrame | Exception]) -> None:
        self.format = audio_format
        self.overrun_samples = 0
        self.closed = 0
        self._script = list(script)

    async def read(self) -> AudioFrame | None:
        if not self._script:
            return None
        step = self._script.pop(0)
        if isinstance(step, Exception):
            raise step
        self.overrun_samples = max(self.overrun_samples, 0)
        return step

    def stop(self) -> None:
        self._script.clear()

    async def close(self) -> None:
        self.closed += 1
