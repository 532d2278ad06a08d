"""Writing offers and answers (RFC 8829, RFC 8839, RFC 8842, RFC 9143)."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.transport.sdp.codecs import OpusPreferences, codec_lines
from adapters.transport.sdp.descriptions import (
    AudioTrack,
    LocalTransport,
    MediaLine,
    RemoteDescription,
)
from adapters.transport.sdp.extensions import CAPTURE_TIME_URI, MID_URI, HeaderExtension
from adapters.transport.sdp.retransmission import answered_rtx, retransmission_lines
from domain.rtp.packetizer import OPUS_PAYLOAD_TYPE


def write_offer(local: LocalTransport, *, channels: int) -> str:
    """An offer to send one Opus stream (RFC 7587 § 7: opus/48000/2 for mono, too)."""
    stereo = int(channels == 2)
    audio = [
        f"m=audio 9 UDP/TLS/RTP/SAVPF {OPUS_PAYLOAD_TYPE}",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sendonly",
        "a=rtcp-mux",
        f"a=rtpmap:{OPUS_PAYLOAD_TYPE} opus/48000/2",
        f"a=fmtp:{OPUS_PAYLOAD_TYPE} minptime=10;useinbandfec=1;sprop-stereo={stereo}",
        f"a=rtcp-fb:{OPUS_PAYLOAD_TYPE} nack",
        *_transport_lines(local, setup="actpass"),
    ]
    return _session(["0"], [audio])


def write_answer(
    offer: RemoteDescription, local: LocalTransport, preferences: OpusPreferences
) -> str:
    """The answer that accepts the offer's tracks and declines everything else.

    The m-line that describes the tracks' transport cannot be declined either (RFC 9143 § 7.3). If
    it is not a track, its packets are dropped.
    """
    setup = "passive" if offer.dtls_role == "server" else "active"
    # repeated for each accepted m-line of the bundle: RFC 9143 § 7.1.3 asks for it once, but aiortc
    # expects it everywhere, and browsers write it so
    transport = ["c=IN IP4 0.0.0.0", "a=recvonly"]
    if offer.tracks[0].rtcp_mux:
        transport.append("a=rtcp-mux")
    if offer.tracks[0].rtcp_mux_only:
        transport.append("a=rtcp-mux-only")  # required in the answer by RFC 9725 § 4.4.1
    transport += _transport_lines(local, setup=setup)
    tracks = {track.index: track for track in offer.tracks}
    extension = negotiated_mid_extension(offer)
    media = []
    for index, line in enumerate(offer.media_lines):
        if index in tracks:
            media.append(_accepted(line, transport, tracks[index], extension, preferences))
        elif index == offer.transport_index:
            first = f"m={line.kind} 9 {line.profile} {line.formats}"
            media.append([first, *transport, *_mid_lines(line), *offer.transport_codecs])
        else:
            first = f"m={line.kind} 0 {line.profile} {line.formats}"
            declined = [first, "c=IN IP4 0.0.0.0", "a=inactive", *_mid_lines(line)]
            # RFC 9143 has no use for credentials here. But werift takes those of any m-line for
            # those of the bundle, and without them forgets the ones that it knows.
            credentials = _credential_lines(local) if line.is_bundled else []
            media.append([*declined, *line.format_lines, *credentials])
    # the first mid names the m-line that describes the transport (RFC 9143 § 7.3.2)
    return _session(offer.bundled, media)


def negotiated_mid_extension(offer: RemoteDescription) -> HeaderExtension | None:
    """The mid header extension that the answer accepts: where there are several tracks.

    In a bundle all m-lines use the same id for it (RFC 9143 § 9).
    """
    if len(offer.tracks) == 1:
        return None
    extensions = (track.extensions.get(MID_URI) for track in offer.tracks)
    return next((extension for extension in extensions if extension is not None), None)


def _accepted(
    line: MediaLine,
    transport: Sequence[str],
    track: AudioTrack,
    extension: HeaderExtension | None,
    preferences: OpusPreferences,
) -> list[str]:
    accepted = {uri: item for uri, item in track.extensions.items() if uri == CAPTURE_TIME_URI}
    if extension is not None and track.extensions.get(MID_URI) == extension:
        accepted[MID_URI] = extension
    extmap = [f"a=extmap:{item.id}{item.direction} {uri}" for uri, item in accepted.items()]
    formats = (*track.codecs, *answered_rtx(track.retransmission, track.codecs))
    return [
        f"m=audio 9 {line.profile} {' '.join(map(str, formats))}",
        *transport,
        *_mid_lines(line),
        *extmap,
        *codec_lines(track.codecs, preferences),
        *retransmission_lines(track.retransmission, track.codecs),
    ]


def _mid_lines(line: MediaLine) -> list[str]:
    return [f"a=mid:{line.mid}"] if line.mid else []


def _credential_lines(local: LocalTransport) -> list[str]:
    return [f"a=ice-ufrag:{local.username}", f"a=ice-pwd:{local.password}"]


def _transport_lines(local: LocalTransport, *, setup: str) -> list[str]:
    return [
        *_credential_lines(local),
        "a=ice-options:trickle",
        f"a=fingerprint:{local.fingerprint.algorithm} {local.fingerprint.value}",
        f"a=setup:{setup}",
        *(f"a=candidate:{candidate}" for candidate in local.candidates),
        *(["a=end-of-candidates"] if local.complete else []),
    ]


def _session(bundle: Sequence[str], media: Sequence[Sequence[str]]) -> str:
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
    if bundle:
        lines.append(f"a=group:BUNDLE {' '.join(bundle)}")
    for section in media:
        lines += section
    return "\r\n".join(lines) + "\r\n"
