"""Codecs in SDP: those of an m-line that can be recorded, and how an answer states them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from adapters.transport.sdp.syntax import Attribute, MediaSection, is_payload_type
from domain.sound.detection import CodecParameters, Stereo, is_supported, static_codec

_RTPMAP = re.compile(r"([0-9]{1,3}) ([^/\s]+)/([0-9]{1,9})(?:/([0-9]{1,3}))?", re.ASCII)
_FMTP = re.compile(r"([0-9]{1,3})(?: (.*))?", re.ASCII)
_BY_QUALITY = ("opus", "g722")
"""The best codecs first; all others are equal, and the offer's order decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpusPreferences:
    """How the sender should encode Opus (RFC 7587 § 6.1); browsers follow it."""

    fec: bool = True
    dtx: bool = False
    bitrate: int | None = None
    """In bit/s; None leaves it to the sender."""
    stereo: bool = False
    """Ask for stereo even if the offer does not; a mono source is sent as two equal channels."""


def recordable_codecs(media: MediaSection) -> dict[int, CodecParameters]:
    """The codecs of an m-line that can be recorded by payload type, in the order of preference.

    Raises `OfferRejected` for an attribute that cannot be read.
    """
    mapped = _mapped_codecs(media)
    codecs: dict[int, CodecParameters] = {}
    for payload_type in media.payload_types:
        codec = mapped.get(payload_type) or static_codec(payload_type)
        if codec is not None and is_supported(
            codec.name, clock_rate_hz=codec.clock_rate_hz, channels=codec.channels
        ):
            codecs[payload_type] = codec
    usable = {
        payload_type: codec
        for payload_type, codec in codecs.items()
        if codec.name != "red" or _wrapped_by(codec, codecs) is not None
    }
    # browsers send the first codec of the answer: a recorder prefers redundancy
    return dict(sorted(usable.items(), key=lambda entry: entry[1].name != "red"))


def one_codec(
    codecs: Mapping[int, CodecParameters], *, name: str | None = None
) -> dict[int, CodecParameters]:
    """The codec to answer with: one, because a recording has one, and RED if it wraps that one.

    It is the codec called `name` if that is offered, else the best one.
    """
    sound = [codec for codec in codecs.values() if codec.name != "red"]
    if not sound:
        return {}
    chosen = min(sound, key=lambda codec: (codec.name != name, _rank(codec)))
    return {
        payload_type: codec
        for payload_type, codec in codecs.items()
        if codec is chosen
        or (codec.name == "red" and _wrapped_by(codec, codecs) == chosen.payload_type)
    }


def with_stereo(
    codecs: Mapping[int, CodecParameters], preferences: OpusPreferences
) -> dict[int, CodecParameters]:
    """The codecs of an offer, with what the answer makes of stereo."""
    return {
        payload_type: replace(codec, stereo=_negotiated_stereo(codec, preferences))
        for payload_type, codec in codecs.items()
    }


def codec_lines(codecs: Mapping[int, CodecParameters], preferences: OpusPreferences) -> list[str]:
    """The ``rtpmap`` and ``fmtp`` attributes of an answer."""
    lines = []
    for codec in codecs.values():
        channels = f"/{codec.channels}" if codec.channels > 1 else ""
        lines.append(f"a=rtpmap:{codec.payload_type} {codec.name}/{codec.clock_rate_hz}{channels}")
        if codec.name == "opus":
            lines.append(f"a=fmtp:{codec.payload_type} {_opus_parameters(codec, preferences)}")
        if codec.name == "red":
            wrapped = _wrapped_by(codec, codecs)
            lines.append(f"a=fmtp:{codec.payload_type} {wrapped}/{wrapped}")
    return lines


def _mapped_codecs(media: MediaSection) -> dict[int, CodecParameters]:
    """The codecs of all ``rtpmap`` attributes, with their ``fmtp``."""
    parameters: dict[int, dict[str, str]] = {}
    for attribute in media.all("fmtp"):
        payload_type, text = _fmtp(attribute)
        parameters[payload_type] = text
    mapped = {}
    for attribute in media.all("rtpmap"):
        found = _RTPMAP.fullmatch(attribute.value)
        if found is None:
            raise attribute.unreadable("not of the form PAYLOAD-TYPE NAME/RATE[/CHANNELS]")
        payload_type = int(found[1])
        mapped[payload_type] = CodecParameters(
            found[2].lower(),
            payload_type,
            int(found[3]),
            int(found[4] or 1),
            parameters.get(payload_type, {}),
        )
    return mapped


def _fmtp(attribute: Attribute) -> tuple[int, dict[str, str]]:
    found = _FMTP.fullmatch(attribute.value)
    if found is None:
        raise attribute.unreadable("not of the form PAYLOAD-TYPE PARAMETERS")
    parameters = {}
    for item in (found[2] or "").split(";"):
        name, _, value = item.partition("=")
        if name.strip():
            parameters[name.strip().lower()] = value.strip()
    return int(found[1]), parameters


def _rank(codec: CodecParameters) -> int:
    return _BY_QUALITY.index(codec.name) if codec.name in _BY_QUALITY else len(_BY_QUALITY)


def _opus_parameters(codec: CodecParameters, preferences: OpusPreferences) -> str:
    is_invited = _negotiated_stereo(codec, preferences) is not Stereo.UNINVITED
    fmtp = (
        f"minptime=10;useinbandfec={int(preferences.fec)};usedtx={int(preferences.dtx)}"
        f";stereo={int(is_invited)}"
    )
    if preferences.bitrate is not None:
        fmtp += f";maxaveragebitrate={preferences.bitrate}"
    return fmtp


def _negotiated_stereo(codec: CodecParameters, preferences: OpusPreferences) -> Stereo:
    """What the answer makes of an offer's ``stereo`` and ``sprop-stereo`` (RFC 7587 § 6.1).

    ``sprop-stereo`` says what the offerer sends, ``stereo`` only what it can receive. Firefox
    states ``stereo=1`` alone, for all microphones, and sends mono unless the answer says it, too.
    """
    announced = codec.fmtp.get("sprop-stereo")
    if codec.name != "opus":
        return Stereo.UNINVITED
    if preferences.stereo or announced == "1":
        return Stereo.EXPECTED
    if announced is None and codec.fmtp.get("stereo") == "1":
        return Stereo.UNCERTAIN
    return Stereo.UNINVITED


def _wrapped_by(red: CodecParameters, codecs: Mapping[int, CodecParameters]) -> int | None:
    """The payload type of the Opus that RED wraps (``a=fmtp:63 111/111``, RFC 2198 § 5)."""
    for listing in red.fmtp:
        wrapped = {int(part) for part in listing.split("/") if is_payload_type(part)}
        if len(wrapped) == 1 and codecs.get(min(wrapped), red).name == "opus":
            return min(wrapped)
    return None
