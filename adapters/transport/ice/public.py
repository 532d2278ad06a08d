"""The addresses at which clients on the internet reach a server, for all of its sessions."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

import aioice
from aioice import stun
from aioice.candidate import candidate_foundation, candidate_priority

from adapters.transport.ice.candidates import host_candidate, server_address, unanswered
from adapters.transport.sockets.port import UdpPort
from domain.errors import SettingInvalid
from domain.session.ice import IceServer

_log = logging.getLogger("gapless")

REFRESH_S = 20.0
"""How often STUN servers are asked. It keeps the way through a NAT open, too (RFC 4787: 2 minutes;
many forget it after 30 s)."""
ANSWER_S = 3.0
"""A STUN server that has not answered after this long has no answer."""
FIRST_ANSWER_S = 1.0
"""How long the start of a server waits for the first answers."""


class PublicAddresses:
    """Addresses that were configured, and those that STUN servers tell; no offer waits for them."""

    def __init__(self, names: Sequence[str] = (), servers: Sequence[IceServer] = ()) -> None:
        """`names` are addresses, or names to look up; of `servers` only STUN servers are asked."""
        self._names = names
        self._servers = [server for server in servers if not server.is_turn]
        self._configured: list[str] = []
        self._answers: dict[tuple[UdpPort, str], aioice.Candidate] = {}  # by port and URL
        self._silent: set[str] = set()  # URLs of servers that have not answered
        self._refreshing: asyncio.Task[None] | None = None

    async def open(self, ports: Sequence[UdpPort]) -> None:
        """Look up the names, and begin to ask the STUN servers from all `ports`.

        Raises `SettingInvalid` for a name that is not known.
        """
        for name in self._names:
            self._configured += await _look_up(name)
        if self._servers:
            await asyncio.wait(
                [asyncio.create_task(self._refresh(ports), name="ask STUN servers")],
                timeout=FIRST_ANSWER_S,
            )
            self._refreshing = asyncio.create_task(self._keep(ports), name="keep STUN answers")

    def candidates(self, ports: Sequence[UdpPort]) -> list[aioice.Candidate]:
        """Return the candidates of ports besides those of their own addresses."""
        numbers = {":" in host: number for host, number in (port.address for port in ports)}
        configured = [
            host_candidate(address, numbers[":" in address])
            for address in self._configured
            if (":" in address) in numbers
        ]
        told = [answer for (port, _), answer in self._answers.items() if port in ports]
        return [*configured, *told]

    def is_behind_nat(self, port: UdpPort) -> bool:
        """Whether there may be a NAT or a firewall before a port that is not known to forward.

        That is so where a STUN server was needed to learn the port's address.
        """
        return any(
            asked is port and answer.host not in self._configured
            for (asked, _), answer in self._answers.items()
        )

    def close(self) -> None:
        """Ask no more."""
        if self._refreshing is not None:
            self._refreshing.cancel()

    async def _keep(self, ports: Sequence[UdpPort]) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            await self._refresh(ports)

    async def _refresh(self, ports: Sequence[UdpPort]) -> None:
        asked = [port for port in ports if ":" not in port.address[0]]
        for server in self._servers:
            reasons = await asyncio.gather(*(self._ask(server, port) for port in asked))
            if any(reason is None for reason in reasons):
                self._silent.discard(server.url)
            elif reasons and server.url not in self._silent:
                self._silent.add(server.url)
                _log.warning("%s %s", server.url, reasons[0])

    async def _ask(self, server: IceServer, port: UdpPort) -> str | None:
        """Ask a server for the address of a port; return the reason why there is no answer."""
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        host, number, _ = server_address(server)
        try:
            async with asyncio.timeout(ANSWER_S):
                loop = asyncio.get_running_loop()
                found = await loop.getaddrinfo(host, number, family=socket.AF_INET)
                answer = await port.request(request, found[0][4][:2])
                mapped = answer.attributes["XOR-MAPPED-ADDRESS"]
        except Exception as error:
            # OSError, TimeoutError and the TransactionErrors of STUN; whatever a server answers
            self._answers.pop((port, server.url), None)
            return unanswered(error, within_s=ANSWER_S)
        self._answers[port, server.url] = aioice.Candidate(
            foundation=candidate_foundation("srflx", "udp", port.address[0]),
            component=1,
            transport="udp",
            priority=candidate_priority(1, "srflx"),
            host=mapped[0],
            port=mapped[1],
            type="srflx",
            related_address=port.address[0],
            related_port=port.address[1],
        )
        return None


async def _look_up(name: str) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise SettingInvalid("public_address", f"{name!r} cannot be looked up: {error}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
