"""The content of offers and answers, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aioice
from aiortc import RTCDtlsFingerprint, RTCDtlsParameters

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


@dataclass(frozen=True, slots=True)
class MidExtension:
    """The header extension that carries an m-line's mid in RTP packets (RFC 9143 § 15)."""

    id: int
    direction: str = ""
    """The direction to answer, with its slash; empty if the offer has none (RFC 8285 § 5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTrack:
    """An audio m-line that is accepted."""

    index: int
    """Its number among all m-lines."""
    mid: str
    codecs: Mapping[int, CodecParameters]
    """The codecs that can be recorded, by payload type, in the order of preference."""
    ssrcs: Sequence[int] = ()
    """The sources that the description announces (RFC 5576)."""
    mid_extension: MidExtension | None = None
    rtcp_mux_only: bool = False


@dataclass(frozen=True, slots=True)
class MediaLine:
    """An m-line as the offer has it, for the answer to repeat."""

    kind: str
    profile: str
    formats: str
    mid: str


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
