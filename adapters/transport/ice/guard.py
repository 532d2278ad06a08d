"""Protects aioice from datagrams that strangers send, and others from what aioice would send."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import aioice
from aioice import stun
from aioice.candidate import candidate_priority
from aioice.ice import CandidatePair, StunProtocol

from adapters.transport.sockets.datagrams import Datagram
from adapters.transport.sockets.port import MediaReceiver, SharedTransport
from domain.session.address_kinds import CheckRules
from domain.session.checks import CheckBudget

MAX_HEARD = 32
"""Addresses of a peer that are remembered. A NAT may give it another one at any time, and what is
forgotten is learned again from its next check."""
RECENT_S = 30.0
"""An address that works and was used within this time is forgotten after all others."""
_ROLE_CONFLICT = 487


class AgentOwner(MediaReceiver, Protocol):
    """Receives what an ICE agent receives and reports."""

    def path_lost(self, agent: aioice.Connection) -> None:
        """The agent has closed, or the socket of its selected pair is gone."""


def _ignore(_datagrams: Sequence[Datagram]) -> None:
    pass


class _Nobody:
    """Owns the agents that have closed, so that they keep nothing alive by their owner."""

    def __init__(self) -> None:
        self.on_media: Callable[[Sequence[Datagram]], None] = _ignore

    def dtls_received(self, data: bytes) -> None:
        pass

    def path_lost(self, agent: aioice.Connection) -> None:
        pass


NOBODY: AgentOwner = _Nobody()


class GuardedConnection(aioice.Connection):
    """aioice's connection with what `GuardedProtocol` needs of it."""

    owner: AgentOwner
    budget: CheckBudget
    rules: CheckRules

    _checked_by: tuple[StunProtocol, Any] | None = None  # where the peer's latest check came from
    _heard_at: dict[tuple[str, int], float]  # when checks came from its addresses, latest last

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
        now = time.monotonic()
        if self._heard_at.pop(addr, None) is None and len(self._heard_at) >= MAX_HEARD:
            self._forget_one(now)
        self._heard_at[addr] = now
        self.budget.heard(addr)
        _learn(protocol, addr, is_proven=False)
        super().check_incoming(message, addr, protocol)
        self._checked_by = protocol, addr

    def check_complete(self, pair: CandidatePair) -> None:
        if pair.state == CandidatePair.State.SUCCEEDED:
            _learn(pair.protocol, pair.remote_addr, is_proven=True)
            self.budget.answered(pair.remote_addr, now=time.monotonic())
        before = set(self._check_list)
        super().check_complete(pair)
        for other in before.difference(self._check_list):
            other.task = None  # aioice has cancelled it, and its traceback has the pair

    def respond_error(
        self,
        request: stun.Message,
        addr: tuple[str, int],
        protocol: StunProtocol,
        error_code: tuple[int, str],
    ) -> None:
        # the others answer requests that are not authenticated, with more bytes than those have
        if error_code[0] == _ROLE_CONFLICT:
            super().respond_error(request, addr, protocol, error_code)

    def may_answer(self, address: tuple[Any, ...], protocol: StunProtocol) -> bool:
        """Whether a request may be looked at, and answered."""
        return self.rules.may_answer(
            address[0], at=protocol.local_candidate.host
        ) and self.budget.received.take(now=time.monotonic())

    def may_check(self, message: stun.Message, address: tuple[str, int]) -> bool:
        """Whether a check may be sent; a transaction sends it up to seven times."""
        selected = self._nominated.get(1)
        if selected is not None and selected.remote_addr == address:
            return True  # it asks for consent
        return self.budget.take(
            address,
            len(bytes(message)),
            now=time.monotonic(),
            is_connected=selected is not None,
        )

    def _forget_one(self, now: float) -> None:
        """Forget the peer's oldest address that is neither selected nor has worked recently."""
        selected = self._nominated.get(1)
        others = [
            address
            for address in self._heard_at
            if selected is None or address != selected.remote_addr
        ]
        works = {
            pair.remote_addr
            for pair in self._check_list
            if pair.state == CandidatePair.State.SUCCEEDED
        }
        unused = (
            address
            for address in others
            if address not in works or self._heard_at[address] < now - RECENT_S
        )
        self._forget(next(unused, others[0]))

    def _forget(self, address: tuple[str, int]) -> None:
        del self._heard_at[address]
        self.budget.forget(address)
        for pair in [item for item in self._check_list if item.remote_addr == address]:
            if pair.task is not None:
                pair.task.cancel()
            self._check_list.remove(pair)
        self._remote_candidates = [
            candidate
            for candidate in self._remote_candidates
            if (candidate._network_host, candidate.port) != address
        ]
        for protocol in self._protocols:
            if isinstance(protocol.transport, SharedTransport):
                protocol.transport.forget(address)


def _learn(protocol: StunProtocol, address: tuple[Any, ...], *, is_proven: bool) -> None:
    if isinstance(protocol.transport, SharedTransport):
        protocol.transport.learn(address, is_proven=is_proven)


class GuardedProtocol(StunProtocol):
    """Passes STUN on to aioice, and everything else to the agent's owner; limits what aioice sends.

    A shared UDP port delivers only requests, since it knows whose everything else is. Of what a
    TURN server relays the first byte tells the protocol (RFC 7983 § 7).
    """

    receiver: GuardedConnection

    @property
    def owner(self) -> AgentOwner:
        return self.receiver.owner

    @property
    def password(self) -> str:
        return self.receiver.local_password

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        assert isinstance(data, bytes)
        # drop empty datagrams: a single one closes a stock aiortc connection
        first = data[0] if data else 255
        if 128 <= first <= 191:
            self.owner.on_media([(data, time.monotonic())])
        elif first < 4:
            is_response = first & 1
            if is_response or self.receiver.may_answer(addr, self):
                # aioice raises struct.error, KeyError and more for malformed STUN
                with contextlib.suppress(Exception):
                    super().datagram_received(data, addr)
        elif 20 <= first <= 63 and self.receiver.is_checked(addr):
            # DTLS from checked addresses only: a stray ClientHello before the handshake would
            # make it fail for both ends
            self.owner.dtls_received(data)

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        # requests without a user name go to STUN servers
        is_check = message.message_class == stun.Class.REQUEST and "USERNAME" in message.attributes
        if not is_check or self.receiver.may_check(message, addr):
            super().send_stun(message, addr)
