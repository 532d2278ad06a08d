"""The hub: takes the server's events from the dispatcher, and gives them to whoever watches.

Each event is encoded once, and all watchers get the same bytes. Events come in a thread of the
dispatcher; everything else is done on the event loop.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapters.http.api.event_json import LEVELS, MISSED, event_json, time_json
from adapters.http.api.event_log import EventLog, Logged, format_position
from adapters.http.api.levels import encode_levels, session_levels
from adapters.http.api.watchers import Entry, Watcher, missed
from adapters.http.sse import encode
from domain.events import Event
from domain.session.status import SessionStatus

INCOMING = 1000
"""Events that may wait for the event loop. When more wait, the oldest are dropped."""
BATCH = 50
"""Events, and watchers of levels, that are served before others have their turn."""
LEVELS_BATCH, LEVELS_PAUSE_S = 5, 0.004
"""So many watchers get their levels at once, so that media need not wait for all of them."""


class EventHub:
    """A subscriber of the dispatcher that serves watchers; `open` begins, on the event loop."""

    def __init__(
        self,
        *,
        utc: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(tz=datetime.UTC),
    ) -> None:
        self._utc = utc
        self.log = EventLog(secrets.token_hex(4))
        self._position: dict[str, int] = {self.log.epoch: 0}
        """Of each process that is heard of, the number of the latest event."""
        self._watchers: dict[Watcher, None] = {}
        self._incoming: deque[tuple[float, str, str | None, str]] = deque()
        self._lock = threading.Lock()
        self._dropped = 0
        self._is_awaited = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    # -- in the dispatcher's thread ----------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Hand an event over to the event loop; never waits."""
        told = event_json(event)
        if told is None:
            return
        type_, session, details = told
        if type_ == MISSED:
            with self._lock:
                self._dropped += details["count"]
                self._call_loop()
            return
        at = self._utc()
        data = json.dumps(
            {"at": time_json(at), "session": session} | details, separators=(",", ":")
        )
        with self._lock:
            if len(self._incoming) >= INCOMING:
                self._incoming.popleft()
                self._dropped += 1
            self._incoming.append((at.timestamp(), type_, session, data))
            self._call_loop()

    def _call_loop(self) -> None:
        if self._loop is not None and not self._is_awaited and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take)
            self._is_awaited = True

    # -- on the event loop -------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to serve, on the running event loop; what has happened before is served, too."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._call_loop()

    def close(self) -> None:
        """Let all watchers go; they come back to the next process."""
        self._is_closed = True
        for watcher in self._watchers:
            watcher.end()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def add(self, watcher: Watcher) -> None:
        self._watchers[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        self._watchers.pop(watcher, None)

    def clients(self) -> Sequence[Watcher]:
        """Return the watchers that are not nodes of this server."""
        return [watcher for watcher in self._watchers if not watcher.wanted.is_node]

    def others(self) -> Sequence[Watcher]:
        """Return the nodes of this server that watch."""
        return [watcher for watcher in self._watchers if watcher.wanted.is_node]

    def position(self) -> str:
        """Return the position behind all events so far."""
        return format_position(self._position)

    def after(self, number: int | None) -> tuple[bool, Sequence[Logged]]:
        """Return whether events of this process behind `number` are lost, and the others."""
        return self.log.after(number, now=self._utc().timestamp())

    def _take(self) -> None:
        with self._lock:
            self._is_awaited = False
            dropped, self._dropped = self._dropped, 0
            taken = [self._incoming.popleft() for _ in range(min(BATCH, len(self._incoming)))]
            if self._incoming:
                self._call_loop()
        if dropped:
            self.miss(dropped)
        for at, type_, session, data in taken:
            logged = self.log.add(type_, session, data, at=at)
            self._position[logged.epoch] = logged.number
            local = encode(type_, logged.data, f"{logged.epoch}-{logged.number}")
            self._give(logged, local=local)

    def relay(self, logged: Logged) -> None:
        """Give an event of another node to the watchers."""
        self._position[logged.epoch] = logged.number
        self._give(logged)

    def join(self, epoch: str, number: int) -> None:
        """Note which event of another node was the latest before those that are relayed."""
        self._position[epoch] = number

    def leave(self, epoch: str) -> None:
        """Forget another node: nothing of it is relayed any more."""
        if epoch != self.log.epoch:
            self._position.pop(epoch, None)

    def miss(self, count: int | None, *, is_local: bool = True) -> None:
        """Tell all watchers that events are missing; None if nobody knows how many.

        What another node misses is not for further nodes, which it tells itself.
        """
        wire = missed(count)
        for watcher in self._watchers:
            watcher.offer(Entry("", 0, MISSED, None, wire, wire if is_local else b""))

    def _give(self, logged: Logged, *, local: bytes = b"") -> None:
        if not self._watchers:
            return
        entry = Entry(
            logged.epoch,
            logged.number,
            logged.type,
            logged.session,
            encode(logged.type, logged.data, self.position()),
            local,
        )
        for watcher in self._watchers:
            watcher.offer(entry)

    # -- levels ------------------------------------------------------------------------------------

    @property
    def wants_levels(self) -> bool:
        return any(watcher.wanted.levels for watcher in self._watchers)

    def show(self, statuses: Sequence[SessionStatus]) -> None:
        """Give the levels of this process to whoever wants them."""
        if not statuses or not self.wants_levels:
            return
        by_session = {status.id: session_levels(status) for status in statuses}
        self._give_levels(self.log.epoch, by_session)

    def relay_levels(self, epoch: str, data: str) -> None:
        """Give the levels of another node to the clients that want them. Raises `ValueError`."""
        watchers = [w for w in self.clients() if w.wanted.levels]
        if all(watcher.wanted.session is None for watcher in watchers):
            wire = encode(LEVELS, data)
            self._serve(epoch, [(watcher, wire) for watcher in watchers])
        else:
            self._give_levels(epoch, _objects(json.loads(data)), is_local=False)

    def _give_levels(
        self, epoch: str, by_session: Mapping[str, str], *, is_local: bool = True
    ) -> None:
        every = encode_levels(list(by_session.values()))
        served: list[tuple[Watcher, bytes]] = []
        for watcher in self._watchers if is_local else self.clients():
            wanted = watcher.wanted
            if not wanted.levels:
                continue
            if wanted.session is None:
                served.append((watcher, every))
            elif (one := by_session.get(wanted.session)) is not None:
                served.append((watcher, encode_levels([one])))
        self._serve(epoch, served)

    def _serve(self, epoch: str, served: list[tuple[Watcher, bytes]]) -> None:
        """Give levels to a few watchers, and to the others a little later."""
        for watcher, wire in served[:LEVELS_BATCH]:
            watcher.offer_levels(epoch, wire)
        if rest := served[LEVELS_BATCH:]:
            asyncio.get_running_loop().call_later(LEVELS_PAUSE_S, self._serve, epoch, rest)


def _objects(levels: Any) -> Mapping[str, str]:
    """Return the sessions of an event of levels, each as JSON."""
    try:
        return {
            item["session"]: json.dumps(item, separators=(",", ":")) for item in levels["sessions"]
        }
    except (TypeError, KeyError) as error:
        raise ValueError("these are no levels") from error
