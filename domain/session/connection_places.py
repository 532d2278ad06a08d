"""Which HTTP connections a server keeps when it has as many as it may have.

Opening a connection costs a stranger nothing, so a full server does not only refuse. A connection
that does nothing gives way to a new one. Rules:

- A connection with a request under way never gives way.
- First go connections that have not completed a request. Of those, the address that has the most
  of them loses its oldest one: whoever opens many is the first to lose some.
- Then go those that have completed one, the one that has been idle for longest first.
- But idle ones go first where the others have less than a quarter of the places: newcomers need
  some time for their requests, and would take it from each other.
- An address at its own limit displaces its own connections only, by the same rules.
  The addresses of an IPv6 network (/64) count as one.
- Exempt connections (of trusted proxies) have no limit by address and never give way. They count
  in all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from domain.session.addresses import network_of

K = TypeVar("K", bound=Hashable)
NEW_SHARE = 4
"""Connections that have not completed a request get at least one of so many places."""


class Stage(Enum):
    """What an HTTP connection is doing."""

    NEW = auto()
    """It has not completed a request."""
    BUSY = auto()
    """A request is under way."""
    IDLE = auto()
    """It has completed a request and none is under way, or its peer does not read the answer."""


@dataclass(frozen=True, slots=True)
class Decision(Generic[K]):
    """What becomes of a new connection."""

    is_admitted: bool
    gives_way: K | None = None
    """A connection to close; its place is taken already."""


@dataclass(slots=True)
class _Place:
    address: str
    is_exempt: bool
    stage: Stage = Stage.NEW


class ConnectionPlaces(Generic[K]):
    """The HTTP connections that a server has, each under a key."""

    def __init__(self, *, max_connections: int, max_per_address: int | None) -> None:
        """Begin with none; `max_per_address` is None where addresses tell nothing."""
        self._max_connections = max_connections
        self._max_per_address = max_per_address
        self._places: dict[K, _Place] = {}
        self._by_address: defaultdict[str, dict[K, None]] = defaultdict(dict)
        # all of these have the oldest first
        self._idle: dict[K, None] = {}
        self._new: defaultdict[str, dict[K, None]] = defaultdict(dict)
        self._addresses_with: defaultdict[int, dict[str, None]] = defaultdict(dict)
        """The addresses by how many new connections they have."""
        self._most_new = 0
        self._all_new = 0

    def __len__(self) -> int:
        return len(self._places)

    def admit(self, key: K, address: str, *, is_exempt: bool = False) -> Decision[K]:
        """Give a new connection a place, or that of another one, or none."""
        address = network_of(address)
        victim: K | None = None
        if not is_exempt and len(self._by_address.get(address, ())) == self._max_per_address:
            victim = self._first_of(address)
            if victim is None:
                return Decision(is_admitted=False)
        elif len(self._places) >= self._max_connections:
            victim = self._first_of_all()
            if victim is None:
                return Decision(is_admitted=False)
        if victim is not None:
            self.leave(victim)
        self._places[key] = _Place(address, is_exempt)
        if not is_exempt:
            self._by_address[address][key] = None
            self._add_new(key, address)
        return Decision(is_admitted=True, gives_way=victim)

    def give_way(self) -> K | None:
        """Take the place of the connection that is the first to give way, and return its key."""
        victim = self._first_of_all()
        if victim is not None:
            self.leave(victim)
        return victim

    def change(self, key: K, stage: Stage) -> None:
        """Note what a connection is doing now; one that has left is ignored."""
        place = self._places.get(key)
        if place is None or place.stage is stage:
            return
        self._remove_from_stage(key, place)
        place.stage = stage
        if place.is_exempt:
            return
        if stage is Stage.NEW:
            self._add_new(key, place.address)
        elif stage is Stage.IDLE:
            self._idle[key] = None

    def leave(self, key: K) -> None:
        """Free the place of a connection; one that has left is ignored."""
        place = self._places.pop(key, None)
        if place is None or place.is_exempt:
            return
        self._remove_from_stage(key, place)
        of_address = self._by_address[place.address]
        del of_address[key]
        if not of_address:
            del self._by_address[place.address]

    def _first_of(self, address: str) -> K | None:
        held, new = self._by_address[address], self._new.get(address, {})
        idle = next((key for key in held if self._places[key].stage is Stage.IDLE), None)
        if not new or (idle is not None and len(new) < len(held) // NEW_SHARE):
            return idle
        return next(iter(new))

    def _first_of_all(self) -> K | None:
        if not self._all_new or (self._idle and self._all_new < len(self._places) // NEW_SHARE):
            return next(iter(self._idle), None)
        address = next(iter(self._addresses_with[self._most_new]))
        return next(iter(self._new[address]))

    def _add_new(self, key: K, address: str) -> None:
        of_address = self._new[address]
        of_address[key] = None
        self._count_new(address, len(of_address) - 1, len(of_address))

    def _remove_from_stage(self, key: K, place: _Place) -> None:
        if place.is_exempt:
            return
        if place.stage is Stage.IDLE:
            del self._idle[key]
        elif place.stage is Stage.NEW:
            of_address = self._new[place.address]
            del of_address[key]
            self._count_new(place.address, len(of_address) + 1, len(of_address))
            if not of_address:
                del self._new[place.address]

    def _count_new(self, address: str, before: int, now: int) -> None:
        self._all_new += now - before
        if before:
            del self._addresses_with[before][address]
            if not self._addresses_with[before]:
                del self._addresses_with[before]
        if now:
            self._addresses_with[now][address] = None
        if now > self._most_new or (
            before == self._most_new and before not in self._addresses_with
        ):
            self._most_new = now  # counts change by one
