"""The UDP ports of a process: one for each local address."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from adapters.transport.sockets import kernel_filter
from adapters.transport.sockets.datagrams import BUFFER_BYTES, DatagramReader
from adapters.transport.sockets.port import UdpPort
from adapters.transport.sockets.sources import Sources
from domain.errors import PortInUse

_TRIES = 20
"""Numbers that are tried until one is free on all addresses."""


@dataclass(slots=True, eq=False)
class UdpPorts:
    """Opens ports on the running event loop, and shares them among all sessions.

    Ports that `open` has bound stay open until `close`. Others, on addresses that this machine gets
    later, close with their last session.
    """

    number: int = 0
    """The number of all ports; 0 lets each one have any."""
    is_paced: bool = True
    """Whether reads wait for each other, see `UdpPort`."""
    reader: DatagramReader = field(default_factory=DatagramReader)
    sources: Sources = field(default_factory=Sources)
    _ports: dict[str, UdpPort] = field(default_factory=dict, init=False)

    def open(self, addresses: Sequence[str]) -> Sequence[str]:
        """Bind the same number on all addresses; a free one if `number` is 0.

        Returns the reasons why addresses have no port. Raises `PortInUse` if the number is in use
        on any of them.
        """
        is_given = bool(self.number)
        for tries_left in reversed(range(1 if is_given else _TRIES)):
            problems = []
            try:
                for address in addresses:
                    try:
                        port = self.at(address)
                    except OSError as error:
                        if error.errno in (errno.EADDRINUSE, errno.EACCES):
                            raise
                        problems.append(f"{address}: {error.strerror}")
                    else:
                        port.is_kept = True
                        self.number = port.address[1]
                return problems
            except OSError as error:
                taken = f"UDP port {self.number} of {address} {_reason(error)}"
                self.close()
                if not tries_left:
                    raise PortInUse(taken) from error
                self.number = 0
        raise AssertionError("unreachable")

    @property
    def opened(self) -> Sequence[UdpPort]:
        """The ports that are bound."""
        return list(self._ports.values())

    @property
    def buffer_bytes(self) -> int:
        """The size of the smallest receive buffer; that of a perfect system if there is no port."""
        sizes = [port.buffer_bytes for port in self._ports.values()]
        return min(sizes, default=BUFFER_BYTES)

    def at(self, address: str) -> UdpPort:
        """Return the port of a local address, and bind it if need be. Raises `OSError`."""
        port = self._ports.get(address)
        if port is None or port.is_closed:
            port = self._ports[address] = self._bind(address)
        return port

    def close(self) -> None:
        """Close all ports."""
        for port in self._ports.values():
            port.close()
        self._ports.clear()

    def _bind(self, address: str) -> UdpPort:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_DGRAM)
        try:
            bound.setblocking(False)
            self.reader.prepare(bound)
            kernel_filter.attach(bound)
            bound.bind((address, self.number))
            return UdpPort(bound, self.reader, self.sources, is_paced=self.is_paced)
        except BaseException:
            bound.close()
            raise


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "is in use by another program; choose another with --udp-port"
    return f"cannot be bound: {error.strerror}; choose another with --udp-port"
