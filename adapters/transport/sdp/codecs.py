"""Codecs in SDP: those of an m-line that can be recorded, and how an answer states them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aiortc.sdp

from domain.sound.detection import CodecParameters, is_supported, static_codec


@dataclass(frozen=True, slots=True, kw_only=True)
class OpusPreferences:
    """How the sender should encode Opus (RFC 7587 § 6.1); browsers follow it."""

    fec: bool = True
    dtx: bool = False
    bitrate: int | None = None
    """In bit/s; None leaves it to the sender."""
    stereo: bool = False
    """Ask for stereo even if the offer does not; a mono source is sent as two equal channels."""


def recordable_codecs(media: aiortc.sdp.MediaDescription) -> dict[int, CodecParameters]:
    """The codecs of an m-line that can be recorded by payload type, in the order to answer."""
    mapped = {codec.payloadType: codec for codec in media.rtp.codecs}
    codecs: dict[int, CodecParameters] = {}
    for payload_type in media.fmt:
        item = mapped.get(payload_type)
        if item is None:
            codec = static_codec(payload_type)
        elif is_supported(item.name, clock_rate_hz=item.clockRate, channels=item.channels or 1):
            codec = CodecParameters(
                item.name.lower(),
                payload_type,
                item.clockRate,
                item.channels or 1,
                {key.strip(): str(value) for key, value in item.parameters.items()},
            )
        else:
            codec = None
        if codec is not None:
            codecs[payload_type] = codec
    usable = {
        payload_type: codec
        for payload_type, codec in codecs.items()
        if codec.name != "red" or _wrapped_by(codec, codecs) is not None
    }
    # browsers send the first codec of the answer: a recorder prefers redundancy
    return dict(sorted(usable.items(), key=lambda entry: entry[1].name != "red"))


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


def _opus_parameters(codec: CodecParameters, preferences: OpusPreferences) -> str:
    offered = "1" in (codec.fmtp.get("stereo"), codec.fmtp.get("sprop-stereo"))
    fmtp = (
        f"minptime=10;useinbandfec={int(preferences.fec)};usedtx={int(preferences.dtx)}"
        f";stereo={int(offered or preferences.stereo)}"
    )
    if preferences.bitrate is not None:
        fmtp += f";maxaveragebitrate={preferences.bitrate}"
    return fmtp


def _wrapped_by(red: CodecParameters, codecs: Mapping[int, CodecParameters]) -> int | None:
    """The payload type of the Opus that RED wraps (``a=fmtp:63 111/111``, RFC 2198 § 5)."""
    for listing in red.fmtp:
        wrapped = {int(part) for part in listing.split("/") if part.isdigit()}
        if len(wrapped) == 1 and codecs.get(min(wrapped), red).name == "opus":
            return min(wrapped)
    return None
