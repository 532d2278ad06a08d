"""Pieces of sound on their way from the decoder to the store: samples, or encoded packets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from domain.sound.formats import Samples


@dataclass(slots=True)
class EncodedSound:
    """A packet stored as received, without decoding."""

    payload: bytes
    length: int
    """Samples per channel of its sound."""

    def __len__(self) -> int:
        return self.length


Sound: TypeAlias = Samples | EncodedSound
"""Samples or an encoded packet; `len` gives samples per channel."""


def skip(pieces: Sequence[Sound], count: int) -> tuple[list[Sound], int]:
    """Return the pieces without their first `count` samples, and how many extra were dropped.

    A packet cannot be cut. If its beginning has to go, the whole packet is dropped; the second
    value counts the samples that are therefore missing before the remaining pieces.
    """
    left: list[Sound] = []
    missing = 0
    for piece in pieces:
        if count >= len(piece):
            count -= len(piece)
        elif count and isinstance(piece, EncodedSound):
            missing, count = len(piece) - count, 0
        else:
            left.append(piece if isinstance(piece, EncodedSound) else piece[count:])
            count = 0
    return left, missing


def split(pieces: Sequence[Sound], room: int) -> tuple[Sequence[Sound], Sequence[Sound]]:
    """Split into the pieces that fit into `room` samples and the rest; packets are not cut."""
    for index, piece in enumerate(pieces):
        if len(piece) > room:
            fitting, rest = list(pieces[:index]), list(pieces[index:])
            if room and not isinstance(piece, EncodedSound):
                fitting.append(piece[:room])
                rest[0] = piece[room:]
            return fitting, rest
        room -= len(piece)
    return pieces, ()
