"""Whatever sessions do: an alarm that began ends once, and what does not change raises nothing."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.session.alarm_disk import DiskSpace
from domain.session.alarm_kinds import AlarmKind, AlarmLevel, AlarmThresholds
from domain.session.alarms import Alarm, AlarmWatch
from domain.session.session import SessionState
from domain.session.status import ChannelLevel, SessionStatus, TrackStatus
from tests.fakes.time import EPOCH

LIMITS = AlarmThresholds(silence_s=2, clipped_s=2, channel_s=2, restoring_s=2, stall_s=2)
DBFS = st.sampled_from([-90.0, -61.0, -59.0, -55.0, -53.0, -20.0])
LEVELS = st.lists(
    st.builds(
        ChannelLevel,
        peak_dbfs=st.just(0.0), rms_dbfs=DBFS, clipped=st.sampled_from([0, 0, 0, 90]),
    ),
    max_size=3,
).map(tuple)  # fmt: skip
TRACKS = st.builds(
    TrackStatus,
    number=st.sampled_from([1, 2]), recording=st.none(), levels=LEVELS,
    lost=st.integers(0, 200), expected=st.integers(0, 2000),
    clock_ppm=st.sampled_from([None, 0.0, -450.0, 501.0]), stalls=st.integers(0, 3),
    wanted=st.integers(0, 3), fault=st.sampled_from([None, None, "full"]),
)  # fmt: skip
STATUSES = st.builds(
    SessionStatus,
    id=st.sampled_from(["a", "b"]), name=st.just(""), state=st.sampled_from(list(SessionState)),
    opened_at=st.just(EPOCH), waits_for=st.none(), silent_s=st.sampled_from([0.0, 4.0, 6.0]),
    tracks=st.lists(TRACKS, max_size=2, unique_by=lambda track: track.number).map(tuple),
)  # fmt: skip
DISKS = st.none() | st.builds(
    DiskSpace,
    free_bytes=st.sampled_from([0, 10**10, 3 * 10**10, 10**12]),
    bytes_per_s=st.sampled_from([None, -1.0, 0.0, 1e6]),
)
MOMENTS = st.tuples(
    st.lists(STATUSES, max_size=2, unique_by=lambda status: status.id), DISKS,
    st.sampled_from([1, 4, 40]),
)  # fmt: skip
STEP_S = 0.25


class _Run:
    def __init__(self) -> None:
        self.watch = AlarmWatch(LIMITS)
        self.told: list[Alarm] = []
        self.now = 0.0

    def see(self, statuses: Sequence[SessionStatus], disk: DiskSpace | None, times: int) -> None:
        for _ in range(times):
            self.now += STEP_S
            utc = EPOCH + datetime.timedelta(seconds=self.now)
            self.told += self.watch.observe(statuses, disk, now=self.now, utc=utc)


@settings(deadline=None)
@given(st.lists(MOMENTS, max_size=12))
def test_an_alarm_that_began_ends_once(
    moments: list[tuple[list[SessionStatus], DiskSpace | None, int]],
) -> None:
    run = _Run()
    for moment in moments:
        run.see(*moment)
    on = {alarm.id for alarm in run.watch.on()}
    run.see([], DiskSpace(free_bytes=10**12, bytes_per_s=0.0), 100)
    assert run.watch.on() == ()
    by_id: dict[str, list[Alarm]] = defaultdict(list)
    for alarm in run.told:
        by_id[alarm.id].append(alarm)
    assert on <= by_id.keys()
    rank = [AlarmLevel.WARNING, AlarmLevel.CRITICAL]
    for told in by_id.values():
        assert [alarm.ended_at is not None for alarm in told] == [False] * (len(told) - 1) + [True]
        levels = [rank.index(alarm.level) for alarm in told[:-1]]
        assert levels == sorted(set(levels))  # raised again only when the level rises
        assert all(alarm.since == told[0].since for alarm in told)


@settings(deadline=None, max_examples=40)
@given(st.lists(MOMENTS, max_size=5), MOMENTS)
def test_what_does_not_change_raises_nothing_new(
    moments: list[tuple[list[SessionStatus], DiskSpace | None, int]],
    last: tuple[list[SessionStatus], DiskSpace | None, int],
) -> None:
    run = _Run()
    for moment in moments:
        run.see(*moment)
    statuses, disk, _ = last
    run.see(statuses, disk, 280)
    count = len(run.told)
    run.see(statuses, disk, 280)
    assert len(run.told) == count


@settings(deadline=None)
@given(st.lists(st.tuples(DBFS, st.integers(1, 3)), min_size=20, max_size=60))
def test_silence_does_not_flap(levels: list[tuple[float, int]]) -> None:
    """Two alarms of one kind are at least as far apart as the first took to begin and to end."""
    run = _Run()
    for dbfs, times in levels:
        level = ChannelLevel(peak_dbfs=dbfs, rms_dbfs=dbfs)
        track = TrackStatus(number=1, recording=None, levels=(level,))
        status = SessionStatus(
            id="a", name="", state=SessionState.RECORDING, opened_at=EPOCH, waits_for=None,
            tracks=(track,),
        )  # fmt: skip
        run.see([status], None, times)
    told = [alarm for alarm in run.told if alarm.kind is AlarmKind.SILENCE]
    for began, ended in zip(told[::2], told[1::2], strict=False):
        assert ended.id == began.id
        assert ended.ended_at is not None
        assert (ended.ended_at - began.since).total_seconds() >= LIMITS.silence_s + 0.75
