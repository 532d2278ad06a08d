"""Decodes a range of an Ogg Opus file."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from adapters.storage.ogg.opus import read_packets
from domain.errors import InputUnreadable
from domain.recording.ledger import Ledger, Span
from domain.recording.rendering import render
from domain.sound.decoding import Decoder
from domain.sound.formats import AudioFormat, Samples, silence
from domain.sound.pieces import EncodedSound

_RATE_HZ = 48_000
_PREROLL = 19_200
"""Samples to decode before the first wanted one: 400 ms.

RFC 7845 § 4.6 recommends 80 ms. After 80 ms, speech still differs by up to 4 % of full scale from
the result of decoding the whole file; after 400 ms it differs by 0.1 % (measured)."""


def decode_range(
    descriptor: int,
    ledger: Ledger,
    decoder: Decoder,
    audio_format: AudioFormat,
    *,
    start: int,
    stop: int,
) -> Samples:
    """Return the samples from `start` up to `stop`, shape (n, channels).

    Raises `InputUnreadable` if packets and ledger contradict each other.
    """
    samples = silence(audio_format, stop - start)
    base, packets, spans = _select(descriptor, ledger, first=max(0, start - _PREROLL), stop=stop)
    events = [
        replace(event, position=event.position - base)
        for event in ledger.events
        if event.position >= base
    ]
    position = base
    for run in render(packets, spans, events, decoder, sample_rate_hz=_RATE_HZ):
        for piece in run.pieces:
            assert not isinstance(piece, EncodedSound)
            at, behind = max(position, start), min(position + len(piece), stop)
            if at < behind:
                samples[at - start : behind - start] = piece[at - position : behind - position]
            position += len(piece)
        if not run.pieces:
            position += run.length
    return samples


def decode_all(
    descriptor: int,
    ledger: Ledger,
    decoder: Decoder,
    audio_format: AudioFormat,
    *,
    length: int,
    at_most: int,
) -> Iterator[Samples]:
    """Return the first `length` samples of a file in order, in blocks of at most `at_most`.

    Sound may be added to the file meanwhile. Raises `InputUnreadable` if packets and ledger
    contradict each other.
    """
    packets = (
        EncodedSound(packet.payload, packet.samples)
        for packet in itertools.takewhile(
            lambda packet: packet.position < length, read_packets(descriptor)
        )
        if not packet.is_gap
    )
    runs = render(packets, list(ledger.spans()), ledger.events, decoder, sample_rate_hz=_RATE_HZ)
    for run in runs:
        if not run.pieces:
            yield from silent_blocks(audio_format, run.length, at_most)
        for piece in run.pieces:
            assert not isinstance(piece, EncodedSound)
            for start in range(0, len(piece), at_most):
                yield piece[start : start + at_most]


def silent_blocks(audio_format: AudioFormat, length: int, at_most: int) -> Iterator[Samples]:
    """Return silence in blocks of at most `at_most` samples."""
    for start in range(0, length, at_most):
        yield silence(audio_format, min(at_most, length - start))


def _select(
    descriptor: int, ledger: Ledger, *, first: int, stop: int
) -> tuple[int, list[EncodedSound], Sequence[Span]]:
    """Return the position of the first packet of a range, and packets and spans from there on.

    The spans count from that packet.
    """
    found = (item for item in read_packets(descriptor) if not item.is_gap)
    packets: list[EncodedSound] = []
    spans: list[Span] = []
    for span in itertools.takewhile(lambda span: span.start < stop, ledger.spans()):
        at, end = span.start, span.start + span.length
        begin = None if span.kind.has_packet else max(at, first)
        while span.kind.has_packet and at < min(end, stop):
            packet = next(found, None)
            if packet is None:
                raise InputUnreadable(f"the packet at sample {at} is missing")
            if at + packet.samples > first:
                packets.append(EncodedSound(packet.payload, packet.samples))
                begin = at if begin is None else begin
            at += packet.samples
        end = at if span.kind.has_packet else min(end, stop)
        if packets and begin is not None and begin < end:
            spans.append(Span(begin, end - begin, span.kind))
    base = spans[0].start if spans else stop
    return base, packets, [replace(span, start=span.start - base) for span in spans]
