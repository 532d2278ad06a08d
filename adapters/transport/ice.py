"""ICE: aioice's agent, guarded, as the transport under aiortc's DTLS.

`RTCDtlsTransport` asks its ICE object for no more than `role`, `_recv()` and `_send()`, so this
one stands in for `RTCIceTransport`: it hands media packets over without a queue, it drops what
would bring the stock stack down, and it can gather loopback addresses.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import aioice
from aioice.ice import StunProtocol

from domain.errors import CandidateRejected
from domain.settings import IceServer

LOOPBACK = "127.0.0.1"
GATHER_S = 1.0
"""A STUN or TURN server that does not answer holds gathering back by no more than this."""
MAX_REMOTE_CANDIDATES = 50
"""Checks are quadratic in candidates, and each is a probe of an address the peer chose."""
_MAX_WAITING = 64


class IceTransport:
    """One ICE agent and the path that it finds."""

    def __init__(
        self,
        *,
        controlling: bool,
        ice_servers: Sequence[IceServer],
        loopback: bool,
    ) -> None:
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._agent = _Agent(
            self, loopback=loopback, ice_controlling=controlling, **_server_arguments(ice_servers)
        )
        self._closed = False
        self._offered = 0
        self.is_lost = False
        """Whether the path went away by itself: consent to send expired, or the socket is gone."""
        self.on_media: Callable[[bytes], None] | None = None
        """Called with each SRTP and SRTCP packet as it arrives; without it they wait in line
        for `_recv`. It must not raise."""

    @property
    def username(self) -> str:
        return self._agent.local_username

    @property
    def password(self) -> str:
        return self._agent.local_password

    async def gather(self) -> list[str]:
        """Find the local candidates, as they are written in SDP behind ``a=candidate:``."""
        await self._agent.gather_candidates()
        return [candidate.to_sdp() for candidate in self._agent.local_candidates]

    async def add_remote_candidate(self, candidate: aioice.Candidate | None) -> None:
        """Take a remote candidate, or None for the end of them.

        Those beyond `MAX_REMOTE_CANDIDATES`, behind the end, or for RTCP on a port of its own
        are ignored.
        """
        if self._closed or self._agent.remote_candidates_ended:
            return
        if candidate is not None:
            self._offered += 1
            if candidate.component != 1 or self._offered > MAX_REMOTE_CANDIDATES:
                return
        with contextlib.suppress(OSError):  # a name cannot be asked for where port 5353 is taken
            await self._agent.add_remote_candidate(candidate)

    async def connect(self, *, username: str, password: str) -> None:
        """Check the candidates until a pair works; raises `ConnectionError` when none does."""
        self._agent.remote_username = username
        self._agent.remote_password = password
        await self._agent.connect()

    async def close(self) -> None:
        """Stop, close the sockets and wake whoever waits."""
        if not self._closed:
            self._closed = True
            self.on_media = None
            await self._agent.close()

    # -- what RTCDtlsTransport sees ------------------------------------------------------------

    @property
    def role(self) -> str:
        return "controlling" if self._agent.ice_controlling else "controlled"

    @property
    def state(self) -> str:
        return "closed" if self._closed else "completed"

    async def _recv(self) -> bytes:
        data = await self._waiting.get()
        if data is None:
            self._waiting.put_nowait(None)  # whoever asks again hears the same
            raise ConnectionError("the ICE transport is closed")
        return data

    async def _send(self, data: bytes) -> None:
        await self._agent.send(data)

    # -- what the agent reports ----------------------------------------------------------------

    def datagram_received(self, data: bytes, *, from_peer: bool) -> None:
        """A datagram that is not STUN (RFC 7983 § 7 tells them apart by their first byte)."""
        if 128 <= data[0] <= 191:
            # SRTP proves itself: after a NAT rebinding it comes from an address not yet checked
            if self.on_media is not None:
                self.on_media(data)
                return
        elif not (20 <= data[0] <= 63 and from_peer):
            # nobody but a checked address may talk DTLS: one stray ClientHello before the
            # handshake would make it fail for both ends
            return
        if self._waiting.qsize() < _MAX_WAITING:
            self._waiting.put_nowait(data)

    def path_lost(self) -> None:
        """The agent has closed, or the selected socket is gone."""
        self.is_lost = not self._closed
        self._waiting.put_nowait(None)


class _Agent(aioice.Connection):
    """The agent: aioice's connection with a guard in front of each of its sockets."""

    def __init__(self, owner: IceTransport, *, loopback: bool, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._owner = owner
        self._loopback = loopback

    @property
    def remote_candidates_ended(self) -> bool:
        return self._remote_candidates_end

    async def get_component_candidates(
        self, component: int, addresses: list[str], timeout: int = 5
    ) -> list[aioice.Candidate]:
        # aioice leaves loopback out; it is wanted where both ends are on one machine, and
        # where there is no other address at all
        if self._loopback or not addresses:
            addresses = [*addresses, LOOPBACK]
        candidates = await super().get_component_candidates(
            component,
            addresses,
            GATHER_S,  # type: ignore[arg-type]
        )
        for protocol in self._protocols:
            self._guard(protocol)
        return candidates

    def _guard(self, protocol: StunProtocol) -> None:
        """Look at each datagram before aioice does: STUN goes on to it, the rest is ours."""
        stun_received = protocol.datagram_received

        def datagram_received(data: bytes, address: tuple[Any, ...]) -> None:
            if not data:
                return  # one empty datagram closes a stock connection
            if data[0] < 4:
                # aioice raises struct.error, KeyError and more over what strangers call STUN
                with contextlib.suppress(Exception):
                    stun_received(data, address)
            else:
                self._owner.datagram_received(data, from_peer=self._is_checked(address))

        protocol.datagram_received = datagram_received  # type: ignore[method-assign, assignment]

    def _is_checked(self, address: tuple[Any, ...]) -> bool:
        """Whether a datagram's source is a candidate: signalled, or authenticated by STUN."""
        return any(
            candidate._network_host == address[0] and candidate.port == address[1]
            for candidate in self._remote_candidates
        )

    def protocol_lost(self, protocol: StunProtocol) -> None:
        if any(pair.protocol is protocol for pair in self._nominated.values()):
            self._owner.path_lost()

    async def close(self) -> None:
        await super().close()
        self._owner.path_lost()


def parse_candidate(text: str) -> aioice.Candidate:
    """A candidate as SDP or an RTCIceCandidateInit write it; raises `CandidateRejected`."""
    value = text.strip().removeprefix("a=").removeprefix("candidate:")
    try:
        candidate = aioice.Candidate.from_sdp(value)
    except (ValueError, AssertionError, IndexError) as error:
        raise CandidateRejected(f"no ICE candidate: {text[:100]!r}") from error
    if not 0 < candidate.port <= 65535 or candidate.component not in (1, 2):
        raise CandidateRejected(f"no usable ICE candidate: {text[:100]!r}")
    return candidate


def _server_arguments(ice_servers: Sequence[IceServer]) -> dict[str, Any]:
    """The arguments for aioice; it uses one STUN and one TURN server, the first of each."""
    arguments: dict[str, Any] = {}
    for server in ice_servers:
        scheme, _, rest = server.url.partition(":")
        address, _, query = rest.partition("?")
        secure = scheme.endswith("s")
        host, port = _host_and_port(address, default=5349 if secure else 3478)
        if scheme.startswith("stun"):
            arguments.setdefault("stun_server", (host, port))
        elif "turn_server" not in arguments:
            arguments |= {
                "turn_server": (host, port),
                "turn_username": server.username,
                "turn_password": server.credential,
                "turn_ssl": secure,
                "turn_transport": "tcp" if secure or query == "transport=tcp" else "udp",
            }
    return arguments


def _host_and_port(address: str, *, default: int) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and not host.endswith(":"):
        return host.strip("[]"), int(port)
    return address.strip("[]"), default
