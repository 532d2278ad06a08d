"""Alarms: what a person should look at now, from what the sessions and the disk are like.

An alarm begins when something has been wrong for a time, and ends once when it has been right for a
time. Time that nothing is known of counts neither way, so that a pause between two measurements
does not end an alarm.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace

from domain.session.alarm_disk import DiskRule, DiskSpace
from domain.session.alarm_kinds import AlarmKind, AlarmLevel, AlarmThresholds, Latch
from domain.session.alarm_rules import TrackRules, nothing_arrives
from domain.session.status import SessionStatus

MAX_STEP_S = 2.0
"""The longest time between two calls that counts as time in which something was wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm. It is raised again, with the same id, when its level rises."""

    id: str
    kind: AlarmKind
    level: AlarmLevel
    session_id: str | None
    """None for an alarm of the whole server."""
    track: int | None
    """None if it concerns all tracks of the session."""
    since: datetime.datetime
    """When it began to be wrong, UTC."""
    text: str
    """What is wrong, in words."""
    ended_at: datetime.datetime | None = None
    """UTC; None while the alarm is on."""

    @property
    def line(self) -> str:
        """Return the alarm as one line for a person."""
        subject = "" if self.session_id is None else f"{self.session_id}  "
        track = "" if self.track in (None, 1) else f"track {self.track}: "
        over = "" if self.ended_at is None else "over: "
        return f"{subject}alarm {over}{track}{self.text}"


class AlarmWatch:
    """Decides which alarms are on. Give it all sessions of a server (or of a worker) each time."""

    def __init__(self, thresholds: AlarmThresholds) -> None:
        self._thresholds = thresholds
        self._tracks: dict[tuple[str, int], TrackRules] = {}
        self._sessions: dict[str, Latch] = {}
        self._disk = DiskRule(thresholds)
        self._on: dict[int, Alarm] = {}
        """By the identity of their latches, which live as long as their alarms."""
        self._latest: float | None = None

    def on(self) -> Sequence[Alarm]:
        """Return the alarms that are on, the oldest first."""
        return tuple(self._on.values())

    def observe(
        self,
        statuses: Sequence[SessionStatus],
        disk: DiskSpace | None,
        *,
        now: float,
        utc: datetime.datetime,
    ) -> Sequence[Alarm]:
        """Return the alarms that begin, get a higher level, or end (those have `ended_at`).

        Call it a few times a second. `now` is monotonic, in seconds. `disk` is None where there is
        no disk, or if it could not be measured.
        """
        step = 0.0 if self._latest is None else min(max(0.0, now - self._latest), MAX_STEP_S)
        self._latest = now
        told: list[Alarm] = []
        seen_sessions: set[str] = set()
        seen_tracks: set[tuple[str, int]] = set()
        for status in statuses:
            session_id = status.id
            seen_sessions.add(session_id)
            latch = self._sessions.get(session_id)
            if latch is None:
                latch = self._sessions[session_id] = Latch(AlarmKind.NOTHING)
            if nothing_arrives(latch, status, self._thresholds, now=now, step=step):
                self._tell(latch, session_id, None, told, now=now, utc=utc)
            for track in status.tracks:
                key = session_id, track.number
                seen_tracks.add(key)
                rules = self._tracks.get(key)
                if rules is None:
                    rules = self._tracks[key] = TrackRules(self._thresholds)
                for latch in rules.observe(status, track, now=now, step=step):
                    self._tell(latch, session_id, track.number, told, now=now, utc=utc)
        if disk is not None and self._disk.observe(disk, now=now, step=step):
            self._tell(self._disk.latch, None, None, told, now=now, utc=utc)
        if len(seen_tracks) < len(self._tracks):
            for key in self._tracks.keys() - seen_tracks:
                for latch in self._tracks.pop(key).latches():
                    self._end(latch, told, utc=utc)
        if len(seen_sessions) < len(self._sessions):
            for session_id in self._sessions.keys() - seen_sessions:
                self._end(self._sessions.pop(session_id), told, utc=utc)
        return told

    def _tell(
        self,
        latch: Latch,
        session_id: str | None,
        track: int | None,
        told: list[Alarm],
        *,
        now: float,
        utc: datetime.datetime,
    ) -> None:
        """Tell of a latch that has changed."""
        if latch.level is None:
            self._end(latch, told, utc=utc)
            return
        alarm = self._on.get(id(latch))
        if alarm is not None:
            alarm = replace(alarm, level=latch.level, text=latch.text)
        else:
            since = utc - datetime.timedelta(seconds=max(0.0, now - latch.since))
            subject = "server" if session_id is None else session_id
            numbered = subject if track is None else f"{subject}.{track}"
            alarm = Alarm(
                id=f"{latch.kind.value}-{numbered}-{round(utc.timestamp() * 1000)}",
                kind=latch.kind,
                level=latch.level,
                session_id=session_id,
                track=track,
                since=since,
                text=latch.text,
            )
        self._on[id(latch)] = alarm
        told.append(alarm)

    def _end(self, latch: Latch, told: list[Alarm], *, utc: datetime.datetime) -> None:
        alarm = self._on.pop(id(latch), None)
        if alarm is not None:
            told.append(replace(alarm, ended_at=utc))
