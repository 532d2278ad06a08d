"""Options of ICE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aioice.ice import get_host_addresses

from adapters.transport.ice.public import PublicAddresses
from adapters.transport.sockets.datagrams import DatagramReader
from adapters.transport.sockets.ports import UdpPorts
from domain.session.address_kinds import CheckRules
from domain.session.checks import CheckLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class IceOptions:
    """The ICE options of all connections of a process."""

    loopback: Sequence[str] = ()
    """Loopback addresses to gather as well, if both ends are on one machine."""
    relay_only: bool = False
    """Whether only relayed candidates are gathered (the ICE transport policy ``relay``)."""
    shared: UdpPorts | None = None
    """The UDP ports that all connections share; without it each ICE session has its own."""
    public: PublicAddresses = field(default_factory=PublicAddresses)
    """Addresses that shared ports have besides those of this machine."""
    public_only: bool = False
    """Whether the addresses of this machine are not announced (but used)."""
    is_server: bool = False
    """Whether checks are answered, and candidates are probed only where that is needed."""
    probe_private: bool = False
    """Whether a server probes private addresses."""
    max_candidates: int = 50
    """Remote candidates of a connection that are taken at once."""
    limits: CheckLimits = field(default_factory=CheckLimits, compare=False)
    """Limits checks of all connections together."""
    reader: DatagramReader = field(default_factory=DatagramReader, compare=False)
    """Reads the ports that are not shared."""

    def ports(self) -> UdpPorts:
        """The UDP ports for an ICE session."""
        return UdpPorts(is_paced=False, reader=self.reader) if self.shared is None else self.shared

    def rules(self) -> CheckRules:
        """To which addresses checks may be sent."""
        return CheckRules(
            is_on_loopback=bool(self.loopback) or not _addresses(),
            probe_private=self.probe_private or not self.is_server,
            probe_own=not self.is_server,
        )

    def host_addresses(self) -> Sequence[str]:
        """The addresses of this machine that have host candidates."""
        if self.relay_only:
            return ()
        addresses = _addresses()
        # aioice leaves loopback out. It is needed where both ends are on one machine, and where
        # there is no other address.
        return (*addresses, *(self.loopback or (() if addresses else ("127.0.0.1",))))


def _addresses() -> Sequence[str]:
    return get_host_addresses(use_ipv4=True, use_ipv6=True)
