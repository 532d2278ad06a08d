"""How many connectivity checks may be sent to addresses that have answered none.

A check to such an address may go to somebody who has nothing to do with the session. So it is paid
for: by a check that came from there, or by the bytes of the offer and of the candidates. What an
address has cost is given back when it answers, so that clients which answer are not limited.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

from domain.session.allowance import Allowance

Address: TypeAlias = tuple[str, int]

HOST_CHECKS, HOST_CHECKS_PER_S = 50, 5.0
"""Checks of all sessions to one host that does not answer, at once and from then on."""
ALL_CHECKS, ALL_CHECKS_PER_S = 2000, 200.0
"""Checks of all sessions without a path."""
CHECKS, CHECKS_PER_S = 32, 2.0
"""Checks of one connection at a server."""
CLIENT_CHECKS, CLIENT_CHECKS_PER_S = 300, 5.0
"""The same at a client, which pairs all of its addresses with all of the server's."""
RECEIVED, RECEIVED_PER_S = 100, 100.0
"""Checks of the peer that are looked at; a browser sends twenty a second, aioice fifty."""
CANDIDATES_PER_S = 0.1
"""A client that goes from network to network all day names new candidates with each restart."""
OFFER_SHARE = 0.75
"""Bytes of checks, with the headers of IP and UDP, for each byte that the peer has sent."""
MAX_PAID_BYTES, PAID_BYTES_PER_S = 4096, 10.0
_OVERHEAD_BYTES = 48  # the headers of IPv6 and UDP
_MAX_OWED = 2  # checks for those that came from an address
_WILLING_S = 300.0
"""A host that has answered is not limited for so long: many clients may share its address."""
_MAX_HOSTS = 4096
_MAX_TARGETS = 256


class CheckLimits:
    """The limits that all connections of a process share."""

    def __init__(self) -> None:
        self._all = Allowance(ALL_CHECKS, ALL_CHECKS_PER_S)
        self._hosts: OrderedDict[str, Allowance] = OrderedDict()
        self._willing: OrderedDict[str, float] = OrderedDict()  # until when

    def take(self, host: str, *, now: float, is_connected: bool) -> bool:
        """Take a check to a host. What others do must not hold up who `is_connected`."""
        if not (is_connected or self._all.has(now=now)):
            return False
        if self._willing.get(host, now) <= now:
            allowance = self._hosts.setdefault(host, Allowance(HOST_CHECKS, HOST_CHECKS_PER_S))
            self._hosts.move_to_end(host)
            if len(self._hosts) > _MAX_HOSTS:
                self._hosts.popitem(last=False)
            if not allowance.take(now=now):
                return False
        return is_connected or self._all.take(now=now)

    def answered(self, host: str, checks: int, *, now: float) -> None:
        """Give back what a host has cost."""
        self._all.give_back(checks)
        self._hosts.pop(host, None)
        self._willing[host] = now + _WILLING_S
        self._willing.move_to_end(host)
        if len(self._willing) > _MAX_HOSTS:
            self._willing.popitem(last=False)


class _Target:
    """An address that has not answered."""

    __slots__ = ("checks", "owed", "paid_bytes")

    def __init__(self) -> None:
        self.owed = 0  # checks that came from there, and were not followed by one to there
        self.checks = 0  # sent
        self.paid_bytes = 0.0


class CheckBudget:
    """What one connection may send to addresses that have not answered, over all ICE restarts."""

    def __init__(self, limits: CheckLimits, *, max_candidates: int, is_server: bool) -> None:
        self._limits = limits
        self._is_server = is_server
        most = (CHECKS, CHECKS_PER_S) if is_server else (CLIENT_CHECKS, CLIENT_CHECKS_PER_S)
        self._checks = Allowance(*most)
        self._bytes = Allowance(0.0, PAID_BYTES_PER_S)
        self._targets: OrderedDict[Address, _Target] = OrderedDict()
        self.received = Allowance(RECEIVED, RECEIVED_PER_S)
        """Checks of the peer that are looked at."""
        self.candidates = Allowance(max_candidates, CANDIDATES_PER_S)
        """Remote candidates that are taken."""

    def earn(self, size: int) -> None:
        """Count bytes that the peer has sent to name its addresses."""
        allowance = self._bytes
        allowance.most = min(MAX_PAID_BYTES, allowance.most + size * OFFER_SHARE)
        allowance.give_back(size * OFFER_SHARE)

    def heard(self, address: Address) -> None:
        """Count a check that came from an address: one may be sent there."""
        target = self._target(address)
        target.owed = min(_MAX_OWED, target.owed + 1)

    def take(self, address: Address, size: int, *, now: float, is_connected: bool) -> bool:
        """Take a check of `size` bytes to an address; return False if it must not be sent now."""
        target, size = self._target(address), size + _OVERHEAD_BYTES
        is_paid = self._is_server and not target.owed
        if is_paid and not self._bytes.has(size, now=now):
            return False
        if not self._checks.has(now=now):
            return False
        if not self._limits.take(address[0], now=now, is_connected=is_connected):
            return False
        self._checks.take(now=now)
        target.checks += 1
        if is_paid:
            self._bytes.take(size, now=now)
            target.paid_bytes += size
        else:
            target.owed = max(0, target.owed - 1)
        return True

    def answered(self, address: Address, *, now: float) -> None:
        """Give back what an address has cost, since it wants to be checked."""
        target = self._targets.pop(address, None) or _Target()
        self._checks.give_back(target.checks)
        self._bytes.give_back(target.paid_bytes)
        self._limits.answered(address[0], target.checks, now=now)

    def forget(self, address: Address) -> None:
        """Forget an address; what it has cost is lost."""
        self._targets.pop(address, None)

    def _target(self, address: Address) -> _Target:
        target = self._targets.get(address)
        if target is None:
            target = self._targets[address] = _Target()
            if len(self._targets) > _MAX_TARGETS:
                self._targets.popitem(last=False)
        return target
