"""ICE (RFC 8445) values that sessions handle: servers, candidates, credentials."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from domain.errors import SettingInvalid

MAX_CANDIDATES = 100
"""Candidates of one m-line or fragment that are read; the setting `max_candidates` goes so far."""
_USERNAME = re.compile("[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile("[A-Za-z0-9+/]{22,256}")


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server (RFC 7064, RFC 7065); raises `SettingInvalid` if it is invalid."""

    url: str
    username: str | None = None
    credential: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        scheme = self.url.partition(":")[0]
        if scheme not in ("stun", "stuns", "turn", "turns") or not self.url.partition(":")[2]:
            raise SettingInvalid("ice_servers", f"{self.url!r} is not a stun: or turn: address")
        port = self.url.partition("?")[0].rpartition(":")[2]
        if port.isdigit() and not 0 < int(port) <= 65535:
            raise SettingInvalid("ice_servers", f"{self.url!r} has an invalid port")
        if bool(self.username) != bool(self.credential):
            raise SettingInvalid(
                "ice_servers", f"{self.url}: username and credential must be given together"
            )

    @property
    def is_turn(self) -> bool:
        return self.url.startswith("turn")


@dataclass(frozen=True, slots=True)
class IceCandidate:
    """An RTCIceCandidateInit; without `candidate` it marks the end of candidates."""

    candidate: str | None
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None
    username: str | None = None
    """The username fragment of the candidate's ICE session, if known."""


@dataclass(frozen=True, slots=True)
class IceDescription:
    """The credentials and candidates of one end of an ICE session (RFC 8839, RFC 8840)."""

    username: str
    password: str = field(repr=False)
    candidates: Sequence[str] = ()
    """Candidates as in SDP, without the leading ``candidate:``."""
    complete: bool = False
    """No more candidates follow."""


def are_ice_credentials(username: str, password: str) -> bool:
    """Whether a username fragment and a password are well-formed (RFC 8839 § 5.4)."""
    return bool(_USERNAME.fullmatch(username) and _PASSWORD.fullmatch(password))
