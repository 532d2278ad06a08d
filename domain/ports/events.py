"""Ports for publishing events and subscribing to them."""

from __future__ import annotations

from typing import Protocol

from domain.events import (
    Event,
)


class EventPublisher(Protocol):
    """Fans events out to subscribers."""

    def publish(self, event: Event) -> None:
        """Hand an event over; returns at once and never raises. May be called in any thread.

        Subscribers get events later, in the order of publication. They can neither delay nor
        disturb the publisher.
        """


class Subscriber(Protocol):
    """Receives events."""

    def handle(self, event: Event) -> None:
        """Handle an event. The call may block or raise without affecting others."""
