"""Options of ICE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from adapters.transport.sockets.udp import UdpSockets
from domain.session.addresses import PortRange


@dataclass(frozen=True, slots=True, kw_only=True)
class IceOptions:
    """The ICE options of all connections of a process."""

    loopback: Sequence[str] = ()
    """Loopback addresses to gather as well, if both ends are on one machine."""
    relay_only: bool = False
    """Whether only relayed candidates are gathered (the ICE transport policy ``relay``)."""
    ports: PortRange | None = None
    """The UDP ports to bind; any free port without it."""
    receives_media: bool = True
    """Whether this end receives media, so that coalesced reads pay off."""
    sockets: UdpSockets = field(default_factory=UdpSockets, compare=False)
    """The UDP sockets of all connections."""
