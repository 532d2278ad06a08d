"""Gathering candidates: from this machine's addresses, and from STUN and TURN servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import aioice
from aioice.ice import StunProtocol, relayed_candidate, server_reflexive_candidate

from adapters.transport.ice.candidates import host_candidate, server_address, unanswered
from adapters.transport.ice.guard import GuardedProtocol
from adapters.transport.ice.options import IceOptions
from domain.session.ice import IceServer

GATHER_S = 1.0
"""The longest time that gathering waits for a STUN or TURN server."""


class CandidateGatherer:
    """Gathers the candidates of one ICE agent."""

    __slots__ = ("_is_closed", "_options", "_queries", "problems")

    def __init__(self, options: IceOptions) -> None:
        self._options = options
        self._queries: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.problems: list[str] = []
        """The reasons why addresses and servers gave no candidates."""

    def attach_hosts(
        self, make_protocol: Callable[[], GuardedProtocol], username: str
    ) -> Iterator[GuardedProtocol]:
        """Use the UDP port of each address of this machine, for the agent that `username` names.

        Yields the protocols with `local_candidate` set.
        """
        ports = self._options.ports()
        for address in self._options.host_addresses():
            try:
                port = ports.at(address)
            except OSError as error:
                self.problems.append(f"no UDP port could be bound on {address}: {error.strerror}")
                continue
            protocol = make_protocol()
            protocol.local_candidate = host_candidate(*port.address)
            port.attach(protocol, username)
            yield protocol

    async def query_servers(
        self,
        servers: Sequence[IceServer],
        hosts: Sequence[StunProtocol],
        make_protocol: Callable[[], GuardedProtocol],
        add: Callable[[aioice.Candidate, StunProtocol | None], None],
    ) -> None:
        """Query all STUN and TURN servers at the same time, for at most `GATHER_S`.

        STUN servers are queried from the sockets `hosts`, unless sessions share their ports: then
        `PublicAddresses` knows the answers. TURN allocations have protocols of their
        own, which `make_protocol` makes. `add` is called with each candidate, and with its protocol
        if it has one of its own.
        """

        async def query(
            server: IceServer, request: Coroutine[Any, Any, tuple[aioice.Candidate, Any]]
        ) -> None:
            try:
                async with asyncio.timeout(GATHER_S):
                    candidate, protocol = await request
            except Exception as error:
                # OSError, TimeoutError and the TransactionErrors of STUN; whatever a server
                # answers, it costs no more than its own candidate
                self.problems.append(f"{server.url} {unanswered(error, within_s=GATHER_S)}")
                return
            if not self._is_closed:
                add(candidate, protocol)
            elif protocol is not None:
                protocol.transport.close()

        queries = []
        ipv4 = [protocol for protocol in hosts if ":" not in protocol.local_candidate.host]
        for server in servers:
            if server.is_turn:
                queries.append(query(server, self._query_turn(server, make_protocol)))
            elif self._options.shared is None and not self._options.relay_only:
                address = server_address(server)[:2]
                queries += [
                    query(server, server_reflexive_candidate(protocol, address))
                    for protocol in ipv4
                ]
        self._queries = {asyncio.create_task(item) for item in queries}
        try:
            if self._queries:
                await asyncio.wait(self._queries)
        finally:
            for task in self._queries:
                task.cancel()

    async def close(self) -> None:
        """Cancel queries that are still going on."""
        self._is_closed = True
        for task in self._queries:
            task.cancel()
        if self._queries:
            await asyncio.wait(self._queries)

    def _query_turn(
        self, server: IceServer, make_protocol: Callable[[], GuardedProtocol]
    ) -> Coroutine[Any, Any, tuple[aioice.Candidate, StunProtocol]]:
        host, port, transport = server_address(server)
        return relayed_candidate(
            component=1,
            hide_related_address=self._options.relay_only,
            protocol_factory=make_protocol,
            turn_server=(host, port),
            turn_username=server.username,
            turn_password=server.credential,
            turn_ssl=server.url.startswith("turns"),
            turn_transport=transport,
        )
