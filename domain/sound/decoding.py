"""What decodes the packets of one stream."""

from __future__ import annotations

from typing import Protocol

from domain.sound.pieces import Sound


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

    def collect(self) -> list[Sound]:
        """What has gathered since the last time; samples have shape (n, channels), s16."""
