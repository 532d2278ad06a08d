"""Alarms: each kind begins when it should, says what is wrong, and ends when that is over."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Sequence
from typing import Any

import pytest

from domain.session.alarm_disk import DiskRate, DiskSpace
from domain.session.alarm_kinds import AlarmKind, AlarmLevel, AlarmThresholds
from domain.session.alarms import Alarm, AlarmWatch
from domain.session.session import SessionState
from domain.session.status import ChannelLevel, SessionStatus, TrackStatus
from tests.fakes.time import EPOCH

STEP_S = 0.25
LOUD = ChannelLevel(peak_dbfs=-10.0, rms_dbfs=-20.0)
SILENT = ChannelLevel(peak_dbfs=-math.inf, rms_dbfs=-math.inf)
CLIPPED = dataclasses.replace(LOUD, peak_dbfs=0.0, clipped=50)


def track(*levels: ChannelLevel, **known: Any) -> TrackStatus:
    return TrackStatus(number=1, recording="r", levels=levels or (LOUD,), **known)


def session(*tracks: TrackStatus, **known: Any) -> SessionStatus:
    values: dict[str, Any] = {"state": SessionState.RECORDING, "waits_for": None} | known
    return SessionStatus(id="s", name="Ana", opened_at=EPOCH, tracks=tracks or (track(),), **values)


class Watched:
    """An `AlarmWatch` and its time."""

    def __init__(self, **thresholds: Any) -> None:
        self.watch = AlarmWatch(AlarmThresholds(**thresholds))
        self.now = 0.0

    def see(self, status: SessionStatus | None, disk: DiskSpace | None = None) -> list[Alarm]:
        self.now += STEP_S
        utc = EPOCH + datetime.timedelta(seconds=self.now)
        statuses = () if status is None else (status,)
        return list(self.watch.observe(statuses, disk, now=self.now, utc=utc))

    def see_for(self, seconds: float, status: SessionStatus | None, **more: Any) -> list[Alarm]:
        return [alarm for _ in range(round(seconds / STEP_S)) for alarm in self.see(status, **more)]

    def kinds(self) -> Sequence[AlarmKind]:
        return [alarm.kind for alarm in self.watch.on()]


def test_silence_is_told_after_its_time_and_ends_with_sound() -> None:
    watched = Watched(silence_s=10)
    assert watched.see_for(5, session()) == []
    assert watched.see_for(10, session(track(SILENT))) == []
    (alarm,) = watched.see(session(track(SILENT)))
    assert (alarm.kind, alarm.level, alarm.session_id) == (
        AlarmKind.SILENCE, AlarmLevel.WARNING, "s",
    )  # fmt: skip
    assert alarm.text == "no sound above -60 dBFS for 10 s"
    assert alarm.since == EPOCH + datetime.timedelta(seconds=5.25)
    assert watched.see_for(60, session(track(SILENT))) == []
    assert watched.see_for(0.75, session()) == []  # a click is no sound
    assert watched.see_for(1, session(track(SILENT))) == []
    (ended,) = watched.see_for(10, session())
    assert (ended.id, ended.ended_at is not None) == (alarm.id, True)
    assert watched.watch.on() == ()


def test_packets_that_are_not_decoded_have_no_alarms_of_sound() -> None:
    watched = Watched(silence_s=1)
    undecoded = dataclasses.replace(track(), levels=())
    assert watched.see_for(60, session(undecoded)) == []


def test_a_pause_between_two_measurements_ends_no_silence() -> None:
    watched = Watched(silence_s=10)
    undecoded = dataclasses.replace(track(), levels=())
    watched.see_for(6, session(track(SILENT)))
    watched.see_for(6, session(undecoded))
    assert watched.kinds() == []  # what is not known is not silence either
    watched.see_for(6, session(track(SILENT)))
    assert watched.kinds() == [AlarmKind.SILENCE]


def test_clipping_is_counted_in_a_window() -> None:
    watched = Watched()
    assert watched.see(session(track(CLIPPED))) == []
    watched.see_for(9, session())
    assert watched.see(session(track(CLIPPED))) == []  # 100 are not more than 100
    (alarm,) = watched.see(session(track(CLIPPED)))
    assert alarm.text == "more than 100 samples clipped in 10 s"
    assert watched.see_for(9, session()) == []
    (ended,) = watched.see_for(2, session())
    assert ended.id == alarm.id


def test_one_channel_without_sound_is_told_and_two_are_silence() -> None:
    watched = Watched(silence_s=0)
    watched.see_for(60, session(track(SILENT, SILENT)))
    assert watched.kinds() == []
    told = watched.see_for(31, session(track(LOUD, SILENT)))
    assert [alarm.text for alarm in told] == [
        "the right channel has no sound above -60 dBFS, the other one has"
    ]
    (ended,) = watched.see_for(2, session(track(LOUD, LOUD)))
    assert ended.kind is AlarmKind.WRONG_CHANNEL


def test_loss_is_told_by_the_last_minute_and_rises() -> None:
    watched = Watched()
    told, lost, expected = [], 0, 0
    for second in range(200):
        expected += 50
        lost += 2 if second < 60 else 20 if second < 100 else 0
        told += watched.see_for(1, session(track(lost=lost, expected=expected)))
    assert [(alarm.level, alarm.ended_at is None) for alarm in told] == [
        (AlarmLevel.WARNING, True), (AlarmLevel.CRITICAL, True), (AlarmLevel.CRITICAL, False),
    ]  # fmt: skip
    assert told[0].text == "4.0 % of the packets of the last minute are lost"
    assert len({alarm.id for alarm in told}) == 1


def test_losses_before_the_server_looked_are_not_recent() -> None:
    watched = Watched()
    for second in range(70):
        status = session(track(lost=1000, expected=2000 + 50 * second))
        assert watched.see_for(1, status) == []


@pytest.mark.parametrize("state", [SessionState.SILENT, SessionState.INTERRUPTED])
def test_a_session_without_packets_is_critical(state: SessionState) -> None:
    watched = Watched()
    assert watched.see(session(state=state, silent_s=4.9)) == []
    (alarm,) = watched.see(session(state=state, silent_s=6.0))
    assert (alarm.kind, alarm.level, alarm.track) == (
        AlarmKind.NOTHING, AlarmLevel.CRITICAL, None,
    )  # fmt: skip
    assert alarm.since == EPOCH + datetime.timedelta(seconds=0.5 - 6.0)
    (ended,) = watched.see_for(3, session())
    assert ended.kind is AlarmKind.NOTHING


def test_a_session_that_connects_has_no_alarm() -> None:
    watched = Watched()
    assert watched.see_for(20, session(state=SessionState.CONNECTING, silent_s=20.0)) == []


def test_each_stall_is_told_for_a_minute_but_not_those_from_before() -> None:
    watched = Watched()
    assert watched.see(session(track(stalls=3))) == []
    (alarm,) = watched.see(session(track(stalls=4)))
    assert alarm.kind is AlarmKind.STALL
    assert watched.see_for(50, session(track(stalls=4))) == []
    assert watched.see_for(59, session(track(stalls=5))) == []
    (ended,) = watched.see_for(2, session(track(stalls=5)))
    assert ended.id == alarm.id


def test_a_clock_that_is_wrong_for_some_time_is_told() -> None:
    watched = Watched()
    assert watched.see_for(60, session(track(clock_ppm=80.0))) == []
    assert watched.see_for(5, session(track(clock_ppm=-900.0))) == []
    assert watched.see(session(track(clock_ppm=None))) == []
    (alarm,) = watched.see_for(6, session(track(clock_ppm=-900.0)))
    assert alarm.text == "the sender's clock is 900 ppm too slow"
    assert watched.see_for(60, session(track(clock_ppm=-450.0))) == []
    (ended,) = watched.see_for(11, session(track(clock_ppm=-300.0)))
    assert ended.id == alarm.id


def test_what_is_wanted_and_does_not_come_is_told() -> None:
    watched = Watched()
    for wanted in range(48_000, 0, -100):  # slow, but it comes
        assert watched.see(session(track(wanted=wanted))) == []
    (alarm,) = watched.see_for(61, session(track(wanted=50)))
    assert alarm.kind is AlarmKind.RESTORING
    assert watched.see_for(30, session(track(wanted=500))) == []
    (ended,) = watched.see(session(track(wanted=499)))
    assert ended.id == alarm.id


def test_a_client_that_is_away_cannot_send_what_is_wanted() -> None:
    watched = Watched(nothing_s=0)
    away = session(track(wanted=50), state=SessionState.SILENT, silent_s=9.0)
    assert watched.see_for(600, away) == []


def test_a_fault_of_the_store_is_critical_and_says_why() -> None:
    watched = Watched()
    (alarm,) = watched.see(session(track(fault="No space left on device")))
    assert (alarm.level, alarm.text) == (
        AlarmLevel.CRITICAL, "the recording cannot be written: No space left on device",
    )  # fmt: skip
    assert watched.see_for(4, session()) == []
    assert watched.see(session(track(fault="Input/output error"))) == []
    (ended,) = watched.see_for(6, session())
    assert ended.id == alarm.id


def test_the_disk_is_told_as_time_and_becomes_critical() -> None:
    watched, told = Watched(), []
    for hours in (100.0, 7.5, 3.0, 0.5, 9.0, 11.0):
        disk = DiskSpace(free_bytes=int(hours * 3600e6), bytes_per_s=1e6)
        told += watched.see_for(20, None, disk=disk)
    assert [alarm.text for alarm in told] == [
        "the disk is full in 7.5 h at the present rate",
        "the disk is full in 30 min at the present rate",
        "the disk is full in 30 min at the present rate",
    ]
    assert [alarm.level.value for alarm in told] == ["warning", "critical", "critical"]
    assert (told[0].session_id, told[-1].ended_at is not None) == (None, True)


def test_a_full_disk_needs_no_rate() -> None:
    watched = Watched()
    (alarm,) = watched.see_for(20, None, disk=DiskSpace(free_bytes=0, bytes_per_s=None))
    assert (alarm.text, alarm.level) == ("the disk is full", AlarmLevel.CRITICAL)


def test_the_rate_of_a_disk_is_that_of_the_last_minutes() -> None:
    rate, free = DiskRate(kept_free_bytes=1000), 10**9
    for second in range(1200):
        free -= 1000 if second < 600 else 500
        disk = rate.add(free, now=float(second))
        assert (disk.bytes_per_s is None) == (second < 60)
    assert disk == DiskSpace(free_bytes=free - 1000, bytes_per_s=pytest.approx(500))


def test_the_alarms_of_a_session_end_with_it() -> None:
    watched = Watched()
    watched.see(session(track(fault="x"), silent_s=9.0))
    assert watched.kinds() == [AlarmKind.NOTHING, AlarmKind.STORAGE]
    told = watched.see(None)
    assert {alarm.kind for alarm in told} == {AlarmKind.NOTHING, AlarmKind.STORAGE}
    assert all(alarm.ended_at for alarm in told)
    assert watched.watch.on() == ()


def test_a_threshold_of_zero_switches_an_alarm_off() -> None:
    watched = Watched(
        silence_s=0, clipped_samples=0, channel_s=0, loss_percent=0, nothing_s=0, stall_s=0,
        clock_ppm=0, restoring_s=0, disk_h=0,
    )  # fmt: skip
    disk = DiskSpace(free_bytes=0, bytes_per_s=1.0)
    for count in range(2000):
        bad = track(
            dataclasses.replace(CLIPPED, rms_dbfs=-70.0), SILENT, lost=count * 9,
            expected=count * 10, stalls=count, clock_ppm=9e3, wanted=1000 + count,
        )  # fmt: skip
        assert watched.see(session(bad, silent_s=9.0), disk) == []


def test_an_alarm_is_one_line() -> None:
    watched = Watched()
    (alarm,) = watched.see(session(track(fault="no space")))
    assert alarm.line == "s  alarm the recording cannot be written: no space"
    (ended,) = watched.see(None)
    assert ended.line == "s  alarm over: the recording cannot be written: no space"
