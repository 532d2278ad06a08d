"""Packets kept as they came, to be decoded later."""

from __future__ import annotations

from domain.errors import PayloadInvalid
from domain.sound import opus
from domain.sound.pieces import EncodedSound, Sound


class PassthroughDecoder:
    """Stands where a decoder does, and decodes nothing.

    What is lost stays lost for now: whoever decodes the packets later conceals it, and finds in
    the packet behind it what its FEC has of it.
    """

    def __init__(self) -> None:
        self._gathered: list[Sound] = []

    def decode(self, payload: bytes) -> int:
        length = opus.packet_samples(payload)
        if opus.is_filler(payload):
            raise PayloadInvalid("a packet that stands for a gap")
        self._gathered.append(EncodedSound(payload, length))
        return length

    def recoverable(self, payload: bytes) -> int:
        return 0

    def recover(self, payload: bytes) -> int:
        raise PayloadInvalid("nothing is recovered before it is decoded")

    def conceal(self, length: int) -> int:
        return 0

    def collect(self) -> list[Sound]:
        gathered, self._gathered = self._gathered, []
        return gathered
