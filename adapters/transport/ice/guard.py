"""Protects aioice from datagrams that strangers send."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, Protocol

import aioice
from aioice import stun
from aioice.candidate import candidate_priority
from aioice.ice import CandidatePair, StunProtocol

from adapters.transport.sockets.port import MediaReceiver, SharedTransport


class AgentOwner(MediaReceiver, Protocol):
    """Receives what an ICE agent receives and reports."""

    def path_lost(self, agent: aioice.Connection) -> None:
        """The agent has closed, or the socket of its selected pair is gone."""


class GuardedConnection(aioice.Connection):
    """aioice's connection with what `GuardedProtocol` needs of it."""

    owner: AgentOwner

    _checked_at = 0.0  # when the peer's latest connectivity check arrived
    _checked_by: tuple[StunProtocol, Any] | None = None  # where, and from which address

    def is_checked(self, address: tuple[Any, ...]) -> bool:
        """Whether an address is a remote candidate: signalled, or learned from a check."""
        return any(
            candidate._network_host == address[0] and candidate.port == address[1]
            for candidate in self._remote_candidates
        )

    def check_incoming(
        self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
    ) -> None:
        # FFmpeg's first WHIP muxers leave PRIORITY out, and aioice raises KeyError then
        message.attributes.setdefault("PRIORITY", candidate_priority(1, "prflx"))
        _learn(protocol, addr)
        super().check_incoming(message, addr, protocol)
        self._checked_at = asyncio.get_running_loop().time()
        self._checked_by = protocol, addr

    def check_complete(self, pair: CandidatePair) -> None:
        if pair.state == CandidatePair.State.SUCCEEDED:
            _learn(pair.protocol, pair.remote_addr)  # an ICE-lite peer sends no checks
        super().check_complete(pair)


def _learn(protocol: StunProtocol, address: tuple[Any, ...]) -> None:
    if isinstance(protocol.transport, SharedTransport):
        protocol.transport.learn(address)


class GuardedProtocol(StunProtocol):
    """Passes STUN on to aioice, and everything else to the agent's owner.

    A shared UDP port delivers only requests, since it knows whose everything else is. Of what a
    TURN server relays the first byte tells the protocol (RFC 7983 § 7).
    """

    receiver: GuardedConnection

    @property
    def owner(self) -> AgentOwner:
        return self.receiver.owner

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        assert isinstance(data, bytes)
        # drop empty datagrams: a single one closes a stock aiortc connection
        first = data[0] if data else 255
        if 128 <= first <= 191:
            self.owner.on_media([(data, time.monotonic())])
        elif first < 4:
            # aioice raises struct.error, KeyError and more for malformed STUN
            with contextlib.suppress(Exception):
                super().datagram_received(data, addr)
        elif 20 <= first <= 63 and self.receiver.is_checked(addr):
            # DTLS from checked addresses only: a stray ClientHello before the handshake would
            # make it fail for both ends
            self.owner.dtls_received(data)
