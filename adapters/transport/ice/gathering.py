"""Gathering candidates: from this machine's addresses, and from STUN and TURN servers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import aioice
from aioice import stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import (
    StunProtocol,
    get_host_addresses,
    relayed_candidate,
    server_reflexive_candidate,
)

from adapters.transport.ice.candidates import server_address
from adapters.transport.ice.guard import GuardedProtocol
from adapters.transport.ice.options import IceOptions
from domain.session.addresses import PortRange
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

    def bind_host_addresses(
        self, make_protocol: Callable[[], GuardedProtocol]
    ) -> Iterator[GuardedProtocol]:
        """Bind a socket on each address of this machine.

        Yields their protocols with `local_candidate` set.
        """
        if self._options.relay_only:
            return
        addresses = get_host_addresses(use_ipv4=True, use_ipv6=True)
        # aioice leaves loopback out. It is needed where both ends are on one machine, and where
        # there is no other address.
        loopback = self._options.loopback or (() if addresses else ("127.0.0.1",))
        for address in (*addresses, *loopback):
            if (protocol := self._bind(address, make_protocol)) is not None:
                yield protocol

    async def query_servers(
        self,
        servers: Sequence[IceServer],
        hosts: Sequence[StunProtocol],
        make_protocol: Callable[[], GuardedProtocol],
        add: Callable[[aioice.Candidate, StunProtocol | None], None],
    ) -> None:
        """Query all STUN and TURN servers at the same time, for at most `GATHER_S`.

        STUN servers are queried from the sockets `hosts`. TURN allocations have protocols of their
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
                self.problems.append(f"{server.url} {_reason(error)}")
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
            elif not self._options.relay_only:
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

    def _bind(
        self, address: str, make_protocol: Callable[[], GuardedProtocol]
    ) -> GuardedProtocol | None:
        for port in _ports(self._options.ports):
            try:
                protocol = self._options.sockets.open(make_protocol, address, port)
            except OSError:
                continue
            host, port = protocol.transport.get_extra_info("sockname")[:2]
            protocol.local_candidate = aioice.Candidate(
                foundation=candidate_foundation("host", "udp", host),
                component=1,
                transport="udp",
                priority=candidate_priority(1, "host"),
                host=host,
                port=port,
                type="host",
            )
            return protocol
        self.problems.append(f"no UDP port could be bound on {address}")
        return None

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


def _ports(allowed: PortRange | None) -> Iterator[int]:
    """The ports to try: 0 for any free one, or all of a range, from a random one on."""
    if allowed is None:
        yield 0
        return
    count = allowed.last - allowed.first + 1
    start = secrets.randbelow(count)
    for index in range(count):
        yield allowed.first + (start + index) % count


def _reason(error: Exception) -> str:
    if isinstance(error, stun.TransactionFailed):
        code, text = error.response.attributes.get("ERROR-CODE", (0, ""))
        return f"refuses the credentials ({code} {text})" if code == 401 else f"says {code} {text}"
    if isinstance(error, TimeoutError | stun.TransactionTimeout):
        return f"has not answered within {GATHER_S:g} s"
    return f"cannot be reached: {error}"
