from __future__ import annotations

from collections.abc import Mapping, Sequence

from domain.errors import NodeUnavailable
from domain.ports.placement import Node, SessionKey


class FakePlacement:
    """Two nodes, of which this is one; `elsewhere` has the keys of what lives on the other."""

    def __init__(
        self, here: Node, other: Node, elsewhere: Mapping[SessionKey, Node | NodeUnavailable]
    ) -> None:
        self.here: Node | None = here
        self._other = other
        self.elsewhere = dict(elsewhere)
        self.asked: list[SessionKey] = []
        self.reported: list[int] = []

    def others(self) -> Sequence[Node]:
        return [self._other]

    async def node_of(self, key: SessionKey) -> Node | None:
        self.asked.append(key)
        found = self.elsewhere.get(key)
        if isinstance(found, NodeUnavailable):
            raise found
        return found

    def report(self, sessions: int) -> None:
        self.reported.append(sessions)

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass
