"""The watch of a server asks for the statuses, publishes alarms and remembers those that ended."""

from __future__ import annotations

import math
from collections.abc import Sequence

from domain.events.server import AlarmEnded, AlarmRaised
from domain.services.server.watching import KEPT_ENDED, WatchService
from domain.session.alarm_kinds import AlarmKind, AlarmThresholds
from domain.session.session import SessionState
from domain.session.status import SessionStatus
from tests.fakes.events import SeenByServer
from tests.fakes.time import FakeClock
from tests.fakes.watching import FakeStatuses, status_of


class _Watching:
    def __init__(self, source: FakeStatuses, *, free: Sequence[int] = ()) -> None:
        self.clock, self.events, self._free = FakeClock(), SeenByServer(), iter(free)
        self.service = WatchService(
            source,
            AlarmThresholds(silence_s=2),
            clock=self.clock,
            events=self.events,
            free_bytes=(lambda: next(self._free, None)) if free else None,
            kept_free_bytes=10**6,
        )

    def run(self, ticks: int, *, step_s: float = 0.25) -> None:
        for _ in range(ticks):
            self.clock.advance(step_s)
            self.service.tick()


def test_alarms_are_published_and_kept() -> None:
    source = FakeStatuses(status_of("s", rms_dbfs=-math.inf))
    watching = _Watching(source)
    watching.run(20)
    (raised,) = watching.events.events
    assert isinstance(raised, AlarmRaised)
    assert list(watching.service.on()) == [raised.alarm]
    assert watching.service.ended() == ()
    source.of_sessions = [status_of("s")]
    watching.run(20)
    (_, ended) = watching.events.events
    assert isinstance(ended, AlarmEnded)
    assert (watching.service.on(), list(watching.service.ended())) == ((), [ended.alarm])


def test_the_latest_of_the_ended_alarms_are_kept() -> None:
    source = FakeStatuses()
    watching = _Watching(source)
    for count in range(KEPT_ENDED + 10):
        source.of_sessions = [status_of(f"{count}", state=SessionState.SILENT, silent_s=9.0)]
        watching.run(1)
    source.of_sessions = []
    watching.run(1)
    ended = watching.service.ended()
    assert [ended[0].session_id, len(ended)] == [f"{KEPT_ENDED + 9}", KEPT_ENDED]


def test_statuses_are_asked_for_once_a_tick_and_handed_on() -> None:
    source, heard = FakeStatuses(status_of("s")), list[Sequence[SessionStatus]]()
    watching = _Watching(source)
    watching.service.on_statuses = heard.append
    watching.run(3)
    assert len(heard) == 3
    assert [set(since) for since in source.asked] == [set(), {"s"}, {"s"}]
    assert watching.service.latest == heard[-1] == source.of_sessions


def test_a_disk_that_fills_is_an_alarm_of_the_server() -> None:
    watching = _Watching(FakeStatuses(), free=[10**9 - 10**6 * step for step in range(400)])
    watching.run(300)
    (raised,) = watching.events.events
    assert isinstance(raised, AlarmRaised)
    assert raised.alarm.kind is AlarmKind.DISK
    assert raised.alarm.session_id is None


def test_a_disk_that_cannot_be_measured_is_no_alarm() -> None:
    watching = _Watching(FakeStatuses(), free=[10**9])
    watching.run(10)
    assert watching.events.events == []
