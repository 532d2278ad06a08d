"""Offers and answers (RFC 8829, RFC 8839, RFC 8842): one audio stream from client to server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aioice
import aiortc.sdp
from aiortc import RTCDtlsFingerprint, RTCDtlsParameters

from adapters.transport.ice.agent import parse_candidate
from domain.errors import CandidateRejected, OfferRejected
from domain.rtp.packetizer import OPUS_PAYLOAD_TYPE
from domain.session.ice import are_ice_credentials
from domain.sound.detection import CodecParameters, is_supported, static_codec

MAX_SDP_BYTES = 100_000
MAX_SDP_LINES = 1000
# what nobody here reads; aiortc's parser takes time quadratic in some of it
_UNREAD = (
    "a=rtcp-fb:",
    "a=ssrc:",
    "a=ssrc-group:",
    "a=extmap:",
    "a=msid:",
    "a=rid:",
    "a=imageattr",
)
_SUPPORTED_HASHES = ("sha-256", "sha-384", "sha-512")


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """What this end tells of its ICE and DTLS."""

    username: str
    password: str
    fingerprint: RTCDtlsFingerprint
    candidates: Sequence[str] = ()
    complete: bool = False
    """No more candidates follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpusPreferences:
    """How we would like Opus to be sent to us (RFC 7587 § 6.1); browsers obey it."""

    fec: bool = True
    dtx: bool = False
    bitrate: int | None = None
    """In bit/s; None leaves it to the sender."""
    stereo: bool = False
    """Also from a sender that has not offered it; two channels would be made of one."""


@dataclass(frozen=True, slots=True)
class RemoteAudio:
    """What the other end's description says of its audio stream."""

    index: int
    mid: str
    username: str
    password: str
    dtls: RTCDtlsParameters
    codecs: Mapping[int, CodecParameters]
    """The codecs that can be recorded, by payload type, in the order of preference."""
    candidates: Sequence[aioice.Candidate]
    candidates_complete: bool
    media_lines: Sequence[tuple[str, str, str]]
    """Kind, profile and formats of every m-line, for the answer to mirror."""
    mids: Sequence[str]
    carrier: int
    """The m-line whose transport the stream uses: its own, or that of its bundle."""
    carrier_codecs: Sequence[str]
    """The attributes of that m-line's codecs, where it is another one."""
    rtcp_mux_only: bool
    unwanted: frozenset[int]
    """Payload types of what is not recorded: it may be sent all the same."""

    @property
    def dtls_role(self) -> str:
        """Our DTLS role: client, unless the peer insists on being it (RFC 8842 § 5.2)."""
        return "server" if self.dtls.role == "client" else "client"


def parse_offer(text: str) -> RemoteAudio:
    """Read an offer; raises `OfferRejected` with the reason for one that cannot be served."""
    return _parse(text, directions=("sendrecv", "sendonly"))


def parse_answer(text: str) -> RemoteAudio:
    """Read an answer; raises `OfferRejected` with the reason for one that is of no use."""
    return _parse(text, directions=("sendrecv", "recvonly"))


def write_offer(local: LocalTransport, *, channels: int) -> str:
    """An offer to send one Opus stream (RFC 7587 § 7: opus/48000/2, whatever is sent)."""
    stereo = int(channels == 2)
    audio = [
        f"m=audio 9 UDP/TLS/RTP/SAVPF {OPUS_PAYLOAD_TYPE}",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sendonly",
        "a=rtcp-mux",
        f"a=rtpmap:{OPUS_PAYLOAD_TYPE} opus/48000/2",
        f"a=fmtp:{OPUS_PAYLOAD_TYPE} minptime=10;useinbandfec=1;sprop-stereo={stereo}",
        *_transport_lines(local, setup="actpass"),
    ]
    return _session(["0"], [audio])


def write_answer(offer: RemoteAudio, local: LocalTransport, wishes: OpusPreferences) -> str:
    """The answer that takes the offer's audio stream and declines everything else.

    But for an m-line that carries the stream's transport: it cannot be declined (RFC 9143 § 7.3),
    what it brings is dropped.
    """
    media = []
    setup = "passive" if offer.dtls_role == "server" else "active"
    transport = ["c=IN IP4 0.0.0.0", "a=recvonly", "a=rtcp-mux"]
    if offer.rtcp_mux_only:
        transport.append("a=rtcp-mux-only")  # RFC 9725 § 4.4.1 wants it back
    transport += _transport_lines(local, setup=setup)
    for index, (kind, profile, formats) in enumerate(offer.media_lines):
        mid = [f"a=mid:{offer.mids[index]}"] if offer.mids[index] else []
        if index == offer.carrier != offer.index:
            media.append(
                [f"m={kind} 9 {profile} {formats}", *transport, *mid, *offer.carrier_codecs]
            )
            continue
        if index != offer.index:
            media.append(
                [f"m={kind} 0 {profile} {formats}", "c=IN IP4 0.0.0.0", "a=inactive", *mid]
            )
            continue
        media.append(
            [
                f"m=audio 9 {profile} {' '.join(map(str, offer.codecs))}",
                *transport,
                *mid,
                *(
                    line
                    for codec in offer.codecs.values()
                    for line in _codec_lines(codec, offer.codecs, wishes)
                ),
            ]
        )
    accepted = [offer.mids[index] for index in sorted({offer.index, offer.carrier})]
    return _session(accepted, media)


def _parse(text: str, *, directions: tuple[str, ...]) -> RemoteAudio:
    if not text.strip():
        raise OfferRejected("the SDP is empty")
    if len(text) > MAX_SDP_BYTES:
        raise OfferRejected(f"the SDP is longer than {MAX_SDP_BYTES} bytes")
    lines = [line for line in text.splitlines() if not line.startswith(_UNREAD)]
    if len(lines) > MAX_SDP_LINES:
        raise OfferRejected(f"the SDP has more than {MAX_SDP_LINES} lines")
    try:
        description = aiortc.sdp.SessionDescription.parse("\r\n".join(lines))
    except Exception as error:
        # aiortc's parser has no error of its own: whatever a stranger's text makes of it
        # (AssertionError, KeyError, StopIteration, AttributeError, ...) is the stranger's fault
        raise OfferRejected("the SDP cannot be read") from error
    sections = _sections(lines)
    for index, media in enumerate(description.media):
        # in a bundle only the first m-line has a port and a transport (RFC 9143 § 7.2)
        is_bundled = "a=bundle-only" in sections[index]
        is_there = media.port or is_bundled
        if media.kind == "audio" and is_there and (media.direction or "sendrecv") in directions:
            carrier = _carrier(description, index, is_bundled=is_bundled)
            return _audio(description, index, carrier, sections)
    raise OfferRejected("the SDP has no audio to record")


def _sections(lines: Sequence[str]) -> list[list[str]]:
    """The lines of each m-line."""
    sections: list[list[str]] = []
    for line in lines:
        if line.startswith("m="):
            sections.append([])
        elif sections:
            sections[-1].append(line.strip())
    return sections


def _carrier(description: aiortc.sdp.SessionDescription, index: int, *, is_bundled: bool) -> int:
    """The m-line that has the transport for one that has none of its own.

    That is the first of its bundle where the offerer has bundled them already: it says so, or
    both have the same ICE credentials (max-bundle).
    """
    media = description.media[index]
    mids = [item.rtp.muxId for item in description.media]
    for group in description.group:
        if group.semantic == "BUNDLE" and media.rtp.muxId in group.items:
            tagged = str(group.items[0])
            if tagged in mids:
                first = description.media[mids.index(tagged)]
                if is_bundled or _credentials(first) == _credentials(media):
                    return mids.index(tagged)
    return index


def _credentials(media: aiortc.sdp.MediaDescription) -> tuple[str | None, str | None]:
    return (media.ice.usernameFragment, media.ice.password) if media.ice else (None, None)


def _audio(
    description: aiortc.sdp.SessionDescription,
    index: int,
    carrier: int,
    sections: Sequence[Sequence[str]],
) -> RemoteAudio:
    media, transport = description.media[index], description.media[carrier]
    username, password = _credentials(transport)
    if not (username and password):
        raise OfferRejected("the SDP has no ICE credentials")
    if not are_ice_credentials(username, password):
        raise OfferRejected("the SDP's ICE credentials are none")
    fingerprints = [
        item
        for item in (transport.dtls.fingerprints if transport.dtls else [])
        if item.algorithm.lower() in _SUPPORTED_HASHES
    ]
    if not fingerprints:
        raise OfferRejected("the SDP has no fingerprint, or no setup role, for DTLS")
    assert transport.dtls is not None
    codecs = _codecs(media)
    if not codecs:
        raise OfferRejected("the SDP has no codec that can be recorded (Opus, PCMU, PCMA, G722)")
    try:
        parsed = [
            parse_candidate(aiortc.sdp.candidate_to_sdp(item)) for item in transport.ice_candidates
        ]
    except CandidateRejected as error:
        raise OfferRejected(str(error)) from error
    return RemoteAudio(
        index=index,
        mid=media.rtp.muxId,
        username=username,
        password=password,
        dtls=RTCDtlsParameters(fingerprints=fingerprints, role=transport.dtls.role),
        codecs=codecs,
        candidates=[item for item in parsed if item is not None],
        candidates_complete=transport.ice_candidates_complete,
        media_lines=[
            (item.kind, item.profile, " ".join(map(str, item.fmt))) for item in description.media
        ],
        mids=[item.rtp.muxId for item in description.media],
        carrier=carrier,
        carrier_codecs=[
            line for line in sections[carrier] if line.startswith(("a=rtpmap:", "a=fmtp:"))
        ],
        rtcp_mux_only="a=rtcp-mux-only" in sections[index],
        unwanted=frozenset(
            payload_type
            for item in description.media
            for payload_type in item.fmt
            if item is not media and isinstance(payload_type, int)
        )
        - frozenset(codecs),
    )


def _codecs(media: aiortc.sdp.MediaDescription) -> dict[int, CodecParameters]:
    """The codecs we can record, in the order in which the m-line prefers them."""
    mapped = {codec.payloadType: codec for codec in media.rtp.codecs}
    codecs: dict[int, CodecParameters] = {}
    for payload_type in media.fmt:
        item = mapped.get(payload_type)
        if item is None:
            known = static_codec(payload_type)
        elif is_supported(item.name, clock_rate_hz=item.clockRate, channels=item.channels or 1):
            known = CodecParameters(
                item.name.lower(),
                payload_type,
                item.clockRate,
                item.channels or 1,
                {key.strip(): str(value) for key, value in item.parameters.items()},
            )
        else:
            known = None
        if known is not None:
            codecs[payload_type] = known
    usable = {
        payload_type: codec
        for payload_type, codec in codecs.items()
        if codec.name != "red" or _wrapped_by(codec, codecs) is not None
    }
    # what is first in the answer is what is sent: a recorder wants the redundancy
    return dict(sorted(usable.items(), key=lambda entry: entry[1].name != "red"))


def _wrapped_by(red: CodecParameters, codecs: Mapping[int, CodecParameters]) -> int | None:
    """The payload type of the Opus that RED wraps (``a=fmtp:63 111/111``, RFC 2198 § 5)."""
    for listing in red.fmtp:
        wrapped = {int(part) for part in listing.split("/") if part.isdigit()}
        if len(wrapped) == 1 and codecs.get(min(wrapped), red).name == "opus":
            return min(wrapped)
    return None


def _codec_lines(
    codec: CodecParameters, codecs: Mapping[int, CodecParameters], wishes: OpusPreferences
) -> list[str]:
    channels = f"/{codec.channels}" if codec.channels > 1 else ""
    lines = [f"a=rtpmap:{codec.payload_type} {codec.name}/{codec.clock_rate_hz}{channels}"]
    if codec.name == "opus":
        offered = "1" in (codec.fmtp.get("stereo"), codec.fmtp.get("sprop-stereo"))
        fmtp = (
            f"minptime=10;useinbandfec={int(wishes.fec)};usedtx={int(wishes.dtx)}"
            f";stereo={int(offered or wishes.stereo)}"
        )
        if wishes.bitrate is not None:
            fmtp += f";maxaveragebitrate={wishes.bitrate}"
        lines.append(f"a=fmtp:{codec.payload_type} {fmtp}")
    if codec.name == "red":
        wrapped = _wrapped_by(codec, codecs)
        lines.append(f"a=fmtp:{codec.payload_type} {wrapped}/{wrapped}")
    return lines


def _transport_lines(local: LocalTransport, *, setup: str) -> list[str]:
    return [
        f"a=ice-ufrag:{local.username}",
        f"a=ice-pwd:{local.password}",
        "a=ice-options:trickle",
        f"a=fingerprint:{local.fingerprint.algorithm} {local.fingerprint.value}",
        f"a=setup:{setup}",
        *(f"a=candidate:{candidate}" for candidate in local.candidates),
        *(["a=end-of-candidates"] if local.complete else []),
    ]


def _session(bundle: Sequence[str], media: Sequence[Sequence[str]]) -> str:
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
    if any(bundle):
        lines.append(f"a=group:BUNDLE {' '.join(bundle)}")
    for section in media:
        lines += section
    return "\r\n".join(lines) + "\r\n"
