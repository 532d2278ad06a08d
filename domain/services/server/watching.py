"""Watches the sessions and the disk: a few times a second, for alarms and for whoever shows levels.

Others read the latest statuses here, whose levels are those of the time since the statuses before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from domain.events.server import AlarmEnded, AlarmRaised
from domain.ports.clock import Clock
from domain.ports.events import EventPublisher
from domain.session.alarm_disk import DiskRate, DiskSpace
from domain.session.alarm_kinds import AlarmThresholds
from domain.session.alarms import Alarm, AlarmWatch
from domain.session.status import SessionStatus

KEPT_ENDED = 100
"""Alarms that are over, of which the latest are kept."""


class StatusSource(Protocol):
    """Knows what the sessions are like."""

    def statuses(self, since: Mapping[str, SessionStatus] | None = None) -> Sequence[SessionStatus]:
        """Return one status for each session.

        Levels are those of the time since the status in `since`, by session id.
        """


class WatchService:
    """Publishes alarms, and hands the statuses to a listener."""

    def __init__(
        self,
        source: StatusSource,
        thresholds: AlarmThresholds,
        *,
        clock: Clock,
        events: EventPublisher,
        free_bytes: Callable[[], int | None] | None = None,
        kept_free_bytes: int = 0,
    ) -> None:
        """Begin; `free_bytes` tells the free space of the disk without waiting.

        It returns None if that could not be measured. Without `free_bytes` no disk is watched: of
        several workers, one is enough.
        """
        self._source = source
        self._watch = AlarmWatch(thresholds)
        self._clock = clock
        self._events = events
        self._free_bytes = free_bytes
        self._disk = DiskRate(kept_free_bytes=kept_free_bytes)
        self._ended: deque[Alarm] = deque(maxlen=KEPT_ENDED)
        self.latest: Sequence[SessionStatus] = ()
        """The statuses of the latest tick."""
        self.disk: DiskSpace | None = None
        """The disk at the latest tick; None if it is not watched, or could not be measured."""
        self.on_statuses: Callable[[Sequence[SessionStatus]], None] = lambda _statuses: None
        """Called with the statuses of each tick."""

    def on(self) -> Sequence[Alarm]:
        """Return the alarms that are on, the oldest first."""
        return self._watch.on()

    def ended(self) -> Sequence[Alarm]:
        """Return the alarms that have ended last, the latest first."""
        return tuple(reversed(self._ended))

    def tick(self) -> None:
        """Look at everything; call it a few times a second."""
        now = self._clock.monotonic()
        self.latest = self._source.statuses({status.id: status for status in self.latest})
        self.disk = self._measured(now)
        changed = self._watch.observe(self.latest, self.disk, now=now, utc=self._clock.utc())
        for alarm in changed:
            if alarm.ended_at is None:
                self._events.publish(AlarmRaised(alarm))
            else:
                self._ended.append(alarm)
                self._events.publish(AlarmEnded(alarm))
        self.on_statuses(self.latest)

    def _measured(self, now: float) -> DiskSpace | None:
        free_bytes = None if self._free_bytes is None else self._free_bytes()
        return None if free_bytes is None else self._disk.add(free_bytes, now=now)
