"""Where ICE looks for paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from adapters.transport.sockets.udp import UdpSockets
from domain.session.addresses import PortRange


@dataclass(frozen=True, slots=True, kw_only=True)
class IceOptions:
    """What is the same for all connections of a process."""

    loopback: Sequence[str] = ()
    """Loopback addresses to gather as well, where both ends are on one machine."""
    relay_only: bool = False
    """Whether only relayed candidates are gathered (the ICE transport policy ``relay``)."""
    ports: PortRange | None = None
    """The UDP ports to bind; any free port without it."""
    receives_media: bool = True
    """Whether this end receives media, so that coalesced reads pay off."""
    sockets: UdpSockets = field(default_factory=UdpSockets, compare=False)
    """Reads the sockets of all connections."""
