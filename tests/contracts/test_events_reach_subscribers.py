"""The dispatcher: a subscriber affects neither the publisher nor other subscribers."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from adapters.events import dispatcher
from adapters.events.dispatcher import EventDispatcher
from domain.events import (
    Event,
    EventsDropped,
)
from domain.events.server import (
    SessionOpened,
)
from domain.session.caller import UNKNOWN

WAIT_S = 10.0


class Listener:
    """Records events, and can wait for a number of them."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self._changed = threading.Condition()

    def handle(self, event: Event) -> None:
        with self._changed:
            self.heard.append(event)
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[Event]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heard) >= count, WAIT_S)
        return self.heard


class Raising:
    def handle(self, event: Event) -> None:
        raise RuntimeError(f"cannot take {event}")


class Hanging:
    """Hangs in its first event until it is released."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self.heard: list[Event] = []

    def handle(self, event: Event) -> None:
        self.entered.set()
        self.released.wait()
        self.heard.append(event)


def numbered(count: int) -> list[Event]:
    return [SessionOpened(f"s{number}", "", UNKNOWN) for number in range(count)]


def test_every_subscriber_gets_every_event_in_order() -> None:
    first, second = Listener(), Listener()
    events = EventDispatcher([first, second])
    for event in numbered(100):
        events.publish(event)
    events.close()
    assert first.heard == second.heard == numbered(100)


def test_a_subscriber_that_raises_is_logged_and_disturbs_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener = Listener()
    events = EventDispatcher([Raising(), listener])
    with caplog.at_level(logging.ERROR, logger="gapless"):
        for event in numbered(3):
            events.publish(event)
        events.close()
    assert listener.heard == numbered(3)
    assert [record.message for record in caplog.records] == [
        "Raising failed to handle SessionOpened"
    ] * 3


def test_a_subscriber_that_hangs_delays_neither_others_nor_the_end() -> None:
    hanging, listener = Hanging(), Listener()
    events = EventDispatcher([hanging, listener])
    for event in numbered(50):
        events.publish(event)
    assert listener.wait_for(50) == numbered(50)
    began = time.monotonic()
    events.close()
    assert time.monotonic() - began < dispatcher.CLOSE_S + WAIT_S
    events.publish(SessionOpened("late", "", UNKNOWN))  # does nothing, and does not raise
    hanging.released.set()


def test_a_slow_subscriber_misses_the_oldest_events_and_is_told_how_many() -> None:
    hanging = Hanging()
    events = EventDispatcher([hanging], capacity=10)
    first, *rest = numbered(31)
    events.publish(first)
    assert hanging.entered.wait(WAIT_S)
    for event in rest:
        events.publish(event)
    hanging.released.set()
    events.close()
    assert hanging.heard == [first, EventsDropped(20), *rest[20:]]


def test_events_may_come_from_any_thread() -> None:
    listener = Listener()
    events = EventDispatcher([listener])
    threads = [
        threading.Thread(target=lambda: [events.publish(event) for event in numbered(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events.close()
    assert len(listener.heard) == 200
