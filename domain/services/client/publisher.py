"""The client: from a source of sound to the server."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from domain.errors import CaptureError, DeviceLost, GaplessError
from domain.events import CaptureStarted, MicrophoneLost, MicrophoneReturned, SoundSent, SourceEnded
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
"""10 ms, the shortest frame that leaves Opus in the mode in which it is."""
METERED_FRAMES = 3000
"""A minute."""
REOPEN_S = 0.5
"""A device that has gone is looked for so often; the server hears as often that we live."""


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """What was sent."""

    session_id: str
    seconds: float
    lost_s: float
    """Sound that was lost before it could be sent."""
    safe_s: float | None
    """What the server has recorded and completed, where it said so."""


class Publisher:
    """Streams one source in one session, from the first block to a clean end.

    Positions are kept from the source to the RTP timestamps: what was lost before it could be
    encoded is missing on the recording's timeline, and does not shorten it. That holds for a
    device that goes and comes back, too: the clock says how long it was gone.

    What becomes of a block until it is sent is done where the source delivers it, in a thread of
    its own (`_push` and all that it calls). As long as it delivers, nothing else does any of that;
    only the meter looks at what was sent.
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
        self._shift = 0  # from the source's positions to the stream's
        self._end = 0  # position behind the last sample of the source that was sent
        self._sent_to = 0  # position behind all that was sent
        # frames sent of which no levels were told; the latest, should nobody look for long
        self._unmetered: deque[Samples] = deque(maxlen=METERED_FRAMES)
        self._is_sounding = False  # frames have been sent that have no tail yet
        self._read_at = 0.0
        self._read_to = 0  # position behind the last sample read
        self._lost = 0  # samples, of sources that are closed
        self._stopped = False
        self.streaming = False
        """Whether the connection is made, and sound is on its way."""

    def stop(self) -> None:
        """End the source: what is captured is still sent, then `run` returns."""
        self._stopped = True
        if self._source is not None:
            self._source.stop()

    async def run(self) -> StreamSummary:
        """Connect, stream until the source ends or `stop` is called, and end the session.

        A server that is not there is waited for. Raises what the ports raise; everything is
        released in any case, the source as well.
        """
        try:
            # a wrong device is told of before anybody is called
            await self._open_source()
            self._events.publish(CaptureStarted())
            while not await self._uplink.open():
                # nobody listens: the microphone is let go until somebody does
                await self._close_source()
            if self._source is not None and self._source.overrun_samples:
                # to connect took longer than sound is kept for: what there is of it is old
                await self._close_source()
            if self._source is None:
                await self._open_source()
                self._lost = 0  # what nobody was there to hear is not lost
            self.streaming = True
            failure = await self._stream()
            await self._close_source()
            self._events.publish(SourceEnded())
            safe_s = await self._uplink.close()
        finally:
            async with contextlib.AsyncExitStack() as releasing:  # each of them, whatever fails
                releasing.push_async_callback(self._uplink.abandon)
                releasing.push_async_callback(self._close_source)
        if failure is not None:
            raise failure
        seconds = self._end / RTP_RATE_HZ
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
            # should it go, it is this one that is waited for: by its number, or as the default,
            # another microphone would be there
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
        """Send until the source ends; what was captured before it failed is sent, too."""
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
        """Until it is back, or `stop` is called: no sound, but the server hears that we live."""
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
        """Tell the server how time goes by without a sound."""
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
        """Whether the reopened device delivers; its first block tells where it goes on."""
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
        """Whether nothing more is wanted, by us or by the server."""
        is_complete = self._limit is not None and self._read_to >= self._limit
        return is_complete or self._uplink.failure is not None

    def _push(self, block: AudioFrame) -> bool:
        """Send what a block completes; whether another one is wanted."""
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
        """The part at its place in the stream, as far as it is wanted."""
        position, samples = part.position + self._shift, part.samples
        if self._limit is not None:
            samples = samples[: max(0, self._limit - position)]
        return AudioFrame(part.format, samples, position)

    async def _meter(self) -> None:
        while True:
            await self._clock.sleep(self._progress_interval_s)
            self._tell_progress()

    def _tell_progress(self) -> None:
        """What a meter shows, at the pace of whoever looks at it."""
        frames = [self._unmetered.popleft() for _ in range(len(self._unmetered))]
        if frames:
            end = self._end
            levels = measure(AudioFrame(self._format, np.concatenate(frames)))
            self._events.publish(SoundSent(end / RTP_RATE_HZ, levels, self._lost_s))

    def _end_sound(self) -> None:
        """Send what is left, and enough silence to bring out what the encoder still holds.

        In steps of 10 ms, so that the recording is at most 16.5 ms longer than the source.
        """
        self._flush_resampler()
        self._tell_progress()
        tail = self._framer.tail()
        samples = silence(self._format, 0) if tail is None else tail.samples
        position = self._end if tail is None else tail.position
        if not self._is_sounding and not len(samples):
            return  # there was no sound since the last end of it
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
            self._encoder.reset()  # its redundancy would speak of what was before the hole
        self._end = self._sent_to = frame.position + len(frame.samples)
        self._is_sounding = True
        if (payload := self._encoder.encode(frame, last=last)) is not None:
            self._uplink.send(self._packetizer.packet(payload, frame.position))
