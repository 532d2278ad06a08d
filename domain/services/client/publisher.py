"""The client: streams a source of sound to the server."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from domain.errors import CaptureError, DeviceLost, GaplessError
from domain.events import (
    CaptureStarted,
    MicrophoneLost,
    MicrophoneReturned,
    SoundSent,
    SourceEnded,
    StreamEnded,
)
from domain.ports.capture import AudioSource, CaptureBackend, CaptureRequest
from domain.ports.clock import Clock, Spawner
from domain.ports.codec import Encoder, Resampler
from domain.ports.events import EventPublisher
from domain.rtp.packetizer import RTP_RATE_HZ, Packetizer
from domain.services.client.uplink import Uplink
from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat, Samples, silence
from domain.sound.framing import Framer
from domain.sound.levels import measure

FRAME_SAMPLES = 960
"""20 ms."""
STEP_SAMPLES = 480
"""10 ms, the shortest frame that does not change Opus' mode."""
METERED_FRAMES = 3000
"""A minute of frames."""
REOPEN_S = 0.5
"""Interval at which a lost device is looked for, and at which the server gets keepalives."""


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """What was sent."""

    session_id: str
    seconds: float
    lost_s: float
    """Sound lost before it could be sent."""
    safe_s: float | None
    """Length of the completed recording, if the server reported it."""


class Publisher:
    """Streams one source in one session, from the first block to a clean end.

    The source's positions become RTP timestamps, so sound lost before encoding leaves a gap on
    the recording's timeline and does not shorten it. This also holds while a device is unplugged:
    the clock tells how long it was gone.

    `_push` and everything it calls run in the source's thread. While the source delivers, no
    other thread runs this code; only the meter, on the event loop, reads what was sent.
    """

    def __init__(
        self,
        *,
        capture: CaptureBackend,
        request: CaptureRequest,
        resampler: Callable[[AudioFormat], Resampler],
        encoder: Encoder,
        packetizer: Packetizer,
        uplink: Uplink,
        clock: Clock,
        spawner: Spawner,
        events: EventPublisher,
        progress_interval_s: float,
        channels: int,
        duration_s: float | None,
    ) -> None:
        self._capture = capture
        self._request = request
        self._new_resampler = resampler
        self._encoder = encoder
        self._packetizer = packetizer
        self._uplink = uplink
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._progress_interval_s = progress_interval_s
        self._format = AudioFormat(RTP_RATE_HZ, channels, SampleFormat.S16)
        self._framer = Framer(self._format, frame_samples=FRAME_SAMPLES)
        self._limit = None if duration_s is None else round(duration_s * RTP_RATE_HZ)
        self._source: AudioSource | None = None
        self._resampler: Resampler | None = None
        self._shift = 0  # offset from the source's positions to the stream's
        self._end = 0  # position after the last sample of the source that was sent
        self._sent_to = 0  # position after everything sent, including filler and keepalives
        # frames sent since the levels were last reported; only the latest ones are kept
        self._unmetered: deque[Samples] = deque(maxlen=METERED_FRAMES)
        self._is_sounding = False  # frames were sent, and the encoder's tail was not yet
        self._read_at = 0.0
        self._read_to = 0  # position after the last sample read
        self._lost = 0  # samples lost by sources that are closed
        self._stopped = False
        self.streaming = False
        """Whether the client is connected and sends sound."""

    def stop(self) -> None:
        """End the source; captured sound is still sent, then `run` returns."""
        self._stopped = True
        if self._source is not None:
            self._source.stop()

    async def run(self) -> StreamSummary:
        """Connect, stream until the source ends or `stop` is called, and end the session.

        Waits for a server that is not available. Raises what the ports raise, and releases
        everything in any case, including the source.
        """
        try:
            # report a wrong device before connecting to the server
            await self._open_source()
            self._events.publish(CaptureStarted())
            while not await self._uplink.open():
                # release the microphone until the server is available
                await self._close_source()
            if self._source is not None and self._source.overrun_samples:
                # connecting took longer than the source buffers sound: what it holds is outdated
                await self._close_source()
            if self._source is None:
                await self._open_source()
                self._lost = 0  # sound from before the connection does not count as lost
            self.streaming = True
            failure = await self._stream()
            await self._close_source()
            self._events.publish(SourceEnded())
            safe_s = await self._uplink.close()
        finally:
            async with contextlib.AsyncExitStack() as releasing:  # release both, even if one fails
                releasing.push_async_callback(self._uplink.abandon)
                releasing.push_async_callback(self._close_source)
        if failure is not None:
            raise failure
        seconds = self._end / RTP_RATE_HZ
        self._events.publish(StreamEnded(seconds, self._lost_s, safe_s))
        return StreamSummary(self._uplink.session_id, seconds, self._lost_s, safe_s)

    @property
    def _lost_s(self) -> float:
        lost = self._lost
        if self._source is not None:
            rate = self._source.format.sample_rate_hz
            lost += self._source.overrun_samples * RTP_RATE_HZ // rate
        return lost / RTP_RATE_HZ

    # -- the source ----------------------------------------------------------------------------

    async def _open_source(self) -> None:
        self._source = await self._capture.open(self._request)
        if self._source.device is not None:
            # If the device is unplugged, wait for this one by name: its number, or the default,
            # may then refer to another microphone.
            self._request = replace(self._request, device=self._source.device)
        self._resampler = self._new_resampler(self._source.format)
        if self._stopped:
            self._source.stop()

    async def _close_source(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            self._lost += source.overrun_samples * RTP_RATE_HZ // source.format.sample_rate_hz
            await source.close()

    async def _stream(self) -> GaplessError | None:
        """Send until the source ends; sound captured before a failure is sent, too.

        Returns the failure that ended the stream, or None.
        """
        failure: GaplessError | None = None
        self._read_at = self._clock.monotonic()
        metering = self._spawner.spawn(self._meter(), name="meter")
        try:
            while self._source is not None and not self._is_over:
                try:
                    await self._source.deliver(self._push)
                except DeviceLost as error:
                    await self._wait_for_device(error)
                    continue
                except CaptureError as error:
                    failure = error
                break
        finally:
            await metering.cancel()
        self._end_sound()
        return self._uplink.failure or failure

    async def _wait_for_device(self, error: DeviceLost) -> None:
        """Send keepalives until the device is back or `stop` is called."""
        self._events.publish(MicrophoneLost(str(error)))
        lost_at, ended_at = self._read_at, self._read_to
        self._end_sound()
        heartbeats = self._spawner.spawn(self._send_heartbeats(lost_at, ended_at), name="heartbeat")
        try:
            await self._close_source()
            while not self._stopped and not self._is_over:
                with contextlib.suppress(CaptureError):
                    await self._open_source()
                if self._source is not None and await self._resume_from_device(lost_at, ended_at):
                    self._lost += self._shift - ended_at
                    self._events.publish(MicrophoneReturned(self._clock.monotonic() - lost_at))
                    return
                await self._clock.sleep(REOPEN_S)
            self._lost += max(0, self._read_to - ended_at)  # it never came back
        finally:
            await heartbeats.cancel()

    async def _send_heartbeats(self, lost_at: float, ended_at: int) -> None:
        """Send keepalives, whose timestamps tell the server how much time passes without sound."""
        while not self._is_over:
            now = ended_at + round((self._clock.monotonic() - lost_at) * RTP_RATE_HZ)
            if self._limit is not None:
                now = min(now, self._limit)
            if now > self._sent_to:
                self._read_to = self._sent_to = now
                self._packetizer.skip()
                self._uplink.send(self._packetizer.packet(b"", now))
            await self._clock.sleep(REOPEN_S)

    async def _resume_from_device(self, lost_at: float, ended_at: int) -> bool:
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
            await self._close_source()
            return False
        ((block, came_at),) = blocks
        elapsed = round((came_at - lost_at) * RTP_RATE_HZ)
        length = len(block) * RTP_RATE_HZ // block.format.sample_rate_hz
        self._shift = max(self._sent_to, ended_at + elapsed - length)
        self._push(block)
        return True

    # -- from blocks to packets ----------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        """Whether the wanted duration is complete or the session has failed."""
        is_complete = self._limit is not None and self._read_to >= self._limit
        return is_complete or self._uplink.failure is not None

    def _push(self, block: AudioFrame) -> bool:
        """Send the frames that a block completes; return whether another block is wanted."""
        assert self._resampler is not None
        for part in self._resampler.push(block):
            self._send_frames(part)
        self._read_at = self._clock.monotonic()
        self._read_to = self._shift + block.end * RTP_RATE_HZ // block.format.sample_rate_hz
        return not self._is_over

    def _flush_resampler(self) -> None:
        if self._resampler is not None:
            for part in self._resampler.flush():
                self._send_frames(part)
            self._resampler = None

    def _send_frames(self, part: AudioFrame) -> None:
        if self._shift or self._limit is not None:
            part = self._place(part)
            if not len(part):
                return
        for frame in self._framer.push(part):
            self._send(frame)
            self._unmetered.append(frame.samples)

    def _place(self, part: AudioFrame) -> AudioFrame:
        """Move the part to its position in the stream, and cut it at the wanted duration."""
        position, samples = part.position + self._shift, part.samples
        if self._limit is not None:
            samples = samples[: max(0, self._limit - position)]
        return AudioFrame(part.format, samples, position)

    async def _meter(self) -> None:
        while True:
            await self._clock.sleep(self._progress_interval_s)
            self._tell_progress()

    def _tell_progress(self) -> None:
        """Report progress, and the levels of the frames sent since the last report."""
        frames = [self._unmetered.popleft() for _ in range(len(self._unmetered))]
        if frames:
            end = self._end
            levels = measure(AudioFrame(self._format, np.concatenate(frames)))
            self._events.publish(SoundSent(end / RTP_RATE_HZ, levels, self._lost_s))

    def _end_sound(self) -> None:
        """Send what is left, with enough silence to flush the encoder's look-ahead.

        The length is rounded up to 10 ms, so the recording is at most 16.5 ms longer than the
        source.
        """
        self._flush_resampler()
        self._tell_progress()
        tail = self._framer.tail()
        samples = silence(self._format, 0) if tail is None else tail.samples
        position = self._end if tail is None else tail.position
        if not self._is_sounding and not len(samples):
            return  # no sound was sent since the last call
        missing = -(len(samples) + self._encoder.look_ahead) % STEP_SAMPLES
        filler = silence(self._format, self._encoder.look_ahead + missing)
        rest = np.concatenate([samples, filler])
        for start in range(0, len(rest), FRAME_SAMPLES):
            part = rest[start : start + FRAME_SAMPLES]
            frame = AudioFrame(self._format, part, position + start)
            self._send(frame, last=start + FRAME_SAMPLES >= len(rest))
        self._end = position + len(samples)
        self._is_sounding = False

    def _send(self, frame: AudioFrame, *, last: bool = False) -> None:
        if self._sent_to and (frame.position > self._sent_to or not self._is_sounding):
            self._packetizer.skip()
            self._encoder.reset()  # its FEC would describe the sound before the hole
        self._end = self._sent_to = frame.position + len(frame.samples)
        self._is_sounding = True
        if (payload := self._encoder.encode(frame, last=last)) is not None:
            self._uplink.send(self._packetizer.packet(payload, frame.position))
