"""Who hears of events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from adapters.events.dispatcher import EventDispatcher
from domain.ports.events import Subscriber

NO_EVENTS = EventDispatcher(())
"""Nobody hears of what is published here."""


@contextlib.contextmanager
def events_for(*subscribers: Subscriber) -> Iterator[EventDispatcher]:
    """A publisher for subscribers, which get what is still waiting when the block is left."""
    dispatcher = EventDispatcher(subscribers)
    try:
        yield dispatcher
    finally:
        dispatcher.close()
