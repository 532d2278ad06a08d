"""SDP fragments that describe ICE: ``application/trickle-ice-sdpfrag``.

RFC 8840 § 9, RFC 9725 § 4.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from domain.errors import CandidateRejected
from domain.session.ice import MAX_CANDIDATES, IceDescription, are_ice_credentials

CONTENT_TYPE = "application/trickle-ice-sdpfrag"
MAX_LINES = 1000
_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,64}")  # RFC 8866 § 9


@dataclass(frozen=True, slots=True)
class Fragment:
    """A fragment's ICE description, which all of its m-lines share."""

    ice: IceDescription
    mid: str


def parse_fragment(text: str) -> Fragment:
    """Read a fragment; raises `CandidateRejected` if it is malformed.

    Credentials may come before or after the m-line. Unknown attributes are ignored.
    """
    values: dict[str, str] = {}
    candidates: list[str] = []
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise CandidateRejected(f"the fragment has more than {MAX_LINES} lines")
    for line in lines:
        kind, _, rest = line.strip().partition("=")
        if not line.strip() or kind == "m":
            continue
        if kind != "a":
            raise CandidateRejected(f"not a line of an SDP fragment: {line[:100]!r}")
        name, _, value = rest.partition(":")
        name = name.lower()
        if name == "candidate":
            if not value.strip():
                raise CandidateRejected("a candidate line of the fragment is empty")
            if len(candidates) < MAX_CANDIDATES:
                candidates.append(value)
        else:
            values.setdefault(name, value)
    username, password = values.get("ice-ufrag", ""), values.get("ice-pwd", "")
    if not are_ice_credentials(username, password):
        raise CandidateRejected("the fragment has no valid ice-ufrag and ice-pwd")
    if not _TOKEN.fullmatch(mid := values.get("mid", "0")):
        raise CandidateRejected("the fragment's mid is not a token")
    complete = "end-of-candidates" in values
    return Fragment(IceDescription(username, password, candidates, complete), mid)


def write_fragment(fragment: Fragment) -> str:
    """Write the fragment that begins an ICE session, or the answer to it."""
    ice = fragment.ice
    lines = [
        "a=ice-options:trickle",
        f"a=group:BUNDLE {fragment.mid}",
        "m=audio 9 UDP/TLS/RTP/SAVPF 0",
        f"a=mid:{fragment.mid}",
        f"a=ice-ufrag:{ice.username}",
        f"a=ice-pwd:{ice.password}",
        *(f"a=candidate:{candidate}" for candidate in ice.candidates),
        *(["a=end-of-candidates"] if ice.complete else []),
    ]
    return "\r\n".join(lines) + "\r\n"
