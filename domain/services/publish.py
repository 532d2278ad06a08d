"""The client: from a source of sound to the server."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from domain.audio import AudioFormat, AudioFrame, SampleFormat, silence
from domain.errors import CaptureError, ServerUnreachable
from domain.framing import Framer
from domain.levels import measure
from domain.ports.capture import AudioSource
from domain.ports.codec import Encoder, Resampler
from domain.ports.observers import StreamObserver, StreamProgress
from domain.ports.signaling import SignalingClient
from domain.ports.transport import IceCandidate, PublisherConnection, PublisherTransport

RTP_RATE_HZ = 48_000
"""Opus' RTP clock (RFC 7587 § 4.1), and the rate at which frames are encoded."""
FRAME_SAMPLES = 960
"""20 ms."""
STEP_SAMPLES = 480
"""10 ms, the shortest frame that leaves Opus in the mode in which it is."""


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """What was sent."""

    session_id: str
    seconds: float
    overrun_s: float


class Publisher:
    """Streams one source in one session, from the first block to a clean end.

    Positions are kept from the source to the RTP timestamps: what was lost before it could be
    encoded is missing on the recording's timeline, and does not shorten it.
    """

    def __init__(
        self,
        *,
        source: AudioSource,
        resampler: Resampler,
        encoder: Encoder,
        transport: PublisherTransport,
        signaling: SignalingClient,
        observer: StreamObserver,
        channels: int,
        name: str,
        duration_s: float | None,
    ) -> None:
        self._source = source
        self._resampler = resampler
        self._encoder = encoder
        self._transport = transport
        self._signaling = signaling
        self._observer = observer
        self._name = name
        self._format = AudioFormat(RTP_RATE_HZ, channels, SampleFormat.S16)
        self._framer = Framer(self._format, frame_samples=FRAME_SAMPLES)
        self._limit = None if duration_s is None else round(duration_s * RTP_RATE_HZ)
        self._end = 0  # position behind the last sample sent
        self._complete = False
        self.streaming = False
        """Whether the connection is made, and sound is on its way."""

    def stop(self) -> None:
        """End the source: what is captured is still sent, then `run` returns."""
        self._source.stop()

    async def run(self) -> StreamSummary:
        """Connect, stream until the source ends or `stop` is called, and end the session.

        Raises what the ports raise; everything is released in any case, the source as well.
        """
        session_id: str | None = None
        connection: PublisherConnection | None = None
        try:
            self._observer.connecting()
            connection = self._transport.open()
            answer = await self._signaling.offer(connection.offer_sdp, name=self._name)
            session_id = answer.session_id

            async def send_candidate(candidate: IceCandidate) -> None:
                await self._signaling.send_candidate(answer.session_id, candidate)

            await connection.connect(answer.sdp, send_candidate)
            self.streaming = True
            self._observer.connected(session_id)
            await self._stream(connection)
            self._observer.finishing()
        finally:
            await self._release(connection, session_id)
        return StreamSummary(session_id, self._end / RTP_RATE_HZ, self._overrun_s)

    @property
    def _overrun_s(self) -> float:
        return self._source.overrun_samples / self._source.format.sample_rate_hz

    async def _stream(self, connection: PublisherConnection) -> None:
        """Send until the source ends; what was captured before a device was lost is sent, too."""
        lost: CaptureError | None = None
        try:
            while not self._complete and (block := await self._source.read()) is not None:
                for part in self._resampler.push(block):
                    await self._send_frames(connection, part)
        except CaptureError as error:
            lost = error
        for part in self._resampler.flush():
            await self._send_frames(connection, part)
        await self._send_tail(connection)
        if lost is not None:
            raise lost

    async def _send_frames(self, connection: PublisherConnection, part: AudioFrame) -> None:
        if self._limit is not None and part.end >= self._limit:
            part = AudioFrame(
                part.format, part.samples[: max(0, self._limit - part.position)], part.position
            )
            self._complete = True
        if not len(part):
            return
        for frame in self._framer.push(part):
            await self._send(connection, frame)
            self._end = frame.end
            self._observer.progressed(
                StreamProgress(self._end / RTP_RATE_HZ, measure(frame), self._overrun_s)
            )

    async def _send_tail(self, connection: PublisherConnection) -> None:
        """Send what is left, and enough silence to bring out what the encoder still holds.

        In steps of 10 ms, so that the recording is at most 16.5 ms longer than the source.
        """
        tail = self._framer.tail()
        samples = silence(self._format, 0) if tail is None else tail.samples
        position = self._end if tail is None else tail.position
        if not position and not len(samples):
            return  # there was no sound at all
        self._end = position + len(samples)
        missing = -(len(samples) + self._encoder.look_ahead) % STEP_SAMPLES
        filler = silence(self._format, self._encoder.look_ahead + missing)
        rest = np.concatenate([samples, filler])
        for start in range(0, len(rest), FRAME_SAMPLES):
            part = rest[start : start + FRAME_SAMPLES]
            frame = AudioFrame(self._format, part, position + start)
            await self._send(connection, frame, last=start + FRAME_SAMPLES >= len(rest))

    async def _send(
        self, connection: PublisherConnection, frame: AudioFrame, *, last: bool = False
    ) -> None:
        if (packet := self._encoder.encode(frame, last=last)) is not None:
            await connection.send(packet)

    async def _release(
        self, connection: PublisherConnection | None, session_id: str | None
    ) -> None:
        async with contextlib.AsyncExitStack() as releasing:  # each of them, whatever fails
            releasing.push_async_callback(self._source.close)
            releasing.push_async_callback(self._signaling.close)
            if session_id is not None:
                # asks what became of the recording, and ends it should the goodbye be lost
                releasing.push_async_callback(self._end_session, session_id)
            if connection is not None:
                releasing.push_async_callback(connection.close)

    async def _end_session(self, session_id: str) -> None:
        # a server that is gone by now has heard the goodbye, or will miss the packets
        with contextlib.suppress(ServerUnreachable):
            await self._signaling.delete(session_id)
