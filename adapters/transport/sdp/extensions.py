"""RTP header extensions in offers and answers (RFC 8285)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.transport.sdp.syntax import Section

MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
"""The mid of the packet's m-line (RFC 9143 § 15)."""
CAPTURE_TIME_URI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
"""When the first sample of the packet was captured, by the sender's clock. Answered wherever it is
offered. abs-send-time is not: Chromium then probes the bandwidth with packets of padding."""

_EXTMAP = re.compile(r"([0-9]{1,3})(/sendrecv|/sendonly)? ([^ ]+)(?: |$)", re.ASCII)
# this end only receives (RFC 8285 § 7)
_ANSWERED = {"/sendonly": "/recvonly", "/sendrecv": "/recvonly", "": ""}


@dataclass(frozen=True, slots=True)
class HeaderExtension:
    """A header extension of an m-line."""

    id: int
    direction: str = ""
    """The direction to answer, with its slash; empty if the offer has none (RFC 8285 § 5)."""


def read_extensions(sections: Sequence[Section]) -> Mapping[str, HeaderExtension]:
    """Return the extensions that this end can use, by URI; the first of each is used."""
    extensions: dict[str, HeaderExtension] = {}
    for attribute in [item for section in sections for item in section.all("extmap")]:
        if (found := _EXTMAP.match(attribute.value)) and found[3] in (MID_URI, CAPTURE_TIME_URI):
            number = int(found[1])
            # a larger number is provisional (RFC 8285 § 6)
            if 1 <= number <= 255:
                direction = _ANSWERED[found[2] or ""]
                extensions.setdefault(found[3], HeaderExtension(number, direction))
    return extensions
