"""Port that finds the node of a session, in a server of several nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Node:
    """Another process or machine that belongs to this server."""

    address: str
    """Where the node accepts requests, in a form that the sending adapter understands."""


@dataclass(frozen=True, slots=True)
class KnownSession:
    """A session that may exist."""

    session_id: str


@dataclass(frozen=True, slots=True)
class NewOffer:
    """An offer for which there is no session yet."""

    sdp: str


SessionKey: TypeAlias = KnownSession | NewOffer


class Placement(Protocol):
    """Finds the node on which a session lives. The placements of all nodes agree."""

    @property
    def here(self) -> Node | None:
        """How other nodes reach this node; None if there are no others."""

    def others(self) -> Sequence[Node]:
        """Return the other nodes of this server, without those that are known not to respond."""

    async def node_of(self, key: SessionKey) -> Node | None:
        """Return the node of a session; None means this node, which also gets unknown sessions.

        A new offer gets the node with the fewest sessions; the same offer again gets the same
        node, unless that does not respond any more. Raises `NodeUnavailable` when the node of the
        session, or the node that has to be asked, does not respond.
        """

    def report(self, sessions: int) -> None:
        """Tell other nodes that this node works, and how many sessions it has.

        Call it a few times a second.
        """

    async def open(self) -> None:
        """Begin to answer other nodes; call it before requests are served."""

    async def close(self) -> None:
        """Stop answering the other nodes. May be called without `open`, and twice."""
