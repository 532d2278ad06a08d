"""Compressed sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.sound.decoding import Decoder
from domain.sound.detection import CodecParameters
from domain.sound.formats import AudioFormat, AudioFrame


class Encoder(Protocol):
    """Opus."""

    @property
    def look_ahead(self) -> int:
        """Samples by which decoded sound is behind what was encoded."""

    def encode(self, frame: AudioFrame, *, last: bool = False) -> bytes | None:
        """The payload for a frame of 10 or 20 ms; None when DTX has nothing to send for it.

        The `last` one is always sent: without it the silence before it would have no end.
        """

    def reset(self) -> None:
        """What follows is not the continuation of what was encoded."""


class Resampler(Protocol):
    """Brings blocks of any format to the one format that the encoder takes."""

    def push(self, block: AudioFrame) -> Sequence[AudioFrame]:
        """The converted samples that this block completes, with positions at the new rate."""

    def flush(self) -> Sequence[AudioFrame]:
        """What the filter still holds, at the end."""


class DecoderFactory(Protocol):
    def __call__(self, codec: CodecParameters, audio_format: AudioFormat) -> Decoder:
        """A decoder that delivers `audio_format`. Raises `CodecUnavailable`."""
