"""Detects the format of arriving sound from the SDP, an Opus packet's TOC or a frame's layout."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from domain.errors import FrameUnsupported, PayloadInvalid
from domain.sound import opus
from domain.sound.formats import AudioFormat, SampleFormat


class Stereo(enum.Enum):
    """What offer and answer say about the channels that an Opus sender sends (RFC 7587 § 6.1)."""

    UNINVITED = "uninvited"
    """The answer asks for mono. Some senders send two channels all the same."""
    UNCERTAIN = "uncertain"
    """The answer invites two channels, and the sender does not say how many it has. It may send a
    mono source as two equal channels (Firefox does): only the sound tells (`StereoDetector`)."""
    EXPECTED = "expected"
    """The sender announces two channels, or the answer asks for them whatever the source is."""


@dataclass(frozen=True, slots=True)
class CodecParameters:
    """A codec as the SDP describes it (`a=rtpmap`, `a=fmtp`)."""

    name: str
    """Encoding name, lower case: opus, pcmu, pcma, g722."""
    payload_type: int
    clock_rate_hz: int
    """Rate of the RTP timestamps; for G.722 it differs from the sample rate."""
    channels: int
    fmtp: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    stereo: Stereo = Stereo.UNINVITED
    """Of Opus: how many channels were negotiated."""


@dataclass(frozen=True, slots=True)
class _CodecFacts:
    clock_rate_hz: int
    sample_rate_hz: int
    sdp_channels: int


_CODECS = {
    "opus": _CodecFacts(48_000, 48_000, 2),  # RFC 7587 § 7: always opus/48000/2 in SDP
    "pcmu": _CodecFacts(8_000, 8_000, 1),
    "pcma": _CodecFacts(8_000, 8_000, 1),
    "g722": _CodecFacts(8_000, 16_000, 1),  # RFC 3551 § 4.5.2: an 8 kHz clock by mistake
}
TELEPHONE_BYTES_PER_S = 8_000
"""All codecs but Opus have 64 kbit/s."""
STATIC_PAYLOAD_TYPES = {0: "pcmu", 8: "pcma", 9: "g722"}
"""Payload types that need no rtpmap (RFC 3551 § 6)."""


def is_supported(name: str, *, clock_rate_hz: int, channels: int) -> bool:
    """Whether a codec from an offer can be recorded.

    RED (RFC 2198) is supported as a wrapper of Opus, with Opus' rate and channels.
    """
    facts = _CODECS.get("opus" if name.lower() == "red" else name.lower())
    return facts is not None and (clock_rate_hz, channels) == (
        facts.clock_rate_hz,
        facts.sdp_channels,
    )


def static_codec(payload_type: int) -> CodecParameters | None:
    """Return the codec of a static payload type, or None if it cannot be recorded."""
    name = STATIC_PAYLOAD_TYPES.get(payload_type)
    if name is None:
        return None
    facts = _CODECS[name]
    return CodecParameters(name, payload_type, facts.clock_rate_hz, facts.sdp_channels)


def claimed_s(codec: CodecParameters, payload: bytes) -> float:
    """Return the seconds of sound that a payload claims to hold, without decoding it.

    It is 0 for one that is not of its codec.
    """
    if codec.name != "opus":
        return len(payload) / TELEPHONE_BYTES_PER_S
    try:
        return opus.packet_samples(payload) / _CODECS["opus"].sample_rate_hz
    except PayloadInvalid:
        return 0.0


def detect_format(
    codec: CodecParameters, first_payload: bytes, *, is_stereo: bool | None = None
) -> AudioFormat:
    """Return the format in which to record a stream, given its codec and its first packet.

    SDP always says opus/48000/2, so for Opus the first packet's TOC decides between mono and
    stereo, unless stereo was negotiated (RFC 7587 § 6.1): an encoder may begin with mono packets
    all the same. Where stereo is uncertain, a packet of two channels is stereo unless the sound
    says that it is not: `is_stereo` is the verdict of a `StereoDetector`. Raises `PayloadInvalid`
    if the payload is not an Opus packet.
    """
    facts = _CODECS[codec.name]
    channels = facts.sdp_channels
    if codec.name == "opus":
        opus.packet_samples(first_payload)
        is_doubled = codec.stereo is Stereo.UNCERTAIN and is_stereo is False
        announced = codec.fmtp.get("sprop-stereo")
        is_agreed = announced == "1" or (codec.stereo is Stereo.EXPECTED and announced != "0")
        two = is_agreed or (opus.channels(first_payload) == 2 and not is_doubled)
        channels = 2 if two else 1
    return AudioFormat(facts.sample_rate_hz, channels, SampleFormat.S16)


# FFmpeg's names, as PyAV's frames carry them; a trailing p means planar.
_FRAME_LAYOUTS = {
    "u8": SampleFormat.U8,
    "s16": SampleFormat.S16,
    "s32": SampleFormat.S32,
    "flt": SampleFormat.F32,
    "dbl": SampleFormat.F64,
}


def detect_layout(name: str) -> tuple[SampleFormat, bool]:
    """Return the sample format of a frame layout such as ``fltp``, and whether it is planar.

    Raises `FrameUnsupported` for a layout without a matching sample format.
    """
    planar = name.endswith("p") and name[:-1] in _FRAME_LAYOUTS
    sample_format = _FRAME_LAYOUTS.get(name[:-1] if planar else name)
    if sample_format is None:
        known = ", ".join(key + p for key in _FRAME_LAYOUTS for p in ("", "p"))
        raise FrameUnsupported(f"unknown audio frame layout {name!r}; known: {known}")
    return sample_format, planar
