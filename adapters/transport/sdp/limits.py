"""Limits of descriptions: nobody may occupy the event loop with a large one."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.transport.sdp.syntax import MediaSection, Section
from domain.errors import OfferRejected

MAX_SDP_BYTES = 100_000
MAX_SDP_LINES = 3000
MAX_MEDIA_LINES = 128
MAX_FORMATS = 128
"""Formats of one m-line: RTP has no more payload types."""
MAX_ATTRIBUTES = {"group": 16, "rtpmap": 128, "fmtp": 256, "extmap": 256}
"""Attributes of one m-line, or of the session, by name."""


def check_size(text: str) -> None:
    """Check a description before it is read. Raises `OfferRejected`."""
    if len(text) > MAX_SDP_BYTES:
        raise OfferRejected(f"the SDP is longer than {MAX_SDP_BYTES} bytes")
    if len(text.splitlines()) > MAX_SDP_LINES:
        raise OfferRejected(f"the SDP has more than {MAX_SDP_LINES} lines")


def check_counts(session: Section, media: Sequence[MediaSection]) -> None:
    """Check the number of m-lines, of their formats and of attributes. Raises `OfferRejected`."""
    if len(media) > MAX_MEDIA_LINES:
        raise OfferRejected(f"the SDP has more than {MAX_MEDIA_LINES} m-lines")
    if any(len(item.formats) > MAX_FORMATS for item in media):
        raise OfferRejected(f"an m-line of the SDP has more than {MAX_FORMATS} formats")
    for section in (session, *media):
        for name, most in MAX_ATTRIBUTES.items():
            if len(section.all(name)) > most:
                raise OfferRejected(f"the SDP has more than {most} attributes a={name} in one part")
