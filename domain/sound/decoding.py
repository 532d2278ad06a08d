"""The interface of a decoder of one stream."""

from __future__ import annotations

from typing import Protocol

from domain.sound.pieces import Sound


class Decoder(Protocol):
    """A stateful decoder of one stream. Decoded sound accumulates until `collect` returns it.

    Lengths are in samples per channel.
    """

    def decode(self, payload: bytes) -> int:
        """Decode a packet and return the length of its sound.

        Raises `PayloadInvalid`. An invalid payload leaves the decoder usable: the next valid one
        decodes.
        """

    def recoverable(self, payload: bytes) -> int:
        """Return how many samples directly before this packet its in-band FEC carries; 0 for none.

        Raises `PayloadInvalid`.
        """

    def recover(self, payload: bytes) -> int:
        """Decode the samples that the packet's FEC carries; `decode` the packet itself afterwards.

        Raises `PayloadInvalid`.
        """

    def conceal(self, length: int) -> int:
        """Conceal up to `length` samples after the last sound and return how many were made.

        A codec without concealment returns 0.
        """

    def collect(self) -> list[Sound]:
        """Return the sound decoded since the last call; samples have shape (n, channels), s16."""
