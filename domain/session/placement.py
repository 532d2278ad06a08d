"""How the nodes of a server divide its sessions among themselves.

The id and the secret of a session begin with the number of its node, in hex. If a server starts
again with another number of nodes, an older session belongs to the node whose number is the
remainder of the division by that number.

A new offer is assigned to the node with the fewest sessions. The digest of the offer determines
which node makes that decision. Nodes that are not running or do not respond take part in neither.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass
from typing import Protocol

MAX_NODES = 256
ABSENT = 2**31 - 1
"""The session count of a node that is not running."""
UNRESPONSIVE_S = 1.5
"""A node without a heartbeat for this long gets no new offers. It sends several a second."""
UNREACHABLE_S = 4.0
"""Requests for the sessions of a node are refused after this long without a heartbeat.

No other node could serve them, and a node of a busy machine may be late.
"""
_DIGITS = 2
_REMEMBERED_OFFERS = 10_000


@dataclass(frozen=True, slots=True)
class NodeId:
    """One of a server's nodes: its number, from 0, and how many there are."""

    number: int = 0
    count: int = 1

    def owns(self, name: str) -> bool:
        """Return whether this node has a session, given its id, its secret or a recording's name.

        The name of a recording ends with the id of its session.
        """
        return node_number_of(name.rpartition("-")[2], self.count) == self.number

    def mark(self, secret: str) -> str:
        """Replace the first digits of a hexadecimal secret by this node's number."""
        return f"{self.number:0{_DIGITS}x}{secret[_DIGITS:]}"


def node_number_of(id_or_secret: str, count: int) -> int:
    """Return the number of a session's node; 0 for text that is not an id or a secret."""
    try:
        return int(id_or_secret[:_DIGITS], 16) % count
    except ValueError:
        return 0


def digest_of_offer(sdp: str) -> bytes:
    """Return the 32 bytes that identify an offer among nodes."""
    return hashlib.sha256(sdp.encode(errors="surrogatepass")).digest()


def assigner_of(digest: bytes, count: int, *, avoid: Container[int] = frozenset()) -> int:
    """Return the number of the node that assigns an offer, by the offer's digest.

    In place of a node to avoid, the next one assigns.
    """
    candidates = ((digest[0] + step) % count for step in range(count))
    return next((node for node in candidates if node not in avoid), digest[0] % count)


class SessionCounts(Protocol):
    """The number of sessions by node, in memory that all nodes share.

    Each number is read and written atomically.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, node: int, /) -> int: ...

    def __setitem__(self, node: int, count: int, /) -> None: ...


class Heartbeats(Protocol):
    """When each node last showed that it works, in memory that all nodes share.

    In monotonic seconds; 0 for a node that has not begun to work. Each number is read and written
    atomically.
    """

    def __getitem__(self, node: int, /) -> float: ...

    def __setitem__(self, node: int, time: float, /) -> None: ...


def silent_s(heartbeat: float, *, now: float) -> float:
    """Return for how long a node has shown nothing; 0 for a node that has not begun to work."""
    return now - heartbeat if heartbeat > 0.0 else 0.0


class OfferAssigner:
    """Assigns offers to nodes.

    A client may send an offer again because the answer was lost. It then gets the same node. The
    latest ten thousand offers are remembered.
    """

    def __init__(self, counts: SessionCounts) -> None:
        self._counts = counts
        self._assigned: OrderedDict[bytes, int] = OrderedDict()

    def node_for(self, digest: bytes, *, avoid: Container[int] = frozenset()) -> int:
        """Return the number of an offer's node, even if no node is running.

        An offer whose node is to be avoided is assigned again.
        """
        node = self._assigned.get(digest)
        if node is None or node in avoid:
            nodes = range(len(self._counts))
            usable = [number for number in nodes if number not in avoid]
            node = min(usable or nodes, key=self._counts.__getitem__)
            if self._counts[node] == ABSENT:
                return node
            self._counts[node] += 1  # until the node reports its number again
            self._assigned[digest] = node
            if len(self._assigned) > _REMEMBERED_OFFERS:
                self._assigned.popitem(last=False)
        return node
