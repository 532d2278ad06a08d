"""A source of sound that outlasts its device: it may be unplugged and plugged in again."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from typing import Protocol

from domain.errors import CaptureError, DeviceLost, DeviceUncertain, DriverBusy
from domain.events.client import (
    MicrophoneLost,
    MicrophoneNotReopened,
    MicrophoneReturned,
)
from domain.ports.capture import AudioSource, CaptureBackend, CaptureRequest
from domain.ports.clock import Clock, Spawner
from domain.ports.events import EventPublisher
from domain.rtp.packetizer import RTP_RATE_HZ
from domain.sound.formats import AudioFormat, AudioFrame

FRESH_S = 2.0
"""A live recording begins with sound that is at most this old."""
REOPEN_S = 0.5
"""Interval at which a lost device is looked for, and at which the server gets keepalives."""


class Outlet(Protocol):
    """Where captured sound goes. Positions without a unit are in samples at 48 kHz."""

    @property
    def is_over(self) -> bool:
        """Whether no more sound is wanted."""

    @property
    def taken_to(self) -> int:
        """The position from which on sound can follow."""

    def take(self, block: AudioFrame, *, read_at: float, began_at: float | None) -> None:
        """Take a block; called in the source's thread.

        Its position counts its own samples from the beginning of the stream. `read_at` says when
        it came; `began_at` is as in `LiveSound.push`.
        """

    def pause(self) -> None:
        """Note that no sound follows for now."""

    def pass_time(self, position: int) -> None:
        """Note that there is no sound up to a position."""


class LastingSource:
    """Delivers a source's blocks at their positions in one stream, whatever its device does.

    While a device is unplugged, the clock tells how long it was gone. Positions are shifted by
    whole samples of the source that are whole samples at 48 kHz, too, so that both rates count the
    same time.

    While the source delivers, its thread alone runs `_push`.
    """

    def __init__(
        self,
        *,
        capture: CaptureBackend,
        request: CaptureRequest,
        outlet: Outlet,
        clock: Clock,
        spawner: Spawner,
        events: EventPublisher,
        limit: int | None,
    ) -> None:
        self._capture = capture
        self._request = request
        self._outlet = outlet
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._limit = limit
        self._source: AudioSource | None = None
        self._opened_at = 0.0  # when the source was opened
        self._began_at: float | None = None  # when a source without a device began
        self._shift = 0  # offset from the source's positions to the stream's
        self._read_at = 0.0
        self._read_to = 0  # position after the last sample read
        self._lost = 0  # samples lost by sources that are closed
        self._stopped = False

    @property
    def is_open(self) -> bool:
        return self._source is not None

    @property
    def format(self) -> AudioFormat:
        """The format of the open source."""
        assert self._source is not None
        return self._source.format

    @property
    def is_outdated(self) -> bool:
        """Whether the sound that waits is not of the present."""
        source = self._source
        if source is None:
            return False
        waited_s = self._clock.monotonic() - self._opened_at
        return source.overrun_samples > 0 or (source.device is not None and waited_s > FRESH_S)

    @property
    def read_s(self) -> float:
        """How much sound was captured, gaps included."""
        return self._read_to / RTP_RATE_HZ

    @property
    def lost_s(self) -> float:
        """How much sound was lost at the device."""
        lost = self._lost
        if self._source is not None:
            rate = self._source.format.sample_rate_hz
            lost += self._source.overrun_samples * RTP_RATE_HZ // rate
        return lost / RTP_RATE_HZ

    def forget_lost(self) -> None:
        """Count what is lost from now on only."""
        self._lost = 0

    def stop(self) -> None:
        """End the source; captured sound is still delivered."""
        self._stopped = True
        if self._source is not None:
            self._source.stop()

    async def open(self) -> None:
        """Open the source, or the device that it had before. Raises `CaptureError`."""
        self._source = await self._capture.open(self._request)
        self._opened_at = self._clock.monotonic()
        if self._source.device is not None:
            # If it is unplugged, wait for this very device: its number, its name or the default
            # may then refer to another microphone.
            self._request = replace(self._request, same_as=self._source.device)
        if self._stopped:
            self._source.stop()

    async def reopen(self) -> CaptureError | None:
        """Open the source again; return why its device cannot be opened, if it will be waited for.

        Raises `CaptureError` if there is no device that was there before.
        """
        try:
            await self.open()
        except CaptureError as error:
            if self._request.same_as is None:
                raise
            return error
        return None

    async def close(self) -> None:
        """Close the source. May be called twice."""
        source, self._source = self._source, None
        if source is not None:
            self._lost += source.overrun_samples * RTP_RATE_HZ // source.format.sample_rate_hz
            await source.close()

    async def deliver(self, gone: CaptureError | None) -> CaptureError | None:
        """Deliver until the source ends; sound captured before a failure is delivered, too.

        `gone` says why the device is not open, if it is not. Returns the failure that ended the
        source, or None.
        """
        self._read_at = self._clock.monotonic()
        if gone is not None:
            await self._wait_for_device(gone)
        while self._source is not None and not self._is_over:
            try:
                await self._source.deliver(self._push)
            except DeviceLost as error:
                await self._wait_for_device(error)
                continue
            except CaptureError as error:
                return error
            break
        return None

    # -- a device that is away ------------------------------------------------------------------

    async def _wait_for_device(self, error: CaptureError) -> None:
        """Let time pass until the device is back or `stop` is called."""
        self._events.publish(MicrophoneLost(str(error)))
        lost_at, ended_at = self._read_at, self._read_to
        self._outlet.pause()
        passing = self._spawner.spawn(self._pass_time(lost_at, ended_at), name="heartbeat")
        told: set[str] = set()
        try:
            await self.close()
            while not self._stopped and not self._is_over:
                await self._try_to_reopen(told)
                if self._source is not None and await self._resume(lost_at, ended_at):
                    self._lost += self._shift - ended_at
                    self._events.publish(MicrophoneReturned(self._clock.monotonic() - lost_at))
                    return
                await self._clock.sleep(REOPEN_S)
            self._lost += max(0, self._read_to - ended_at)  # it never came back
        finally:
            await passing.cancel()

    async def _try_to_reopen(self, told: set[str]) -> None:
        """Open the lost device if it is back; say once why it cannot be opened, if that is odd."""
        try:
            await self.open()
        except (DeviceUncertain, DriverBusy) as error:
            if (reason := str(error)) not in told:
                told.add(reason)
                self._events.publish(MicrophoneNotReopened(reason))
        except CaptureError:
            pass  # it is not back yet

    async def _pass_time(self, lost_at: float, ended_at: int) -> None:
        """Tell the outlet how much time passes without sound."""
        while not self._is_over:
            now = ended_at + round((self._clock.monotonic() - lost_at) * RTP_RATE_HZ)
            if self._limit is not None:
                now = min(now, self._limit)
            if now > max(self._read_to, self._outlet.taken_to):
                self._read_to = now
                self._outlet.pass_time(now)
            await self._clock.sleep(REOPEN_S)

    async def _resume(self, lost_at: float, ended_at: int) -> bool:
        """Resume with the reopened device's first block; return False if it delivers none.

        The clock gives the block's position in the stream.
        """
        assert self._source is not None
        blocks: list[tuple[AudioFrame, float]] = []

        def consume(block: AudioFrame) -> bool:
            blocks.append((block, self._clock.monotonic()))
            return False

        with contextlib.suppress(CaptureError):
            await self._source.deliver(consume)
        if not blocks:
            await self.close()
            return False
        ((block, came_at),) = blocks
        elapsed = round((came_at - lost_at) * RTP_RATE_HZ)
        rate = block.format.sample_rate_hz
        begins_at = ended_at + elapsed - len(block) * RTP_RATE_HZ // rate
        self._shift = _whole_samples(max(begins_at, ended_at, self._outlet.taken_to), rate)
        self._push(block)
        return True

    # -- blocks ---------------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        """Whether the wanted duration is complete, or no more sound is wanted."""
        is_complete = self._limit is not None and self._read_to >= self._limit
        return is_complete or self._outlet.is_over

    def _push(self, block: AudioFrame) -> bool:
        """Deliver a block at its place; return whether another one is wanted."""
        rate = block.format.sample_rate_hz
        if self._shift:
            position = block.position + self._shift * rate // RTP_RATE_HZ
            block = AudioFrame(block.format, block.samples, position)
        self._read_at = self._clock.monotonic()
        self._read_to = block.end * RTP_RATE_HZ // rate
        if self._began_at is None and self._source is not None and self._source.device is None:
            self._began_at = self._read_at - self._read_to / RTP_RATE_HZ
        self._outlet.take(block, read_at=self._read_at, began_at=self._began_at)
        return not self._is_over


def _whole_samples(position: int, rate_hz: int) -> int:
    """Return the next position of the stream that is a whole number of samples at `rate_hz`."""
    step = RTP_RATE_HZ // math.gcd(RTP_RATE_HZ, rate_hz)
    return -(-position // step) * step
