"""Protects aioice from datagrams that strangers send."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import aioice
from aioice import stun
from aioice.candidate import candidate_priority
from aioice.ice import StunProtocol

from adapters.transport.sockets.datagrams import Datagram


class AgentOwner(Protocol):
    """Receives what an ICE agent receives and reports."""

    on_media: Callable[[Sequence[Datagram]], None]
    """Called with datagrams that may be SRTP or SRTCP, from any address. It must not raise.

    SRTP authenticates itself, and after a NAT rebinding it comes from an unchecked address.
    """

    def dtls_received(self, data: bytes) -> None:
        """A datagram that may be DTLS has come from a checked address."""

    def path_lost(self, agent: aioice.Connection) -> None:
        """The agent has closed, or the socket of its selected pair is gone."""


class GuardedConnection(aioice.Connection):
    """aioice's connection with what `GuardedProtocol` needs of it."""

    owner: AgentOwner

    _checked_at = 0.0  # when the peer's latest connectivity check arrived

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
        super().check_incoming(message, addr, protocol)
        self._checked_at = asyncio.get_running_loop().time()


class GuardedProtocol(StunProtocol):
    """Passes STUN on to aioice, and everything else to the agent's owner.

    The first byte tells the protocols apart (RFC 7983 § 7).
    """

    receiver: GuardedConnection

    def datagrams_received(
        self, datagrams: Sequence[Datagram], source: Callable[[int], tuple[Any, ...]]
    ) -> None:
        """Keep the order: a DTLS alert must not overtake the media packets before it."""
        media: list[Datagram] = []
        for index, datagram in enumerate(datagrams):
            data = datagram[0]
            if data and 128 <= data[0] <= 191:
                media.append(datagram)
                continue
            if media:
                self.receiver.owner.on_media(media)
                media = []
            self.datagram_received(data, source(index))
        if media:
            self.receiver.owner.on_media(media)

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """A single datagram, as aioice's TURN client delivers it."""
        assert isinstance(data, bytes)
        # drop empty datagrams: a single one closes a stock aiortc connection
        first = data[0] if data else 255
        if 128 <= first <= 191:
            self.receiver.owner.on_media([(data, time.monotonic())])
        elif first < 4:
            # aioice raises struct.error, KeyError and more for malformed STUN
            with contextlib.suppress(Exception):
                super().datagram_received(data, addr)
        elif 20 <= first <= 63 and self.receiver.is_checked(addr):
            # DTLS from checked addresses only: a stray ClientHello before the handshake would
            # make it fail for both ends
            self.receiver.owner.dtls_received(data)
