"""Turns blocks of any size into frames of one fixed size."""

from __future__ import annotations

import numpy as np

from domain.sound.formats import AudioFormat, AudioFrame, Samples, silence


class Framer:
    """Cuts a stream of blocks into frames of `frame_samples`, each at its true position.

    For contiguous blocks nothing is lost, added or repeated: the frames and the tail together
    equal the blocks. After a gap between blocks (a capture overrun), the framer pads the
    current frame with silence, skips whole frames of the gap, and moves the next frame's
    position on: time is never shortened.
    """

    def __init__(self, audio_format: AudioFormat, *, frame_samples: int = 960) -> None:
        if frame_samples <= 0:
            raise ValueError(f"frame_samples is {frame_samples}, not positive")
        self.format = audio_format
        self.frame_samples = frame_samples
        self._pending: list[Samples] = []
        self._pending_length = 0
        self._start = 0  # the first pending sample's position

    def push(self, block: AudioFrame) -> list[AudioFrame]:
        """Add a block and return the frames that it completes.

        Raises `ValueError` for a block in another format, or one whose position lies in the past.
        """
        if block.format is not self.format and block.format != self.format:
            raise ValueError(f"the block is {block.format}, but the stream is {self.format}")
        end = self._start + self._pending_length
        if block.position < end:
            raise ValueError(
                f"the block starts at {block.position}, but the stream is already at {end}"
            )
        frames = self._bridge(block.position) if block.position > end else []
        if not self._pending_length and len(block.samples) == self.frame_samples:
            self._start = block.position + self.frame_samples
            frames.append(block)  # the block is exactly one frame
            return frames
        self._append(block.samples)
        return frames + self._whole_frames()

    def tail(self) -> AudioFrame | None:
        """Remove and return what is left at the end: less than one frame, or None."""
        if not self._pending_length:
            return None
        samples = self._cut(self._pending_length)
        return AudioFrame(self.format, samples, self._start - len(samples))

    def _bridge(self, position: int) -> list[AudioFrame]:
        """Complete the current frame with silence and advance towards `position`."""
        gap = position - self._start - self._pending_length
        frames: list[AudioFrame] = []
        if self._pending_length:
            filler = min(gap, self.frame_samples - self._pending_length)
            self._append(silence(self.format, filler))
            gap -= filler
            frames = self._whole_frames()
        if not self._pending_length:
            self._start += gap
        return frames

    def _append(self, samples: Samples) -> None:
        if len(samples):
            self._pending.append(samples)
            self._pending_length += len(samples)

    def _whole_frames(self) -> list[AudioFrame]:
        frames: list[AudioFrame] = []
        while self._pending_length >= self.frame_samples:
            position = self._start
            frames.append(AudioFrame(self.format, self._cut(self.frame_samples), position))
        return frames

    def _cut(self, length: int) -> Samples:
        joined = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        rest = joined[length:]
        self._pending = [rest] if len(rest) else []
        self._pending_length = len(rest)
        self._start += length
        return joined[:length]
