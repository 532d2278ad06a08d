"""Connects subscribers to events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from adapters.events.audit import AuditLog
from adapters.events.dispatcher import EventDispatcher
from adapters.http.api.hub import EventHub
from domain.ports.events import Subscriber
from entrypoints.settings import ServerSettings

__all__ = ["NO_EVENTS", "EventHub", "audited", "events_for"]

NO_EVENTS = EventDispatcher(())
"""A publisher without subscribers."""


def audited(settings: ServerSettings) -> Sequence[Subscriber]:
    """Return the audit log, if the settings name one. Raises `SettingInvalid`."""
    return () if settings.audit_log is None else (AuditLog(settings.audit_log),)


@contextlib.contextmanager
def events_for(*subscribers: Subscriber) -> Iterator[EventDispatcher]:
    """Provide a publisher; when the block is left, subscribers get the events that still wait."""
    dispatcher = EventDispatcher(subscribers)
    try:
        yield dispatcher
    finally:
        dispatcher.close()
