"""Connects subscribers to events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from adapters.events.dispatcher import EventDispatcher
from domain.ports.events import Subscriber

NO_EVENTS = EventDispatcher(())
"""A publisher without subscribers."""


@contextlib.contextmanager
def events_for(*subscribers: Subscriber) -> Iterator[EventDispatcher]:
    """Provide a publisher; when the block is left, subscribers get the events that still wait."""
    dispatcher = EventDispatcher(subscribers)
    try:
        yield dispatcher
    finally:
        dispatcher.close()
