"""Placement for a server of one process."""

from __future__ import annotations

from collections.abc import Sequence

from domain.ports.placement import Node, SessionKey


class SingleNode:
    """A `Placement` without other nodes: all sessions live here."""

    here: Node | None = None

    def others(self) -> Sequence[Node]:
        return ()

    async def node_of(self, key: SessionKey) -> Node | None:
        return None

    def report(self, sessions: int) -> None:
        pass

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass
