"""Events: what has happened. Services publish them, and subscribers cannot interfere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from domain.events.client import ClientEvent
from domain.events.server import ServerEvent


@dataclass(frozen=True, slots=True)
class EventsDropped:
    """A subscriber was too slow and missed `count` events before the next one."""

    count: int


Event: TypeAlias = ServerEvent | ClientEvent | EventsDropped
