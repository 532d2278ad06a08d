"""Packets kept as they came, to be decoded later."""

from __future__ import annotations

from domain import opus
from domain.audio import EncodedSound
from domain.errors import PayloadInvalid


class PacketKeeper:
    """Stands where a decoder does, and decodes nothing.

    What is lost stays lost for now: whoever decodes the packets later conceals it, and finds in
    the packet behind it what its FEC has of it.
    """

    def decode(self, payload: bytes) -> EncodedSound:
        return EncodedSound(payload, opus.packet_samples(payload))

    def recoverable(self, payload: bytes) -> int:
        return 0

    def recover(self, payload: bytes) -> EncodedSound:
        raise PayloadInvalid("nothing is recovered before it is decoded")

    def conceal(self, length: int) -> EncodedSound:
        return EncodedSound(b"", 0)
