"""Where events go."""

from __future__ import annotations

from typing import Protocol

from domain.events import Event


class EventPublisher(Protocol):
    """Fans events out to subscribers."""

    def publish(self, event: Event) -> None:
        """Hand an event over; returns at once and never raises. May be called in any thread.

        Subscribers get events in the order of their publication, later, and cannot hold up or
        harm whoever publishes.
        """


class Subscriber(Protocol):
    """Wants to know what happens."""

    def handle(self, event: Event) -> None:
        """Take an event. It may block, and it may raise: nobody else notices."""
