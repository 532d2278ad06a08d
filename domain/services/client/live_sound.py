"""The live stream of a client: captured blocks become frames, and frames become packets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from domain.ports.codec import Encoder, Resampler
from domain.rtp.packetizer import RTP_RATE_HZ, Packetizer
from domain.services.client.uplink import Uplink
from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat, Samples, silence
from domain.sound.framing import Framer
from domain.sound.levels import Levels, measure

FRAME_SAMPLES = 960
"""20 ms."""
STEP_SAMPLES = 480
"""10 ms, the shortest frame that does not change Opus' mode."""
METERED_FRAMES = 3000
"""A minute of frames."""


class LiveSound:
    """Encodes and sends captured sound, with each sample at its time.

    Positions in the stream count samples at 48 kHz, as RTP timestamps do. Sound that is missing
    between two blocks leaves a gap in them, and so on the recording's timeline.

    The methods are called in one thread at a time; only `levels` may be called in another one.
    """

    def __init__(
        self,
        *,
        resampler: Callable[[AudioFormat], Resampler],
        encoder: Encoder,
        packetizer: Packetizer,
        uplink: Uplink,
        channels: int,
        limit: int | None,
    ) -> None:
        self._new_resampler = resampler
        self._encoder = encoder
        self._packetizer = packetizer
        self._uplink = uplink
        self._limit = limit
        self._format = AudioFormat(RTP_RATE_HZ, channels, SampleFormat.S16)
        self._framer = Framer(self._format, frame_samples=FRAME_SAMPLES)
        self._resampler: Resampler | None = None
        self._source_format: AudioFormat | None = None  # what the resampler converts
        self._began_at: float | None = None
        # frames sent since the levels were last asked for; only the latest ones are kept
        self._unmetered: deque[Samples] = deque(maxlen=METERED_FRAMES)
        self._is_sounding = False  # frames were sent, and the encoder's tail was not yet
        self.end = 0
        """The position after the last captured sample that was sent."""
        self.sent_to = 0
        """The position after everything sent, including filler and keepalives."""

    def push(self, block: AudioFrame, *, began_at: float | None) -> None:
        """Send the frames that a block completes.

        The block's position counts samples at its own rate from the beginning of the stream.
        `began_at` says when that was, in monotonic seconds, for a source that loses no time. It is
        None for a device, which may stall unnoticed.
        """
        self._began_at = began_at
        if block.format is not self._source_format and block.format != self._source_format:
            self._flush_resampler()
            self._source_format = block.format
        if self._resampler is None:
            self._resampler = self._new_resampler(block.format)
        for part in self._resampler.push(block):
            self._send_frames(part)

    def finish(self) -> None:
        """Send what is left, with enough silence to flush the encoder's look-ahead.

        The length is rounded up to 10 ms, so the recording is at most 16.5 ms longer than the
        source. More sound may follow.
        """
        self._flush_resampler()
        tail = self._framer.tail()
        samples = silence(self._format, 0) if tail is None else tail.samples
        position = self.end if tail is None else tail.position
        if not self._is_sounding and not len(samples):
            return  # no sound was sent since the last call
        missing = -(len(samples) + self._encoder.look_ahead) % STEP_SAMPLES
        filler = silence(self._format, self._encoder.look_ahead + missing)
        rest = np.concatenate([samples, filler])
        for start in range(0, len(rest), FRAME_SAMPLES):
            part = rest[start : start + FRAME_SAMPLES]
            frame = AudioFrame(self._format, part, position + start)
            self._send(frame, last=start + FRAME_SAMPLES >= len(rest))
        self.end = position + len(samples)
        self._is_sounding = False

    def keep_alive(self, position: int) -> None:
        """Tell the server that there was no sound up to a position, if that is news."""
        if position > self.sent_to:
            self.sent_to = position
            self._packetizer.skip()
            self._uplink.send(self._packetizer.packet(b"", position))

    def levels(self) -> Levels | None:
        """Return the levels of the frames sent since the last call; None if there were none."""
        frames = [self._unmetered.popleft() for _ in range(len(self._unmetered))]
        if not frames:
            return None
        return measure(AudioFrame(self._format, np.concatenate(frames)))

    def _flush_resampler(self) -> None:
        if self._resampler is not None:
            for part in self._resampler.flush():
                self._send_frames(part)
            self._resampler = None

    def _send_frames(self, part: AudioFrame) -> None:
        if self._limit is not None:
            samples = part.samples[: max(0, self._limit - part.position)]
            if not len(samples):
                return
            part = AudioFrame(part.format, samples, part.position)
        for frame in self._framer.push(part):
            self._send(frame)
            self._unmetered.append(frame.samples)

    def _send(self, frame: AudioFrame, *, last: bool = False) -> None:
        if self.sent_to and (frame.position > self.sent_to or not self._is_sounding):
            self._packetizer.skip()
            self._encoder.reset()  # its FEC would describe the sound before the hole
        self.end = self.sent_to = frame.position + len(frame.samples)
        self._is_sounding = True
        if (payload := self._encoder.encode(frame, last=last)) is not None:
            packet = self._packetizer.packet(payload, frame.position)
            if self._began_at is not None:
                packet.captured_s = self._began_at + frame.position / RTP_RATE_HZ
            self._uplink.send(packet)
