"""Pieces of sound, decoded or not, between the decoder and the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from domain.sound.formats import Samples


@dataclass(slots=True)
class EncodedSound:
    """A packet that is kept as it came."""

    payload: bytes
    length: int
    """Samples per channel that it decodes to."""

    def __len__(self) -> int:
        return self.length


Sound: TypeAlias = Samples | EncodedSound
"""A piece of sound, decoded or not; its `len` is in samples per channel."""


def skip(pieces: Sequence[Sound], count: int) -> tuple[list[Sound], int]:
    """The pieces without their first `count` samples.

    A packet cannot be cut: one whose beginning is to go goes as a whole. The second value says
    how many samples are missing by that, before what is left.
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
    """The pieces that fit into `room` samples, and the rest; packets are not cut."""
    for index, piece in enumerate(pieces):
        if len(piece) > room:
            fitting, rest = list(pieces[:index]), list(pieces[index:])
            if room and not isinstance(piece, EncodedSound):
                fitting.append(piece[:room])
                rest[0] = piece[room:]
            return fitting, rest
        room -= len(piece)
    return pieces, ()
