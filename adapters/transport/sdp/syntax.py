"""The syntax of SDP (RFC 8866): the session part, and the m-lines with their attributes.

Reading takes linear time. Lines that are not used are not checked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from domain.errors import OfferRejected

_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
_MEDIA = re.compile(r"m=(\S+) ([0-9]{1,5})(?:/[0-9]+)? (\S+) (\S.*)", re.ASCII)
_PAYLOAD_TYPE = re.compile("[0-9]{1,3}", re.ASCII)
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute: ``a=NAME`` or ``a=NAME:VALUE``."""

    name: str
    value: str
    line: int
    """The number of its line, from 1."""

    def __str__(self) -> str:
        return f"a={self.name}:{self.value}" if self.value else f"a={self.name}"

    def unreadable(self, problem: str) -> OfferRejected:
        """The error for an attribute whose value cannot be read."""
        return unreadable(self.line, str(self), problem)


@dataclass(slots=True)
class Section:
    """The attributes of the session, or those of one m-line."""

    attributes: dict[str, list[Attribute]] = field(default_factory=dict)

    def all(self, name: str) -> Sequence[Attribute]:
        """The attributes of a name, in their order."""
        return self.attributes.get(name, ())

    def last(self, name: str) -> Attribute | None:
        """The last attribute of a name: it overrides the earlier ones."""
        found = self.attributes.get(name)
        return found[-1] if found else None

    def has(self, name: str) -> bool:
        return name in self.attributes

    @property
    def direction(self) -> str | None:
        """The direction attribute; None if there is none."""
        found = [item for name in _DIRECTIONS for item in self.all(name)]
        return max(found, key=lambda item: item.line).name if found else None


@dataclass(slots=True)
class MediaSection(Section):
    """An m-line (``m=KIND PORT PROFILE FORMATS``) with its attributes."""

    kind: str = ""
    port: int = 0
    profile: str = ""
    formats: Sequence[str] = ()

    @property
    def mid(self) -> str:
        """The identification of the m-line (RFC 5888); empty if it has none."""
        found = self.last("mid")
        return found.value if found else ""

    @property
    def payload_types(self) -> Sequence[int]:
        """The formats of an RTP m-line that are payload types."""
        return [int(item) for item in self.formats if is_payload_type(item)]


def read_description(text: str) -> tuple[Section, Sequence[MediaSection]]:
    """Read the session's attributes and the m-lines.

    Raises `OfferRejected` with the line that cannot be read.
    """
    session = Section()
    media: list[MediaSection] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("m="):
            media.append(_media(line.strip(), number))
        elif line.startswith("a="):
            name, _, value = line[2:].strip().partition(":")
            section = media[-1] if media else session
            section.attributes.setdefault(name, []).append(Attribute(name, value.strip(), number))
    return session, media


def is_payload_type(text: str) -> bool:
    """Whether a text is a payload type of RTP, from 0 to 127."""
    return _PAYLOAD_TYPE.fullmatch(text) is not None and int(text) <= 127


def unreadable(line: int, text: str, problem: str) -> OfferRejected:
    """The error for a line that cannot be read."""
    shown = "".join(character for character in text if character.isprintable())
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    return OfferRejected(f"the SDP cannot be read: line {line} ({shown}): {problem}")


def _media(line: str, number: int) -> MediaSection:
    found = _MEDIA.fullmatch(line)
    if found is None or int(found[2]) > 65_535:
        raise unreadable(number, line, "not of the form m=KIND PORT PROFILE FORMATS")
    formats = found[4].split()
    return MediaSection(kind=found[1], port=int(found[2]), profile=found[3], formats=formats)
