"""Fans events out to subscribers, each in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from domain.events import (
    Event,
    EventsDropped,
)
from domain.ports.events import Subscriber

_log = logging.getLogger("gapless")

CAPACITY = 1000
"""Events that may wait for a subscriber. When more wait, the oldest are dropped."""
CLOSE_S = 1.0


class EventDispatcher:
    """Hands each event to every subscriber.

    A subscriber that raises is logged and gets the next event. One that is slow or hangs misses
    events and is told how many. None of them holds up the publisher, the other subscribers, or
    the end of the process.
    """

    def __init__(self, subscribers: Sequence[Subscriber], *, capacity: int = CAPACITY) -> None:
        self._queues = [_SubscriberQueue(subscriber, capacity) for subscriber in subscribers]

    def publish(self, event: Event) -> None:
        for queue in self._queues:
            queue.put(event)

    def close(self) -> None:
        """Deliver the waiting events, for at most `CLOSE_S`. Events published later are lost."""
        deadline = time.monotonic() + CLOSE_S
        for queue in self._queues:
            queue.end()
        for queue in self._queues:
            queue.join(until=deadline)


class _SubscriberQueue:
    """The events that wait for one subscriber, and the thread that delivers them."""

    def __init__(self, subscriber: Subscriber, capacity: int) -> None:
        self._subscriber = subscriber
        self._capacity = capacity
        self._waiting: deque[Event] = deque()
        self._dropped = 0
        self._is_ended = False
        self._changed = threading.Condition()
        # a daemon thread, so that a subscriber that hangs does not keep the process alive
        self._thread = threading.Thread(
            target=self._deliver, name=f"gapless-{type(subscriber).__name__}", daemon=True
        )
        self._thread.start()

    def put(self, event: Event) -> None:
        with self._changed:
            if self._is_ended:
                return
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(event)
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._is_ended = True
            self._changed.notify()

    def join(self, *, until: float) -> None:
        self._thread.join(max(0.0, until - time.monotonic()))

    def _deliver(self) -> None:
        while (event := self._next()) is not None:
            try:
                self._subscriber.handle(event)
            except Exception:
                _log.exception(
                    "%s failed to handle %s", type(self._subscriber).__name__, type(event).__name__
                )

    def _next(self) -> Event | None:
        """Wait for the next event; return None at the end."""
        with self._changed:
            while not self._waiting and not self._is_ended:
                self._changed.wait()
            if self._dropped:
                dropped, self._dropped = EventsDropped(self._dropped), 0
                return dropped
            return self._waiting.popleft() if self._waiting else None
