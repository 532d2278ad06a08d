"""Sound in the messages of a live tap: what the server writes and the client reads."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import numpy as np

from domain.errors import WrongServer
from domain.ports.tap import Heard
from domain.recording.ledger import SampleKind

HEADER = struct.Struct("<QIBBH")
"""Position, length in samples per channel, number of the kind, channels, flags."""
WITHOUT_SAMPLES = 1
"""Flag of a message that has no samples: they are all zero."""
NUMBERS: Mapping[SampleKind, int] = {kind: number for number, kind in enumerate(SampleKind)}
MAX_SAMPLES = 65_536
"""Of a message. A message is at most 256 kB long, since a recording has at most two channels."""


def write_frames(heard: Heard) -> Iterator[bytes]:
    """Yield the messages for a piece of sound."""
    if heard.samples is None:
        number = NUMBERS[heard.kind]
        yield HEADER.pack(heard.position, heard.length, number, heard.channels, WITHOUT_SAMPLES)
        return
    for begin in range(0, heard.length, MAX_SAMPLES):
        samples = heard.samples[begin : begin + MAX_SAMPLES]
        position, number = heard.position + begin, NUMBERS[heard.kind]
        header = HEADER.pack(position, len(samples), number, heard.channels, 0)
        yield header + samples.astype("<i2", copy=False).tobytes()


def read_frame(message: bytes, kinds: Mapping[int, SampleKind]) -> Heard:
    """Read a message; `kinds` has the server's numbers. Raises `WrongServer`."""
    try:
        position, length, number, channels, flags = HEADER.unpack_from(message)
        samples = None
        if not flags & WITHOUT_SAMPLES:
            samples = np.frombuffer(message, "<i2", offset=HEADER.size).reshape(length, channels)
        return Heard(position, length, kinds.get(number, SampleKind.SILENCE), channels, samples)
    except (struct.error, ValueError) as error:
        raise WrongServer(f"the server has sent sound that cannot be read: {error}") from error
