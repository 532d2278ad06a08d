"""How the nodes of a server divide its sessions among themselves.

A keyed hash of a session's id says on which node the session lives. All nodes of a server share the
key, which is new each time that the server starts: nobody else learns from an id to which node it
leads, or how many there are. The id is a hash of the session's secret, so that a secret leads to
the same node as the id, whatever the key and the number of nodes are. After a new start, both lead
to the node that has recovered the session. A node draws secrets for a new session until one is its
own.

A new offer is assigned to the node with the fewest sessions. The digest of the offer determines
which node makes that decision. Nodes that are not running or do not respond take part in neither.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass, field
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
_ID_BYTES = 8
"""An id is a name and is in the names of files. The secret, from which it is made, is longer."""
_REMEMBERED_OFFERS = 10_000


@dataclass(frozen=True, slots=True)
class NodeId:
    """One of a server's nodes: its number, from 0, and how many there are."""

    number: int = 0
    count: int = 1
    key: bytes = field(default=b"", repr=False)
    """Shared by all nodes of a server, and known to nobody else; at most 64 bytes."""

    def number_of(self, session_id: str) -> int:
        """Return the number of a session's node; any text belongs to one of them."""
        digest = hashlib.blake2b(_bytes_of(session_id), key=self.key, digest_size=8).digest()
        return int.from_bytes(digest) % self.count

    def owns(self, name: str) -> bool:
        """Return whether this node has a session, given its id or the name of a recording's part.

        Such a name ends with the id of the session, and the numbers of track and part.
        """
        return self.number_of(name.rpartition("-")[2].partition("_")[0]) == self.number

    def choose_secret(self, draw: Callable[[], str]) -> str:
        """Draw secrets, on average as many as there are nodes, until one is of this node."""
        while not self.owns(id_of(secret := draw())):
            pass
        return secret


def id_of(secret: str) -> str:
    """Return the id of the session that a secret opens: 16 hex digits that tell nothing of it."""
    hashed = hashlib.blake2b(_bytes_of(secret), digest_size=_ID_BYTES, person=b"session id")
    return hashed.hexdigest()


def _bytes_of(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def digest_of_offer(sdp: str) -> bytes:
    """Return the 32 bytes that identify an offer among nodes."""
    return hashlib.sha256(_bytes_of(sdp)).digest()


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
