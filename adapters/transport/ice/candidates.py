"""Candidates and server addresses as text."""

from __future__ import annotations

import aioice
from aioice import stun
from aioice.candidate import candidate_foundation, candidate_priority

from domain.errors import CandidateRejected
from domain.session.ice import IceServer


def parse_candidate(text: str) -> aioice.Candidate | None:
    """Parse a candidate as SDP or an RTCIceCandidateInit write it; raises `CandidateRejected`.

    Returns None for a candidate that is well formed, but cannot be used here.
    """
    value = text.strip().removeprefix("a=").removeprefix("candidate:")
    try:
        candidate = aioice.Candidate.from_sdp(value)
    except (ValueError, AssertionError, IndexError) as error:
        raise CandidateRejected(f"not an ICE candidate: {text[:100]!r}") from error
    if not 0 <= candidate.port <= 65535 or not 1 <= candidate.component <= 256:
        raise CandidateRejected(f"not an ICE candidate: {text[:100]!r}")
    # an address with a scope is valid on its own link only, and asyncio raises for some of them
    if candidate.port == 0 or "%" in candidate.host or not candidate.host.isascii():
        return None
    return candidate


def username_in(candidate: str) -> str | None:
    """The ``ufrag`` extension of a candidate line, which browsers add (RFC 8839 § 5.1)."""
    words = candidate.split()
    if "ufrag" in words[:-1]:
        return words[words.index("ufrag") + 1]
    return None


def server_address(server: IceServer) -> tuple[str, int, str]:
    """Host, port and transport of a STUN or TURN server (RFC 7064, RFC 7065)."""
    scheme, _, rest = server.url.partition(":")
    address, _, query = rest.partition("?")
    is_secure = scheme.endswith("s")
    host, port = _host_and_port(address, default=5349 if is_secure else 3478)
    return host, port, "tcp" if is_secure or query == "transport=tcp" else "udp"


def _host_and_port(address: str, *, default: int) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and not host.endswith(":"):
        return host.strip("[]"), int(port)
    return address.strip("[]"), default


def host_candidate(host: str, port: int) -> aioice.Candidate:
    """A candidate for an address at which this machine receives."""
    return aioice.Candidate(
        foundation=candidate_foundation("host", "udp", host),
        component=1,
        transport="udp",
        priority=candidate_priority(1, "host"),
        host=host,
        port=port,
        type="host",
    )


def unanswered(error: Exception, *, within_s: float) -> str:
    """Say why a STUN or TURN server has given no candidate."""
    if isinstance(error, stun.TransactionFailed):
        code, text = error.response.attributes.get("ERROR-CODE", (0, ""))
        return f"refuses the credentials ({code} {text})" if code == 401 else f"says {code} {text}"
    if isinstance(error, TimeoutError | stun.TransactionTimeout):
        return f"has not answered within {within_s:g} s"
    return f"cannot be reached: {error}"
