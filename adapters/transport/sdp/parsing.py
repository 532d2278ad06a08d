"""Reading offers and answers (RFC 8829, RFC 8839, RFC 8842, RFC 9143)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import aiortc.sdp
from aiortc import RTCDtlsParameters

from adapters.transport.ice.candidates import parse_candidate
from adapters.transport.sdp.codecs import recordable_codecs
from adapters.transport.sdp.descriptions import (
    AudioTrack,
    MediaLine,
    MidExtension,
    RemoteDescription,
)
from domain.errors import CandidateRejected, OfferRejected
from domain.recording.naming import MAX_TRACKS
from domain.session.ice import are_ice_credentials

MAX_SDP_BYTES = 100_000
MAX_SDP_LINES = 1000
MAX_SSRCS = 16
"""Announced sources of one m-line that are remembered."""
MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
# aiortc's parser needs quadratic time for some of these attributes, so they are removed before.
# They are either not used at all, or read here.
_WITHHELD = (
    "a=rtcp-fb:",
    "a=ssrc:",
    "a=ssrc-group:",
    "a=extmap:",
    "a=msid:",
    "a=rid:",
    "a=imageattr",
)
_SUPPORTED_HASHES = ("sha-256", "sha-384", "sha-512")
_SSRC = re.compile(r"a=ssrc:([0-9]{1,10})(?: |$)", re.ASCII)
_MID_EXTMAP = re.compile(
    rf"a=extmap:([0-9]{{1,3}})(/sendrecv|/sendonly)? {re.escape(MID_URI)}(?: |$)"
)
_ANSWERED = {"/sendonly": "/recvonly", "/sendrecv": "/recvonly", "": ""}


def parse_offer(text: str) -> RemoteDescription:
    """Read an offer; raises `OfferRejected` with the reason for one that cannot be answered."""
    return _Parser(text, directions=("sendrecv", "sendonly")).parse()


def parse_answer(text: str) -> RemoteDescription:
    """Read an answer; raises `OfferRejected` with the reason for one that cannot be used."""
    return _Parser(text, directions=("sendrecv", "recvonly")).parse()


class _Parser:
    def __init__(self, text: str, *, directions: Sequence[str]) -> None:
        if not text.strip():
            raise OfferRejected("the SDP is empty")
        if len(text) > MAX_SDP_BYTES:
            raise OfferRejected(f"the SDP is longer than {MAX_SDP_BYTES} bytes")
        all_lines = text.splitlines()
        lines = [line for line in all_lines if not line.startswith(_WITHHELD)]
        if len(lines) > MAX_SDP_LINES:
            raise OfferRejected(f"the SDP has more than {MAX_SDP_LINES} lines")
        try:
            description = aiortc.sdp.SessionDescription.parse("\r\n".join(lines))
        except Exception as error:
            # aiortc's parser raises whatever a malformed text leads to: AssertionError, KeyError,
            # StopIteration, AttributeError and more
            raise OfferRejected("the SDP cannot be read") from error
        self._media = description.media
        self._mids = [media.rtp.muxId for media in description.media]
        self._bundles = [
            [str(mid) for mid in group.items]
            for group in description.group
            if group.semantic == "BUNDLE"
        ]
        self._session, self._sections = _sections(all_lines)
        self._directions = directions

    def parse(self) -> RemoteDescription:
        """Parse the first audio m-line, and those that share its transport."""
        offered = [index for index in range(len(self._media)) if self._is_offered(index)]
        if not offered:
            raise OfferRejected("the SDP has no audio to record")
        first = self._track(offered[0])
        if first is None:
            raise OfferRejected(
                "the SDP has no codec that can be recorded (Opus, PCMU, PCMA, G722)"
            )
        tracks, declined = [first], Counter[str]()
        bundled = self._bundled_with(first)
        for index in offered[1:]:
            if self._mids[index] not in bundled:
                declined["outside of the first one's BUNDLE group"] += 1
            elif len(tracks) == MAX_TRACKS:
                declined[f"beyond {MAX_TRACKS} tracks"] += 1
            elif (track := self._track(index)) is None:
                declined["without a codec that can be recorded"] += 1
            else:
                tracks.append(track)
        return self._description(tracks, self._transport_of(first), declined)

    def _is_offered(self, index: int) -> bool:
        media = self._media[index]
        # in a bundle only the first m-line has a port (RFC 9143 § 7.2)
        is_there = media.port or self._is_bundle_only(index)
        return bool(
            media.kind == "audio"
            and is_there
            and (media.direction or "sendrecv") in self._directions
        )

    def _is_bundle_only(self, index: int) -> bool:
        return "a=bundle-only" in self._sections[index]

    def _bundled_with(self, first: AudioTrack) -> set[str]:
        """The mids that use the same transport as a track; without those that are ambiguous."""
        count = Counter(self._mids)
        bundles = (bundle for bundle in self._bundles if first.mid in bundle)
        return {mid for bundle in bundles for mid in bundle if mid and count[mid] == 1}

    def _transport_of(self, track: AudioTrack) -> int:
        """The m-line that describes the transport which a track uses.

        That is the first of its bundle where the offer has bundled them already: the track is
        bundle-only, or both have the same ICE credentials (max-bundle).
        """
        for bundle in self._bundles:
            if track.mid in bundle and bundle[0] in self._mids:
                tagged = self._mids.index(bundle[0])
                same = self._credentials(tagged) == self._credentials(track.index)
                if same or self._is_bundle_only(track.index):
                    return tagged
        return track.index

    def _credentials(self, index: int) -> tuple[str | None, str | None]:
        ice = self._media[index].ice
        return (ice.usernameFragment, ice.password) if ice else (None, None)

    def _track(self, index: int) -> AudioTrack | None:
        media, section = self._media[index], self._sections[index]
        codecs = recordable_codecs(media)
        if not codecs:
            return None
        ssrcs = [int(found[1]) for line in section if (found := _SSRC.match(line))]
        return AudioTrack(
            index=index,
            mid=media.rtp.muxId,
            codecs=codecs,
            # several attributes of a source have a line each
            ssrcs=tuple(dict.fromkeys(ssrcs))[:MAX_SSRCS],
            mid_extension=_mid_extension([*section, *self._session]),
            rtcp_mux_only="a=rtcp-mux-only" in section,
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
        fingerprints = [
            item
            for item in (media.dtls.fingerprints if media.dtls else [])
            if item.algorithm.lower() in _SUPPORTED_HASHES
        ]
        if not fingerprints:
            raise OfferRejected("the SDP has no fingerprint, or no setup role, for DTLS")
        assert media.dtls is not None
        try:
            candidates = [
                parse_candidate(aiortc.sdp.candidate_to_sdp(item)) for item in media.ice_candidates
            ]
        except CandidateRejected as error:
            raise OfferRejected(str(error)) from error
        return RemoteDescription(
            username=username,
            password=password,
            dtls=RTCDtlsParameters(fingerprints=fingerprints, role=media.dtls.role),
            tracks=tuple(tracks),
            candidates=[item for item in candidates if item is not None],
            candidates_complete=media.ice_candidates_complete,
            media_lines=[
                MediaLine(item.kind, item.profile, " ".join(map(str, item.fmt)), item.rtp.muxId)
                for item in self._media
            ],
            transport_index=transport,
            transport_codecs=[
                line
                for line in self._sections[transport]
                if line.startswith(("a=rtpmap:", "a=fmtp:"))
            ],
            unwanted=self._unwanted(tracks),
            declined=declined,
        )

    def _unwanted(self, tracks: Sequence[AudioTrack]) -> frozenset[int]:
        wanted = {payload_type for track in tracks for payload_type in track.codecs}
        accepted = {track.index for track in tracks}
        return frozenset(
            payload_type
            for index, item in enumerate(self._media)
            for payload_type in item.fmt
            if index not in accepted and isinstance(payload_type, int)
        ).difference(wanted)


def _sections(lines: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The lines of the session, and those of each m-line."""
    session: list[str] = []
    sections: list[list[str]] = []
    for line in lines:
        if line.startswith("m="):
            sections.append([])
        (sections[-1] if sections else session).append(line.strip())
    return session, sections


def _mid_extension(lines: Sequence[str]) -> MidExtension | None:
    for line in lines:
        if found := _MID_EXTMAP.match(line):
            number = int(found[1])
            # a larger number is provisional (RFC 8285 § 6)
            if 1 <= number <= 255:
                return MidExtension(number, _ANSWERED[found[2] or ""])
    return None
