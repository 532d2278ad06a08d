"""The ICE agent of one ICE session: aioice's connection, guarded, with its own gathering."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import aioice
from aioice.ice import CandidatePair, StunProtocol, get_host_addresses
from aioice.turn import TurnTransport
from aioice.utils import random_string

from adapters.transport.ice.consent import ConsentingConnection
from adapters.transport.ice.gathering import CandidateGatherer
from adapters.transport.ice.guard import NOBODY, AgentOwner, GuardedProtocol
from adapters.transport.ice.options import IceOptions
from adapters.transport.sockets.port import SharedTransport, UdpPort
from domain.session.checks import CheckBudget
from domain.session.ice import IceServer

RELEASE_S = 1.0
"""The longest time that `IceAgent.close` waits for a TURN server to confirm the release."""


class _DiscardingQueue:
    """Replaces queues of aioice (3 kB each) that are never read."""

    def put_nowait(self, _item: object) -> None:
        pass


def _keep_to_oneself(_candidate: str) -> None:
    pass


_DISCARDING_QUEUE = _DiscardingQueue()


class IceAgent(ConsentingConnection):
    """One ICE session.

    aioice returns its candidates when all are gathered. Here the host candidates can be used at
    once, and the candidates from STUN and TURN servers are added to the checks under way.
    """

    def __init__(
        self,
        owner: AgentOwner,
        options: IceOptions,
        budget: CheckBudget,
        *,
        ice_controlling: bool,
    ) -> None:
        # the user name identifies the ICE session, and must be unique
        super().__init__(ice_controlling=ice_controlling, local_username=random_string(12))
        self._queue = _DISCARDING_QUEUE  # type: ignore[assignment]  # data goes to the owner
        self.owner = owner
        self.budget = budget
        self.rules = options.rules()
        self._heard_at = {}
        self._options = options
        self._gatherer = CandidateGatherer(options)
        self._is_gathering = False
        self._remote_addresses: set[tuple[str, int]] = set()
        self._remote_complete = False

    @property
    def problems(self) -> Sequence[str]:
        """The reasons why addresses and servers gave no candidates."""
        return self._gatherer.problems

    async def add_remote(self, candidate: aioice.Candidate | None) -> None:
        """Add a remote candidate; None says that no more follow.

        A candidate that must not be probed, or need not be, is ignored: the peer's own checks show
        where it is. So are names (mDNS), which would have to be asked for on the local network.
        """
        if self._remote_complete:
            return
        if candidate is None:
            self._remote_complete = True
            if not self.ice_controlling:
                return  # the peer's checks may still reveal its address (RFC 8863)
        else:
            address = (candidate.host, candidate.port)
            if candidate.transport.lower() != "udp" or candidate.component != 1:
                return
            # trickled fragments repeat earlier candidates (RFC 8840 § 4.4)
            known = self._remote_addresses
            if address in known or not self.budget.candidates.take(now=time.monotonic()):
                return
            known.add(address)
            if not (
                self._probes() and self.rules.may_probe(candidate.host, own=self._own_addresses)
            ):
                return
        await self.add_remote_candidate(candidate)

    async def gather(self, servers: Sequence[IceServer]) -> list[str]:
        """Gather all candidates."""
        candidates: list[str] = []
        self.gather_host(candidates.append)
        await self.gather_from(servers, candidates.append)
        return candidates

    def gather_host(self, on_candidate: Callable[[str], None]) -> None:
        """Gather the candidates of this machine's addresses."""
        hosts = list(self._gatherer.attach_hosts(self._make_protocol, self.local_username))
        public = self._options.public.candidates(_ports_of(hosts))
        reached = {(candidate.host, candidate.port) for candidate in public}
        for protocol in hosts:
            own = protocol.local_candidate
            # a public address may be one of this machine's
            is_hidden = self._options.public_only and (own.host, own.port) not in reached
            self._add_local(own, protocol, _keep_to_oneself if is_hidden else on_candidate)
        for candidate in public:
            self._add_local(candidate, None, on_candidate)
        self._local_candidates_start = self._local_candidates_end = True

    async def gather_from(
        self, servers: Sequence[IceServer], on_candidate: Callable[[str], None]
    ) -> None:
        """Gather the candidates that STUN and TURN servers give, within `GATHER_S`."""

        def add(candidate: aioice.Candidate, protocol: StunProtocol | None) -> None:
            self._add_local(candidate, protocol, on_candidate)

        self._is_gathering = True
        try:
            await self._gatherer.query_servers(
                servers, list(self._protocols), self._make_protocol, add
            )
        finally:
            self._is_gathering = False
        if self._early_checks_done:
            self._check_list_maybe_fail()

    async def connect(self) -> None:
        await super().connect()
        # needed while connecting only: the result of the checks, and checks that came early
        self._check_list_state = _DISCARDING_QUEUE  # type: ignore[assignment]
        self._early_checks = ()  # type: ignore[assignment]

    def protocol_lost(self, protocol: StunProtocol) -> None:
        if any(pair.protocol is protocol for pair in self._nominated.values()):
            self.owner.path_lost(self)

    def read_pending(self) -> bool:
        """Read what waits at the ports; return whether more may wait.

        Not to be called while datagrams are being delivered.
        """
        more = [port.read() for port in _ports_of(self._protocols)]
        return any(more)

    async def close(self) -> None:
        self._closing = True
        await self._gatherer.close()
        # TURN servers are told to release their allocations, one after the other. aioice would
        # repeat that for a minute where a server is gone.
        transports: list[Any] = [item.transport for item in self._protocols]
        relays = [item for item in transports if isinstance(item, TurnTransport)]
        for relay in relays:
            relay.close()

        def give_up() -> None:
            for relay in relays:
                relay._TurnTransport__close_task.cancel()  # type: ignore[attr-defined]

        timer = asyncio.get_running_loop().call_later(RELEASE_S, give_up)
        try:
            await super().close()
        finally:
            timer.cancel()
        self.owner.path_lost(self)
        # what refers to the agent, and to which it refers: freed now, and not by the collector
        self.owner = NOBODY
        for pair in self._check_list:
            pair.task = None  # a cancelled one has the pair in its traceback
        self._check_list.clear()
        self._early_checks = ()  # type: ignore[assignment]
        self._checked_by = None

    def _make_protocol(self) -> GuardedProtocol:
        return GuardedProtocol(self)

    def _add_local(
        self,
        candidate: aioice.Candidate,
        protocol: StunProtocol | None,
        on_candidate: Callable[[str], None],
    ) -> None:
        """Add a candidate, and its protocol (if it has one of its own) to the checks."""
        known = {(item.host, item.port) for item in self._local_candidates}
        if (candidate.host, candidate.port) in known:
            return  # there is no NAT between this machine and the STUN server
        self._local_candidates.append(candidate)
        if protocol is not None:
            self._protocols.append(protocol)
            if self._early_checks_done:
                for remote in self._remote_candidates:
                    self._pair_remote_candidate(remote)
                self.sort_check_list()
        on_candidate(candidate.to_sdp())

    def _probes(self) -> bool:
        """Whether this end has to check what the peer's candidates name, and not only answer.

        A server has to if the peer sends no checks (ICE-lite), or if they cannot come in before
        something has gone out: through a relay, and through a NAT that is not known to forward.
        """
        return self._probes_from_all or any(map(self._probes_from, self._protocols))

    @property
    def _probes_from_all(self) -> bool:
        return not self._options.is_server or self.remote_is_lite

    def _probes_from(self, protocol: StunProtocol) -> bool:
        if self._probes_from_all:
            return True
        transport = protocol.transport
        if isinstance(transport, SharedTransport):
            return self._options.public.is_behind_nat(transport.port)
        return True

    @functools.cached_property
    def _own_addresses(self) -> frozenset[str]:
        own = (candidate.host for candidate in self._local_candidates)
        return frozenset((*own, *get_host_addresses(use_ipv4=True, use_ipv6=True)))

    def _pair_remote_candidate(self, remote_candidate: aioice.Candidate) -> None:
        """Pair a candidate that was signalled with local ones; replaces aioice's method."""
        for protocol in self._protocols:
            if (
                self._probes_from(protocol)
                and protocol.local_candidate.can_pair_with(remote_candidate)
                and self._find_pair(protocol, remote_candidate) is None
            ):
                self._check_list.append(CandidatePair(protocol, remote_candidate))

    def _remote_candidates_expected(self) -> bool:
        # the checks have not failed while gathering may still add pairs
        return self._is_gathering or super()._remote_candidates_expected()


def _ports_of(protocols: Sequence[StunProtocol]) -> list[UdpPort]:
    transports = [protocol.transport for protocol in protocols]
    return [item.port for item in transports if isinstance(item, SharedTransport)]
