"""Stores packets as received, to be decoded later."""

from __future__ import annotations

from domain.errors import PayloadInvalid
from domain.sound import opus
from domain.sound.pieces import EncodedSound, Sound


class PassthroughDecoder:
    """A `Decoder` that passes packets on without decoding them.

    Losses stay losses for now. Decoding later conceals them, and uses the FEC in the packet
    after a loss.
    """

    def __init__(self) -> None:
        self._gathered: list[Sound] = []

    def decode(self, payload: bytes) -> int:
        length = opus.packet_samples(payload)
        if opus.is_filler(payload):
            raise PayloadInvalid("the packet stands for a gap")
        self._gathered.append(EncodedSound(payload, length))
        return length

    def recoverable(self, payload: bytes) -> int:
        return 0

    def recover(self, payload: bytes) -> int:
        raise PayloadInvalid("packets that are stored undecoded cannot be recovered by FEC")

    def conceal(self, length: int) -> int:
        return 0

    def collect(self) -> list[Sound]:
        gathered, self._gathered = self._gathered, []
        return gathered
