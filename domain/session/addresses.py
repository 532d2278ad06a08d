"""Addresses and ports."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from domain.errors import SettingInvalid


@dataclass(frozen=True, slots=True)
class PortRange:
    """UDP ports from `first` to `last`. Raises `SettingInvalid` for an invalid range."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1024 <= self.first <= self.last <= 65535:
            raise SettingInvalid("udp_ports", f"{self} is not a range of ports from 1024 to 65535")

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
