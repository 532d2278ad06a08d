"""Ports for encoding, decoding and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.sound.decoding import Decoder
from domain.sound.detection import CodecParameters
from domain.sound.formats import AudioFormat, AudioFrame


class Encoder(Protocol):
    """An Opus encoder."""

    @property
    def look_ahead(self) -> int:
        """Samples by which the decoded sound lags the encoded one."""

    def encode(self, frame: AudioFrame, *, last: bool = False) -> bytes | None:
        """Encode a frame of 10 or 20 ms; returns None if DTX sends nothing for it.

        The `last` frame always yields a payload, because it marks the end of the silence before it.
        """

    def reset(self) -> None:
        """Forget the sound encoded so far; the next frame does not continue it."""


class Resampler(Protocol):
    """Converts blocks of any format to the encoder's format."""

    def push(self, block: AudioFrame) -> Sequence[AudioFrame]:
        """Convert a block; return the samples ready so far, with positions at the new rate."""

    def flush(self) -> Sequence[AudioFrame]:
        """Return the samples that the filter still holds at the end."""


class DecoderFactory(Protocol):
    def __call__(self, codec: CodecParameters, audio_format: AudioFormat) -> Decoder:
        """Return a decoder that delivers `audio_format`; raises `CodecUnavailable`."""
