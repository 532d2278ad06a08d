"""Whoever follows the events: what each wants, and what waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from adapters.http.api.event_json import MISSED
from adapters.http.sse import encode

CAPACITY = 256
"""Events that wait for one watcher. When more wait, the oldest are dropped, and it is told."""
WRITE_BYTES = 64 * 1024
"""How much is written to a watcher at once, about."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as all watchers of a process get it."""

    epoch: str
    number: int
    """0 if it is not numbered."""
    type: str
    session: str | None
    wire: bytes
    """For clients: the id is the position in the events of all processes."""
    local: bytes = b""
    """For another node: the id is the position in the events of this one; empty if it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a watcher wants."""

    types: frozenset[str] | None = None
    """None for all of them."""
    session: str | None = None
    """Only what is of this session; None for everything."""
    levels: bool = False
    events: bool = True
    is_node: bool = False
    """Whether it is another node of this server, which wants what is from here."""

    def takes(self, entry: Entry) -> bool:
        if self.is_node:
            return self.events and bool(entry.local)
        return entry.type == MISSED or (
            (self.types is None or entry.type in self.types)
            and (self.session is None or entry.session == self.session)
        )


def missed(count: int | None) -> bytes:
    """Return the event that says how many are missing; None if nobody knows."""
    return encode(MISSED, f'{{"count":{"null" if count is None else count}}}')


class Watcher:
    """One watcher. Nobody waits for it: what it does not read, it loses."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._queue: deque[Entry] = deque()
        self._levels: dict[str, bytes] = {}
        """The latest ones of each process."""
        self._missed = 0
        self._news = asyncio.Event()
        self._known: Mapping[str, int] = {}
        """Numbers of events that it has got already, by epoch."""
        self.is_ended = False

    def skip(self, known: Mapping[str, int]) -> None:
        """Leave out what it has got already: the number of its latest event of each epoch."""
        self._known = known
        self._queue = deque(entry for entry in self._queue if self._is_new(entry))

    def offer(self, entry: Entry) -> None:
        """Let an event wait, if the watcher wants it."""
        if not self.wanted.takes(entry) or not self._is_new(entry):
            return
        if len(self._queue) >= CAPACITY:
            self._queue.popleft()
            self._missed += 1
        self._queue.append(entry)
        self._news.set()

    def offer_levels(self, epoch: str, wire: bytes) -> None:
        """Let levels wait; they replace those before."""
        self._levels[epoch] = wire
        self._news.set()

    def end(self) -> None:
        """Let it have what waits, and no more."""
        self.is_ended = True
        self._news.set()

    async def next(self, timeout_s: float) -> bytes:
        """Wait for something to write; return nothing after `timeout_s`, and at the end."""
        if not (self.is_ended or self.has_news):
            self._news.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
            except TimeoutError:
                return b""
        chunks: list[bytes] = []
        size = 0
        if self._missed:
            chunks.append(missed(self._missed))
            self._missed = 0
        is_node = self.wanted.is_node
        while self._queue and size < WRITE_BYTES:
            entry = self._queue.popleft()
            chunks.append(entry.local if is_node else entry.wire)
            size += len(chunks[-1])
        while self._levels and size < WRITE_BYTES:
            chunks.append(self._levels.pop(next(iter(self._levels))))
            size += len(chunks[-1])
        return b"".join(chunks)

    @property
    def has_news(self) -> bool:
        """Whether something waits for it."""
        return bool(self._queue or self._levels or self._missed)

    def _is_new(self, entry: Entry) -> bool:
        return not entry.number or entry.number > self._known.get(entry.epoch, 0)
