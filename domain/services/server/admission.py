"""Who may open a session now: places, and limits for what has not proved itself.

The rules:
1. A session has proved itself when it has a secure media path. It keeps its place then.
2. Sessions that have not are limited: in all, by address, and in how many offers an address makes.
3. Where their places run out, they give way to newcomers: that token and address first which has
   the most of them.
4. When much was recorded within a day, nothing new begins.
5. An offer that resumes a session needs none of this.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import TypeAlias

from domain.errors import ServerFull, StorageFull, TooManyRequests
from domain.session.addresses import is_loopback, network_of
from domain.session.caller import Caller
from domain.session.limits import GB, WrittenInADay
from domain.session.policy import SessionPolicy
from domain.session.session import Session, SessionState

UNPROVEN_SHARE = 4
"""Sessions that have not proved themselves get one of so many places."""
GRACE_S = 5.0
"""A session has so much time to connect before it gives way to an equal: where many connect at the
same time, none would get there otherwise."""
RETRY_S = 1.0
"""When to come again where other sessions of the same address are connecting."""
MAX_ADDRESSES = 10_000
"""Addresses whose offers are counted; if there are more, the oldest offers are forgotten."""

_Group: TypeAlias = tuple[str, str]
"""A token and the network of an address, whose sessions are limited together."""


@dataclass(slots=True, eq=False)
class _Place:
    """The place of one session, from the admission of its offer to its end."""

    group: _Group
    since: float
    session: Session | None = None
    """None while the offer is being answered."""

    @property
    def is_unproven(self) -> bool:
        return self.session is None or self.session.state is SessionState.CONNECTING


class Admission:
    """The places of a server, and who has them. Times are monotonic seconds."""

    def __init__(self, policy: SessionPolicy) -> None:
        self._policy = policy
        self._max_unproven_in_all = min(
            policy.max_sessions, max(policy.max_unproven, policy.max_sessions // UNPROVEN_SHARE)
        )
        self._offers = OfferRate(policy.offers_per_minute)
        self._places: dict[str, _Place] = {}  # by session, oldest first
        self._written = WrittenInADay()
        self._is_closing = False

    @property
    def places_taken(self) -> int:
        """The number of sessions, including those that are being opened or completed."""
        return len(self._places)

    def close(self) -> None:
        """Admit nothing from now on."""
        self._is_closing = True

    def check_open(self) -> None:
        """Raise `ServerFull` after `close`."""
        if self._is_closing:
            raise ServerFull("the server is shutting down")

    def admit(self, session_id: str, caller: Caller, *, now: float) -> str | None:
        """Give a place to the session that an offer is to open, until `leave`.

        Returns the id of a session that gives way to it, and is to be ended; its place is free
        already. Raises `TooManyRequests` where the caller has reached a limit, `ServerFull`, and
        `StorageFull`.
        """
        self.check_open()
        self._check_written(now)
        group = caller.token, network_of(caller.address)
        address, is_limited = group[1], self._is_limited(caller)
        unproven = {key: place for key, place in self._places.items() if place.is_unproven}
        theirs = sum(place.group[1] == address for place in unproven.values())
        if is_limited and theirs >= self._policy.max_unproven:
            raise TooManyRequests(
                f"{theirs} sessions of this address are connecting", retry_after_s=RETRY_S
            )
        gives_way = self._who_gives_way(unproven, group, now=now)
        if is_limited:  # the last check: an offer that is refused does not count
            self._offers.count(address, now=now)
        if gives_way is not None:
            del self._places[gives_way]
        self._places[session_id] = _Place(group, now)
        return gives_way

    def opened(self, session: Session) -> None:
        """Note that the session of an offer is there; it may have to give way from now on."""
        self._places[session.id].session = session

    def keep(self, session: Session) -> None:
        """Give a place to a session of an earlier process, whether or not there is one left."""
        self._places[session.id] = _Place(("", ""), 0.0, session)

    def leave(self, session_id: str) -> None:
        """Free the place of a session, if it has one."""
        self._places.pop(session_id, None)

    def wrote(self, count: int, *, now: float) -> None:
        """Note that sessions have written so many bytes."""
        self._written.add(count, now=now)

    def _check_written(self, now: float) -> None:
        most_gb = self._policy.limits.max_day_gb
        if self._written.total(now=now) > most_gb * GB:
            raise StorageFull(
                f"the server has recorded {most_gb:g} GB within 24 hours, and begins nothing new"
            )

    def _who_gives_way(
        self, unproven: dict[str, _Place], newcomer: _Group, *, now: float
    ) -> str | None:
        """Return the session in whose place a newcomer comes; None if there is a free one."""
        is_full = len(self._places) >= self._policy.max_sessions
        if not is_full and len(unproven) < self._max_unproven_in_all:
            return None
        gives_way = _oldest_of_the_greediest(unproven, newcomer, now=now)
        if gives_way is None and is_full:
            raise ServerFull(f"all {self._policy.max_sessions} sessions are taken")
        if gives_way is None:
            raise ServerFull(f"{len(unproven)} other sessions are connecting")
        return gives_way

    def _is_limited(self, caller: Caller) -> bool:
        """Whether there are limits for the address of a caller.

        If only this machine reaches the server, all callers have the same address, or none.
        """
        is_local = not caller.address or is_loopback(caller.address)
        return not (is_local and self._policy.is_local)


def _oldest_of_the_greediest(
    unproven: dict[str, _Place], newcomer: _Group, *, now: float
) -> str | None:
    """Return the oldest session of the group that has the most, with the newcomer counted in.

    It gives way at once to a group that has less. Otherwise it must have had `GRACE_S`.
    """
    groups = Counter(place.group for place in unproven.values())
    groups[newcomer] += 1
    tokens: Counter[str] = Counter()
    for (token, _), count in groups.items():
        tokens[token] += count

    def weight(group: _Group) -> tuple[int, int]:
        return tokens[group[0]], groups[group]

    opened = {key: place for key, place in unproven.items() if place.session is not None}
    if not opened:
        return None
    most = max(weight(place.group) for place in opened.values())
    oldest, place = next(item for item in opened.items() if weight(item[1].group) == most)
    if most < weight(newcomer) or (most == weight(newcomer) and now - place.since < GRACE_S):
        return None
    return oldest


class OfferRate:
    """Counts the offers of each address (GCRA: one number for each, and no timers).

    An address may make all offers of a minute at once, and gets each back after its part of it.
    """

    def __init__(self, per_minute: int) -> None:
        self._interval_s = 60.0 / per_minute
        self._used_until: OrderedDict[str, float] = OrderedDict()  # the latest offer last

    def count(self, address: str, *, now: float) -> None:
        """Count an offer. Raises `TooManyRequests`; then it does not count."""
        used_until = max(now, self._used_until.get(address, now)) + self._interval_s
        wait_s = used_until - now - 60.0
        if wait_s > 1e-6:
            raise TooManyRequests("too many offers from this address", retry_after_s=wait_s)
        self._used_until[address] = used_until
        self._used_until.move_to_end(address)
        while self._used_until:
            oldest, until = next(iter(self._used_until.items()))
            if until > now and len(self._used_until) <= MAX_ADDRESSES:
                break
            del self._used_until[oldest]
