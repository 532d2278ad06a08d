"""Retransmission in SDP: generic NACKs (RFC 4585 § 4.2), and RTX (RFC 4588 § 8)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from adapters.transport.sdp.syntax import MediaSection

_NACK = re.compile(r"(\*|[0-9]{1,3}) nack", re.ASCII)
_RTX = re.compile(r"([0-9]{1,3}) (rtx/[0-9]{1,6}(?:/[0-9])?)", re.ASCII | re.IGNORECASE)
_APT = re.compile(r"([0-9]{1,3}) (?:.*;)? *apt=([0-9]{1,3}) *(?:;.*)?", re.ASCII)
_FID = re.compile(r"FID ([0-9]{1,10}) ([0-9]{1,10})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Retransmission:
    """How an m-line's packets can be sent again."""

    nack: frozenset[int] = frozenset()
    """Payload types for which NACKs are negotiated."""
    rtx: Mapping[int, int] = field(default_factory=dict)
    """Payload types of retransmission streams, each with that of the original stream."""
    formats: Mapping[int, str] = field(default_factory=dict)
    """What their payload types stand for, as ``rtpmap`` states it."""
    sources: Mapping[int, int] = field(default_factory=dict)
    """SSRCs of retransmission streams, each with that of the original stream (RFC 5576 § 4.2)."""


def read_retransmission(media: MediaSection, codecs: Collection[int]) -> Retransmission:
    """What an m-line says of retransmission; `codecs` are the payload types that are used."""
    nack: set[int] = set()
    for found in _matches(_NACK, media, "rtcp-fb"):
        nack.update(codecs if found[1] == "*" else [int(found[1])])
    wrapped = {int(found[1]): int(found[2]) for found in _matches(_APT, media, "fmtp")}
    rtx = {int(found[1]): found[2] for found in _matches(_RTX, media, "rtpmap")}
    return Retransmission(
        frozenset(nack.intersection(codecs)),
        {
            payload_type: wrapped[payload_type]
            for payload_type in rtx
            if wrapped.get(payload_type) in codecs and payload_type in media.payload_types
        },
        rtx,
        {int(found[2]): int(found[1]) for found in _matches(_FID, media, "ssrc-group")},
    )


def _matches(
    pattern: re.Pattern[str], media: MediaSection, attribute: str
) -> Iterator[re.Match[str]]:
    for item in media.all(attribute):
        if found := pattern.fullmatch(item.value):
            yield found


def retransmission_lines(retransmission: Retransmission, codecs: Collection[int]) -> list[str]:
    """The attributes of an answer with the codecs of these payload types."""
    lines = [f"a=rtcp-fb:{codec} nack" for codec in codecs if codec in retransmission.nack]
    for payload_type, original in answered_rtx(retransmission, codecs).items():
        lines.append(f"a=rtpmap:{payload_type} {retransmission.formats[payload_type]}")
        lines.append(f"a=fmtp:{payload_type} apt={original}")
    return lines


def answered_rtx(retransmission: Retransmission, codecs: Collection[int]) -> Mapping[int, int]:
    """The retransmission streams of the codecs that are answered."""
    return {
        payload_type: original
        for payload_type, original in retransmission.rtx.items()
        if original in codecs
    }
