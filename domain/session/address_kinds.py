"""Kinds of addresses, and to which of them connectivity checks of ICE may be sent.

Whoever may send an offer names addresses in it, and may forge the source of a check. So a check is
something that this machine sends because a stranger wants it to.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass


class AddressKind(enum.Enum):
    """What an IP address is for."""

    PUBLIC = enum.auto()
    PRIVATE = enum.auto()
    """RFC 1918, ULA, the shared space of carriers (RFC 6598), and IPv6 site-local."""
    LOOPBACK = enum.auto()
    LINK_LOCAL = enum.auto()
    METADATA = enum.auto()
    """Services of clouds that tell secrets to whoever asks from the machine."""
    MULTICAST = enum.auto()
    RESERVED = enum.auto()
    """Unspecified, broadcast, or without a use."""
    TRANSLATED = enum.auto()
    """An IPv6 address that stands for an IPv4 address: nobody has it as a candidate, and it may be
    any of the others."""


_NETWORKS = (
    (AddressKind.METADATA, (
        "169.254.169.254/32",  # AWS, Azure, Google, Oracle and most others
        "169.254.170.2/32",  # AWS, containers
        "168.63.129.16/32",  # Azure
        "100.100.100.200/32",  # Alibaba
        "192.0.0.192/32",  # Oracle
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # Google
        "fd00:42::42/128",  # Scaleway
        "fd00:a9fe:a9fe::/64",  # Oracle
        "fe80::a9fe:a9fe/128",  # OpenStack
    )),
    (AddressKind.LOOPBACK, ("127.0.0.0/8", "::1/128")),
    (AddressKind.LINK_LOCAL, ("169.254.0.0/16", "fe80::/10")),
    (AddressKind.MULTICAST, ("224.0.0.0/4", "ff00::/8")),
    (AddressKind.RESERVED, ("0.0.0.0/8", "192.0.0.0/24", "240.0.0.0/4", "100::/64", "5f00::/16")),
    (AddressKind.TRANSLATED, (
        "::/96",  # IPv4-compatible, with the unspecified address
        "::ffff:0:0/96",  # IPv4-mapped
        "::ffff:0:0:0/96",  # SIIT
        "64:ff9b::/96", "64:ff9b:1::/48",  # NAT64
        "2002::/16",  # 6to4
        "192.88.99.0/24",  # relays for 6to4
        "2001::/32",  # Teredo
    )),
    (AddressKind.PRIVATE, (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10",
    )),
)  # fmt: skip
_KINDS = [
    (ipaddress.ip_network(network), kind) for kind, networks in _NETWORKS for network in networks
]


@functools.lru_cache(maxsize=1024)
def kind_of(host: str) -> AddressKind | None:
    """Return the kind of an address; None for a name, and for an address with a scope."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if "%" in host:
        return None
    return next((kind for network, kind in _KINDS if address in network), AddressKind.PUBLIC)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRules:
    """To which addresses an ICE agent may send something."""

    is_on_loopback: bool = False
    """Whether the agent can be reached on a loopback address."""
    probe_private: bool = True
    """Whether private addresses are checked because the peer has named them."""
    probe_own: bool = True
    """The same for addresses of this machine other than loopback."""

    def may_answer(self, host: str, *, at: str) -> bool:
        """Whether a check that came from `host` to the local address `at` may be answered.

        Private addresses may: clients in the same network check from theirs. So may those of this
        machine; the kernel drops them if they come from outside.
        """
        match kind_of(host):
            case AddressKind.PUBLIC | AddressKind.PRIVATE:
                return True
            case AddressKind.LOOPBACK:
                return self.is_on_loopback
            case AddressKind.LINK_LOCAL:
                return kind_of(at) is AddressKind.LINK_LOCAL
            case _:
                return False

    def may_probe(self, host: str, *, own: Collection[str]) -> bool:
        """Whether an address may be checked that only the peer's candidates name.

        `own` are the addresses of this machine.
        """
        match kind_of(host):
            case AddressKind.LOOPBACK:
                return self.is_on_loopback
            case AddressKind.PUBLIC:
                return self.probe_own or not _is_among(host, own)
            case AddressKind.PRIVATE:
                return self.probe_private and (self.probe_own or not _is_among(host, own))
            case AddressKind.LINK_LOCAL:
                # a client and a server may be the only two machines of a network
                return self.probe_own and any(
                    kind_of(address) is AddressKind.LINK_LOCAL for address in own
                )
            case _:
                return False


def _is_among(host: str, addresses: Collection[str]) -> bool:
    """Whether an address is one of others, however it is spelled."""
    return ipaddress.ip_address(host) in {ipaddress.ip_address(item) for item in addresses}
