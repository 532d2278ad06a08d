from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from adapters.capture.paced import ToneCapture, tone
from domain.ports.capture import (
    AudioSource,
    BlockConsumer,
    CaptureRequest,
    DeviceIdentity,
    InputDevice,
)
from domain.sound.formats import AudioFormat, AudioFrame
from tests.fakes.time import FakeClock


class FakeSource:
    """Delivers a script of blocks and errors in real time on the fake clock, then ends."""

    def __init__(
        self,
        audio_format: AudioFormat,
        script: Sequence[AudioFrame | Exception],
        clock: FakeClock | None = None,
        *,
        device: DeviceIdentity | None = None,
    ) -> None:
        self.format = audio_format
        self.device = device
        self.overrun_samples = 0
        self.closed = 0
        self._script = list(script)
        self._clock = clock
        self._opened_at = clock.now if clock is not None else 0.0

    async def deliver(self, consume: BlockConsumer) -> None:
        while self._script:
            step = self._script.pop(0)
            if isinstance(step, Exception):
                raise step
            if self._clock is not None:
                due = self._opened_at + step.end / self.format.sample_rate_hz
                if due > self._clock.now:
                    await self._clock.sleep(due - self._clock.now)
            if not consume(step):
                return

    def stop(self) -> None:
        self._script.clear()

    async def close(self) -> None:
        self.closed += 1


class FakeCapture:
    """Opens the sources of a script one after another; an error in the script is raised."""

    def __init__(self, *script: FakeSource | Exception) -> None:
        self._script = list(script)
        self.opened: list[FakeSource] = []
        self.requests: list[CaptureRequest] = []

    def devices(self) -> Sequence[InputDevice]:
        return []

    def rates(self, device: InputDevice) -> Sequence[int]:
        return []

    async def open(self, request: CaptureRequest) -> AudioSource:
        self.requests.append(request)
        step = self._script.pop(0)
        if isinstance(step, Exception):
            raise step
        self.opened.append(step)
        return step


class _LoopTone:
    overrun_samples = 0
    device = None

    def __init__(self, audio_format: AudioFormat) -> None:
        self.format = audio_format
        self._tone = tone(audio_format)
        self._is_stopped = False

    async def deliver(self, consume: BlockConsumer) -> None:
        began, rate, position = time.monotonic(), self.format.sample_rate_hz, 0
        while not self._is_stopped:
            start = position % len(self._tone)
            block = AudioFrame(self.format, self._tone[start : start + rate // 50], position)
            position = block.end
            await asyncio.sleep(began + position / rate - time.monotonic())
            if not consume(block):
                return

    def stop(self) -> None:
        self._is_stopped = True

    async def close(self) -> None:
        self._is_stopped = True


class LoopCapture(ToneCapture):
    """Opens tones that run on the event loop, so that fifty clients do not need fifty threads."""

    async def open(self, request: CaptureRequest) -> AudioSource:
        return _LoopTone(AudioFormat(request.sample_rate_hz, request.channels))
