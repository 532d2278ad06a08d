"""Placement for a server of several processes on one machine.

Workers reach each other through Unix sockets in a folder that only they can read. Each has two:
``N.http`` takes requests, ``N.offers`` assigns offers: it receives the
digest of an offer and returns the number of the offer's worker, as one byte.

The workers write heartbeats into shared memory. So each knows which others work, without asking: a
worker that is frozen still accepts connections to its sockets, but never answers.
"""

from __future__ import annotations

import asyncio
import pathlib
import time
from collections.abc import Sequence

from domain.errors import NodeUnavailable
from domain.ports.placement import KnownSession, Node, SessionKey
from domain.session.placement import (
    ABSENT,
    UNREACHABLE_S,
    UNRESPONSIVE_S,
    Heartbeats,
    NodeId,
    OfferAssigner,
    SessionCounts,
    assigner_of,
    digest_of_offer,
    silent_s,
)

ANSWER_S = 1.0
"""How long a worker that assigns an offer may take to answer."""
_DIGEST_BYTES = 32


class WorkerPlacement:
    """A `Placement` for one of several worker processes.

    Any worker may accept a connection, so most requests arrive at a worker that does not have their
    session.
    """

    def __init__(
        self,
        worker: NodeId,
        counts: SessionCounts,
        folder: str,
        heartbeats: Heartbeats | None = None,
    ) -> None:
        self._worker = worker
        self._number = worker.number
        self._counts = counts
        self._heartbeats = heartbeats
        self._folder = pathlib.Path(folder)
        self._nodes = [Node(str(self._folder / f"{n}.http")) for n in range(worker.count)]
        self._assigner = OfferAssigner(counts)
        self._server: asyncio.Server | None = None

    @property
    def here(self) -> Node | None:
        return self._nodes[self._number]

    def others(self) -> Sequence[Node]:
        return [
            node
            for number, node in enumerate(self._nodes)
            if number != self._number and self._silent_s(number) < UNREACHABLE_S
        ]

    async def node_of(self, key: SessionKey) -> Node | None:
        if isinstance(key, KnownSession):
            number = self._worker.number_of(key.session_id)
            if self._silent_s(number) >= UNREACHABLE_S:
                raise NodeUnavailable("a worker of this server does not respond")
        else:
            number = await self._assigned(digest_of_offer(key.sdp))
        return None if number == self._number else self._nodes[number]

    def report(self, sessions: int) -> None:
        self._counts[self._number] = sessions
        if self._heartbeats is not None:
            self._heartbeats[self._number] = time.monotonic()

    async def open(self) -> None:
        path = self._offers_path(self._number)
        self._server = await asyncio.start_unix_server(self._answer, path)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _offers_path(self, number: int) -> pathlib.Path:
        return self._folder / f"{number}.offers"

    async def _assigned(self, digest: bytes) -> int:
        """Return the number of an offer's worker; ask the worker that assigns it."""
        avoided = self._avoided()
        assigner = assigner_of(digest, len(self._nodes), avoid=avoided)
        if assigner == self._number:
            return self._assigner.node_for(digest, avoid=avoided)
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(self._offers_path(assigner))
                try:
                    writer.write(digest)
                    (number,) = await reader.readexactly(1)
                finally:
                    writer.close()
        except TimeoutError:
            # it hangs, and the client should not wait
            return self._assigner.node_for(digest, avoid=self._avoided())
        except (OSError, EOFError) as error:
            raise NodeUnavailable("a worker of this server is being restarted") from error
        return number

    def _silent_s(self, number: int) -> float:
        """Return for how long another worker has shown nothing; 0 before it begins to work."""
        if self._heartbeats is None or number == self._number:
            return 0.0
        return silent_s(self._heartbeats[number], now=time.monotonic())

    def _avoided(self) -> frozenset[int]:
        """Return the other workers that can take no offer."""
        return frozenset(
            number
            for number in range(len(self._nodes))
            if number != self._number
            and (self._counts[number] == ABSENT or self._silent_s(number) >= UNRESPONSIVE_S)
        )

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one question of another worker; give up if that worker is silent or gone."""
        try:
            async with asyncio.timeout(ANSWER_S):
                digest = await reader.readexactly(_DIGEST_BYTES)
                number = self._assigner.node_for(digest, avoid=self._avoided())
                writer.write(bytes([number]))
                await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()
