"""Decodes stored packets into the samples that decoding on arrival would have given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from domain.errors import InputUnreadable
from domain.recording.ledger import LedgerEvent, SampleKind, Span
from domain.recording.reconstruction import Reconstructor
from domain.rtp.counters import signed
from domain.rtp.order import Lost, Restarted, Slot
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import Recovered
from domain.sound.decoding import Decoder
from domain.sound.pieces import EncodedSound, Sound

_LONGEST_S = 86_400.0
_TOGETHER = 50
"""Packets that are decoded and written in one batch."""
_BREAKS = ("discontinuity", "reconnected", "process restarted")
"""Events after which the decoder must not rely on the packets before."""


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """The next run of sound, or `length` samples without any."""

    pieces: Sequence[Sound]
    length: int
    kind: SampleKind


def render(
    packets: Iterable[EncodedSound],
    spans: Sequence[Span],
    events: Sequence[LedgerEvent],
    decoder: Decoder,
    *,
    sample_rate_hz: int,
) -> Iterator[Rendered]:
    """Decode packets, and reconstruct lost ones as the server would have done.

    `packets` are those of the received and recovered spans, in order. The output is as long as
    the spans. Raises `InputUnreadable` when packets and spans do not match.
    """
    reconstructor = Reconstructor(
        decoder,
        clock_rate_hz=sample_rate_hz,
        sample_rate_hz=sample_rate_hz,
        max_gap_s=_LONGEST_S,
    )
    position = 0
    for slots in _together(_slots(iter(packets), spans, events)):
        for run in reconstructor.process(slots):
            gap = signed(run.timestamp - position, bits=32)
            if gap:
                yield Rendered((), gap, run.gap_kind)
            if run.pieces:
                yield Rendered(run.pieces, run.length, run.kind)
            position += gap + run.length
    end = spans[-1].start + spans[-1].length if spans else 0
    if position < end:  # packets were lost at the very end, or cannot be decoded
        yield Rendered((), end - position, SampleKind.SILENCE)


def _slots(
    packets: Iterator[EncodedSound], spans: Sequence[Span], events: Sequence[LedgerEvent]
) -> Iterator[Slot]:
    breaks = {event.position for event in events if event.type in _BREAKS}
    sequence = 0
    for span in spans:
        position, end = span.start, span.start + span.length
        if span.start in breaks:
            yield Restarted()
        elif span.kind is SampleKind.SILENCE:
            yield Lost(1)
        if not span.kind.has_packet:
            continue
        make = RtpPacket if span.kind is SampleKind.RECEIVED else Recovered
        while position < end:
            packet = next(packets, None)
            if packet is None:
                raise InputUnreadable(f"the packet at sample {position} is missing")
            yield make(0, sequence, position % 2**32, 0, packet.payload)
            sequence = (sequence + 1) % 2**16
            position += packet.length
        if position != end:
            raise InputUnreadable(f"the ledger and the packets differ at sample {end}")
    if next(packets, None) is not None:
        raise InputUnreadable("there are more packets than the ledger lists")


def _together(slots: Iterator[Slot]) -> Iterator[list[Slot]]:
    batch: list[Slot] = []
    for slot in slots:
        batch.append(slot)
        if len(batch) >= _TOGETHER:
            yield batch
            batch = []
    yield batch
