"""Codecs and channels that change in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.senders.case import Case, case
from benchmarks.senders.expected import Expected
from benchmarks.senders.player import Negotiated, Offered
from benchmarks.senders.script import PCMU, Item, frames
from benchmarks.senders.sound import equal_channels, opposite_channels, pcmu, tones

_BOTH_CODECS = Offered(codecs=("111 opus/48000/2", "0 PCMU/8000"))
_STEREO = Offered(fmtp="minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1")
_WISHES_STEREO = Offered(fmtp="minptime=10;useinbandfec=1;stereo=1")
"""As Firefox offers it for every microphone: a wish to receive (RFC 7587 § 6.1)."""
_TOLERANCE_S = 0.02


def _opus_then_pcmu(answer: Negotiated) -> Sequence[Item]:
    """A second of Opus, and then PCMU if the server accepted both."""
    packets = frames(4)
    if PCMU not in answer.payload_types:
        return packets
    return [
        *packets[:50],
        *(
            replace(packet, payload=pcmu()[index], payload_type=PCMU, timestamp=index * 160)
            for index, packet in enumerate(packets)
            if index >= 50
        ),
    ]


def _channels(changes: Sequence[tuple[int, int]]) -> list[Item]:
    """Packets with so many channels each: pairs of a count of packets and of channels."""
    payloads: list[bytes] = []
    for count, channels in changes:
        source = tones() if channels == 1 else opposite_channels()
        payloads += source[len(payloads) : len(payloads) + count]
    return [*frames(len(payloads) / 50, payloads=payloads)]


_KEPT = Expected(stereo=True)
_NEW_PART = Expected(stereo=True, tolerance_s=_TOLERANCE_S, events={"change": (1, 1)}, spans=2)

CODECS = [
    Case(
        name="a second of Opus, then PCMU",
        script=_opus_then_pcmu,
        expected=Expected(
            tolerance_s=0.04, events={"change": (0, 1), "timestamps": (0, 1)}, spans=2
        ),
        offered=_BOTH_CODECS,
    ),
    case(
        "mono, after 5 packets stereo; stereo is negotiated",
        _channels([(5, 1), (195, 2)]),
        _KEPT,
        offered=_STEREO,
    ),
    case(
        "mono, after 5 packets stereo; only sprop-stereo is offered",
        _channels([(5, 1), (195, 2)]),
        _KEPT,
        offered=Offered(fmtp="minptime=10;useinbandfec=1;sprop-stereo=1"),
    ),
    case(
        "stereo, a second of mono, stereo; stereo is negotiated",
        _channels([(75, 2), (50, 1), (75, 2)]),
        _KEPT,
        offered=_STEREO,
    ),
    case("mono, after 5 packets stereo; not negotiated", _channels([(5, 1), (195, 2)]), _NEW_PART),
    case("mono, after 2 s stereo; not negotiated", _channels([(100, 1), (100, 2)]), _NEW_PART),
    case(
        "mono as stereo with equal channels, as Firefox sends it",
        frames(4, payloads=equal_channels()),
        Expected(channels=(1,)),
        offered=_WISHES_STEREO,
    ),
    case(
        "mono as stereo with equal channels, after 2 s stereo",
        frames(4, payloads=[*equal_channels()[:100], *opposite_channels()[100:200]]),
        replace(_NEW_PART, channels=(1, 2)),
        offered=_WISHES_STEREO,
    ),
    case(
        "stereo, as Firefox sends it",
        frames(4, payloads=opposite_channels()),
        replace(_KEPT, channels=(2,)),
        offered=_WISHES_STEREO,
    ),
]
