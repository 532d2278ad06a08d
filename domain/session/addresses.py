"""Addresses of machines."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def loopback_of(host: str) -> tuple[str, ...]:
    """Return the loopback address at which a host is reached, if it is this machine."""
    if not is_loopback(host):
        return ()
    return ("::1",) if ":" in host else ("127.0.0.1",)


def network_of(address: str) -> str:
    """Return what the addresses of one customer have in common: of IPv6 the /64 (RFC 6177).

    An IPv4 address that is written as an IPv6 one is itself. Text that is not an address stays as
    it is.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
