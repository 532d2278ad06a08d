"""Reading offers and answers (RFC 8829, RFC 8839, RFC 8842, RFC 9143)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import aioice
from aiortc import RTCDtlsFingerprint, RTCDtlsParameters

from adapters.transport.ice.candidates import parse_candidate
from adapters.transport.sdp.codecs import one_codec, recordable_codecs
from adapters.transport.sdp.descriptions import (
    AudioTrack,
    MediaLine,
    RemoteDescription,
)
from adapters.transport.sdp.extensions import read_extensions
from adapters.transport.sdp.limits import check_counts, check_size
from adapters.transport.sdp.retransmission import read_retransmission
from adapters.transport.sdp.syntax import (
    Attribute,
    MediaSection,
    read_description,
)
from domain.errors import CandidateRejected, OfferRejected
from domain.recording.naming import MAX_TRACKS
from domain.session.ice import MAX_CANDIDATES, are_ice_credentials

MAX_SSRCS = 16
"""Announced sources of one m-line that are remembered."""
_RTP_OVER_DTLS = re.compile("(UDP/TLS/|TCP/DTLS/)?RTP/S?AVPF?")
"""The profiles that mean RTP over DTLS-SRTP, also those that only old peers write (RFC 8829
§ 5.1.2)."""
_SUPPORTED_HASHES = ("sha-256", "sha-384", "sha-512")
_DTLS_ROLES = {"actpass": "auto", "active": "client", "passive": "server"}
_FORMAT_ATTRIBUTES = ("rtpmap", "sctp-port", "sctpmap", "max-message-size")
_SSRC = re.compile(r"([0-9]{1,10})(?: |$)", re.ASCII)


def parse_offer(text: str, *, codecs: Sequence[str | None] = ()) -> RemoteDescription:
    """Read an offer; raises `OfferRejected` with the reason for one that cannot be answered.

    `codecs` are the names of the codecs that the tracks are recorded with already, in the order of
    the tracks. A track uses that codec if it is offered, else the best one.
    """
    parser = _Parser(text, directions=("sendrecv", "sendonly"))
    return parser.parse(codecs=codecs, is_offer=True)


def parse_answer(text: str) -> RemoteDescription:
    """Read an answer; raises `OfferRejected` with the reason for one that cannot be used."""
    return _Parser(text, directions=("sendrecv", "recvonly")).parse(codecs=(), is_offer=False)


class _Parser:
    def __init__(self, text: str, *, directions: Sequence[str]) -> None:
        if not text.strip():
            raise OfferRejected("the SDP is empty")
        check_size(text)
        self._session, self._media = read_description(text)
        check_counts(self._session, self._media)
        self._mids = [media.mid for media in self._media]
        self._bundles: dict[str, Sequence[str]] = {}  # the first group that each mid is in
        for group in self._session.all("group"):
            semantics, *mids = group.value.split() or [""]
            for mid in mids if semantics == "BUNDLE" else ():
                self._bundles.setdefault(mid, mids)
        self._directions = directions

    def parse(self, *, codecs: Sequence[str | None], is_offer: bool) -> RemoteDescription:
        """Parse the first audio m-line that can be recorded, and those that share its transport."""
        sent = [index for index in range(len(self._media)) if self._is_sent(index)]
        if not sent:
            raise OfferRejected("the SDP has no audio to record")
        tracks: list[AudioTrack] = []
        declined = Counter[str]()
        bundled: set[str] = set()
        for index in sent:
            if tracks and self._mids[index] not in bundled:
                declined["outside of the first one's BUNDLE group"] += 1
                continue
            if len(tracks) == MAX_TRACKS:
                declined[f"beyond {MAX_TRACKS} tracks"] += 1
                continue
            name = codecs[len(tracks)] if len(tracks) < len(codecs) else None
            if not _RTP_OVER_DTLS.fullmatch(self._media[index].profile):
                declined["without RTP over DTLS"] += 1
            elif (track := self._track(index, codec=name, is_offer=is_offer)) is None:
                declined["without a codec that can be recorded"] += 1
            else:
                tracks.append(track)
                bundled = bundled or self._bundled_with(track)
        if not tracks:
            profiles = ", ".join(sorted({self._media[index].profile for index in sent}))
            raise OfferRejected(
                "the SDP has no codec that can be recorded (Opus, PCMU, PCMA, G722)"
                if "without a codec that can be recorded" in declined
                else f"the SDP has no audio over DTLS (UDP/TLS/RTP/SAVPF), but {profiles}"
            )
        return self._description(tracks, self._transport_of(tracks[0]), declined)

    def _is_sent(self, index: int) -> bool:
        """Whether an m-line is audio that the other end sends, or receives if this is an answer."""
        media = self._media[index]
        # in a bundle only the first m-line has a port (RFC 9143 § 7.2)
        is_there = media.port or self._is_bundle_only(index)
        direction = media.direction or self._session.direction or "sendrecv"
        return bool(media.kind == "audio" and is_there and direction in self._directions)

    def _is_bundle_only(self, index: int) -> bool:
        # outside of a bundle, port 0 means that the m-line is not used
        return self._mids[index] in self._bundles and self._media[index].has("bundle-only")

    def _bundled_with(self, first: AudioTrack) -> set[str]:
        """The mids that use the same transport as a track; without those that are ambiguous."""
        count = Counter(self._mids)
        return {mid for mid in self._bundles.get(first.mid, ()) if count[mid] == 1}

    def _transport_of(self, track: AudioTrack) -> int:
        """The m-line that describes the transport which a track uses.

        That is the first of its bundle where the offer has bundled them already: the track is
        bundle-only, or both have the same ICE credentials (max-bundle).
        """
        bundle = self._bundles.get(track.mid)
        if bundle and bundle[0] in self._mids:
            tagged = self._mids.index(bundle[0])
            same = self._credentials(tagged) == self._credentials(track.index)
            if same or self._is_bundle_only(track.index):
                return tagged
        return track.index

    def _last(self, index: int, name: str) -> Attribute | None:
        """An attribute of an m-line; that of the session is its default."""
        return self._media[index].last(name) or self._session.last(name)

    def _credentials(self, index: int) -> tuple[str, str]:
        username, password = self._last(index, "ice-ufrag"), self._last(index, "ice-pwd")
        return (username.value if username else "", password.value if password else "")

    def _track(self, index: int, *, codec: str | None, is_offer: bool) -> AudioTrack | None:
        media = self._media[index]
        codecs = recordable_codecs(media)
        if is_offer:
            codecs = one_codec(codecs, name=codec)
        if not codecs:
            return None
        ssrcs = [int(found[1]) for item in media.all("ssrc") if (found := _SSRC.match(item.value))]
        return AudioTrack(
            index=index,
            mid=media.mid,
            codecs=codecs,
            # several attributes of a source have a line each
            ssrcs=tuple(dict.fromkeys(ssrcs))[:MAX_SSRCS],
            extensions=read_extensions([media, self._session]),
            rtcp_mux=media.has("rtcp-mux") or media.has("rtcp-mux-only"),
            rtcp_mux_only=media.has("rtcp-mux-only"),
            retransmission=read_retransmission(media, codecs),
        )

    def _description(
        self, tracks: Sequence[AudioTrack], transport: int, declined: Mapping[str, int]
    ) -> RemoteDescription:
        media = self._media[transport]
        username, password = self._credentials(transport)
        if not (username and password):
            raise OfferRejected("the SDP has no ICE credentials")
        if not are_ice_credentials(username, password):
            raise OfferRejected("the SDP's ICE credentials are invalid")
        return RemoteDescription(
            username=username,
            password=password,
            dtls=self._dtls(transport),
            tracks=tuple(tracks),
            candidates=_candidates(media),
            candidates_complete=self._last(transport, "end-of-candidates") is not None,
            media_lines=[self._media_line(item, tracks[0]) for item in self._media],
            transport_index=transport,
            bundled=self._bundled(tracks, transport),
            is_ice_lite=self._session.has("ice-lite"),
            transport_codecs=[f"a={item.name}:{item.value}" for item in _codec_attributes(media)],
            unwanted=self._unwanted(tracks),
            declined=declined,
        )

    def _media_line(self, media: MediaSection, first: AudioTrack) -> MediaLine:
        lines = [
            f"a={item.name}:{item.value}" for name in _FORMAT_ATTRIBUTES for item in media.all(name)
        ]
        return MediaLine(
            media.kind,
            media.profile,
            " ".join(media.formats),
            media.mid,
            lines,
            is_bundled=first.mid in self._bundles
            and self._bundles.get(media.mid) is self._bundles[first.mid],
        )

    def _dtls(self, index: int) -> RTCDtlsParameters:
        setup = self._last(index, "setup")
        # those of the m-line override those of the session (RFC 8122 § 5)
        attributes = self._media[index].all("fingerprint") or self._session.all("fingerprint")
        fingerprints = [
            item
            for item in map(_fingerprint, attributes)
            if item.algorithm.lower() in _SUPPORTED_HASHES
        ]
        if not fingerprints or setup is None:
            raise OfferRejected("the SDP has no fingerprint, or no setup role, for DTLS")
        if setup.value not in _DTLS_ROLES:
            raise setup.unreadable("not actpass, active or passive")
        return RTCDtlsParameters(fingerprints=fingerprints, role=_DTLS_ROLES[setup.value])

    def _bundled(self, tracks: Sequence[AudioTrack], transport: int) -> Sequence[str]:
        group = self._bundles.get(tracks[0].mid, ())
        indexes = dict.fromkeys([transport, *(track.index for track in tracks)])
        # an empty mid is in no group
        return [self._mids[index] for index in indexes if self._mids[index] in group]

    def _unwanted(self, tracks: Sequence[AudioTrack]) -> frozenset[int]:
        accepted = {track.index for track in tracks}
        wanted, others = set[int](), set[int]()
        for index, media in enumerate(self._media):
            if media.kind in ("audio", "video"):
                (wanted if index in accepted else others).update(media.payload_types)
        return frozenset(others - wanted)


def _codec_attributes(media: MediaSection) -> Sequence[Attribute]:
    # one without a value for its format would be an answer that others cannot read
    found = [item for name in ("rtpmap", "fmtp") for item in media.all(name) if " " in item.value]
    return sorted(found, key=lambda attribute: attribute.line)


def _candidates(media: MediaSection) -> list[aioice.Candidate]:
    candidates = []
    for attribute in media.all("candidate")[:MAX_CANDIDATES]:
        try:
            candidate = parse_candidate(attribute.value)
        except CandidateRejected as error:
            raise attribute.unreadable("not an ICE candidate") from error
        if candidate is not None:
            candidates.append(candidate)
    return candidates


def _fingerprint(attribute: Attribute) -> RTCDtlsFingerprint:
    algorithm, _, value = attribute.value.partition(" ")
    if not (algorithm and value.strip()):
        raise attribute.unreadable("not of the form HASH FINGERPRINT")
    return RTCDtlsFingerprint(algorithm, value.strip())
