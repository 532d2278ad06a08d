"""The content of offers and answers, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import aioice
from aiortc import RTCDtlsFingerprint, RTCDtlsParameters

from adapters.transport.sdp.extensions import HeaderExtension
from adapters.transport.sdp.retransmission import Retransmission
from domain.sound.detection import CodecParameters


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """ICE and DTLS parameters of this end."""

    username: str
    password: str
    fingerprint: RTCDtlsFingerprint
    candidates: Sequence[str] = ()
    complete: bool = False
    """No more candidates follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTrack:
    """An audio m-line that is accepted."""

    index: int
    """Its number among all m-lines."""
    mid: str
    codecs: Mapping[int, CodecParameters]
    """The negotiated codecs by payload type, in the order of preference. Of an offer these are the
    one codec that is recorded, and RED if it wraps that one."""
    ssrcs: Sequence[int] = ()
    """The sources that the description announces (RFC 5576)."""
    extensions: Mapping[str, HeaderExtension] = field(default_factory=lambda: MappingProxyType({}))
    """The header extensions that this end can use, by URI."""
    rtcp_mux: bool = False
    rtcp_mux_only: bool = False
    retransmission: Retransmission = field(default_factory=Retransmission)


@dataclass(frozen=True, slots=True)
class MediaLine:
    """An m-line as the offer has it, for the answer to repeat."""

    kind: str
    profile: str
    formats: str
    mid: str
    format_lines: Sequence[str] = ()
    """The attributes that define the formats (``rtpmap``, ``sctp-port``, ``sctpmap``). Parsers want
    them even for an m-line that is declined."""
    is_bundled: bool = False
    """Whether it is in the BUNDLE group of the tracks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteDescription:
    """The content of the other end's description."""

    username: str
    password: str
    dtls: RTCDtlsParameters
    tracks: Sequence[AudioTrack]
    """The audio m-lines that are accepted; at least one. All use one transport."""
    candidates: Sequence[aioice.Candidate]
    candidates_complete: bool
    media_lines: Sequence[MediaLine]
    """All m-lines."""
    transport_index: int
    """The m-line whose transport the tracks use: the first track's own, or that of its bundle."""
    bundled: Sequence[str] = ()
    """The mids to answer in the BUNDLE group: that of the transport's m-line first, then those of
    the tracks. Empty if no group was offered that holds them."""
    is_ice_lite: bool = False
    """Whether the other end sends no connectivity checks, so that this end has to control ICE
    (RFC 8445 § 6.1.1)."""
    transport_codecs: Sequence[str]
    """The codec attributes of that m-line, to be repeated if it is not a track."""
    unwanted: frozenset[int]
    """Payload types of other m-lines: they may arrive all the same."""
    declined: Mapping[str, int]
    """How many audio m-lines are declined although they would send sound, by reason."""

    @property
    def dtls_role(self) -> str:
        """The local DTLS role: client, unless the peer wants to be it (RFC 8842 § 5.2)."""
        return "server" if self.dtls.role == "client" else "client"
