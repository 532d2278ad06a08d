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


def usual_address(text: str) -> str:
    """Return an IP address in its usual spelling and without a scope; empty if it is none.

    An IPv4 address that is written as an IPv6 one is an IPv4 address.
    """
    try:
        address = ipaddress.ip_address(text.strip().partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def network_of(address: str) -> str:
    """Return what the addresses of one customer have in common: of IPv6 the /64 (RFC 6177).

    Text that is not an address stays as it is.
    """
    usual = usual_address(address)
    if ":" not in usual:
        return usual or address
    return str(ipaddress.ip_network((usual, 64), strict=False))
