"""Compressed sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.audio import AudioFormat, AudioFrame, Sound
from domain.detection import CodecParameters


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


class Decoder(Protocol):
    """A stateful decoder of one stream; its sound gathers until it is taken, all of it together.

    Lengths are in samples per channel.
    """

    def decode(self, payload: bytes) -> int:
        """Decode a packet; the length of its sound. Raises `PayloadInvalid`.

        The decoder is unharmed by an invalid payload: the next good one decodes.
        """

    def recoverable(self, payload: bytes) -> int:
        """Samples directly before this packet that it carries again (in-band FEC); 0 for none.

        Raises `PayloadInvalid`.
        """

    def recover(self, payload: bytes) -> int:
        """Decode those; `decode` the packet itself after it. Raises `PayloadInvalid`."""

    def conceal(self, length: int) -> int:
        """Make up to `length` that go on from the last sound; 0 from a codec that cannot."""

    def take(self) -> list[Sound]:
        """What has gathered since the last time; samples have shape (n, channels), s16."""


class DecoderFactory(Protocol):
    def __call__(self, codec: CodecParameters, audio_format: AudioFormat) -> Decoder:
        """A decoder that delivers `audio_format`. Raises `CodecUnavailable`."""
