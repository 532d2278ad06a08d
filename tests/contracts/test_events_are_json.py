"""Each event of the server that watchers get is JSON as its schema says."""

from __future__ import annotations

import dataclasses
import datetime
from typing import get_args

import jsonschema
import pytest

from adapters.http.api.event_json import EVENT_SCHEMAS, KINDS, event_json, time_json
from domain.errors import StorageFailed
from domain.events import Event
from domain.events.server import (
    AlarmEnded,
    AlarmRaised,
    CaptureReported,
    ClockFoundWrong,
    ConnectionAdded,
    PartCompleted,
    RecordingBusy,
    RecordingCompleted,
    RecordingDeleted,
    RecordingFailed,
    RecordingInterrupted,
    RecordingRecovered,
    RecordingRestored,
    RecordingsLeft,
    RecoveryFailed,
    RequestRefused,
    RestoringFailed,
    ServerEvent,
    ServerStarted,
    SessionDeleted,
    SessionEnded,
    SessionFailed,
    SessionOpened,
    SessionResumed,
    SessionStateChanged,
    ShutdownStarted,
    StorageDelayed,
    StorageWritable,
    TrackFormatChanged,
    TrackStarted,
    WorkerDied,
)
from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.effects import EndReason
from domain.recording.ledger import RecordingInfo, RestoreState
from domain.session.alarm_kinds import AlarmKind, AlarmLevel
from domain.session.alarms import Alarm
from domain.session.caller import UNKNOWN
from domain.session.capture import CaptureChange, CaptureEvent
from domain.session.session import SessionState
from domain.sound.formats import AudioFormat
from tests.fakes.time import EPOCH

FORMAT = AudioFormat(48_000, 2)
INFO = RecordingInfo("s_2", "n", FORMAT, "opus", EPOCH, session_id="s", track=2)
PART = CompletedPart(1, "/secret/n.wav", 0, 480)
RECORDING = CompletedRecording(INFO, (PART,), 480, "closed", EPOCH)
ALARM = Alarm(
    id="loss-s.1-0", kind=AlarmKind.LOSS, level=AlarmLevel.WARNING, session_id="s", track=1,
    since=EPOCH, text="lost",
)  # fmt: skip
EVENTS: list[Event] = [
    SessionOpened("s", "Ana\ud800", UNKNOWN, "friday"),
    ConnectionAdded("s", UNKNOWN),
    SessionStateChanged("s", SessionState.RECORDING),
    SessionResumed("s", 2),
    CaptureReported("s", CaptureEvent(CaptureChange.MUTE, EPOCH)),
    CaptureReported("s", CaptureEvent(CaptureChange.STALL, EPOCH, 480, 1.5, "it stalled")),
    SessionFailed("s", ValueError("/secret")),
    SessionEnded("s", EndReason.CLOSED),
    TrackStarted("s", 2, FORMAT, "friday"),
    TrackFormatChanged("s", 2, FORMAT),
    PartCompleted("s", 2, PART, is_last=True),
    RecordingCompleted("s", 2, RECORDING),
    RecordingFailed("s", 2, StorageFailed("the disk is full")),
    RecordingDeleted("s_2", "n", UNKNOWN),
    RecordingRecovered(RECORDING),
    RecordingRestored("s", RestoreState.COMPLETE, 1.0, 0.5),
    RestoringFailed("s", ValueError("/secret")),
    RecordingInterrupted(INFO, 480),
    StorageDelayed("no space"),
    StorageWritable(1.5),
    AlarmRaised(ALARM),
    AlarmEnded(dataclasses.replace(ALARM, session_id=None, track=None, ended_at=EPOCH)),
]
NOT_FOR_WATCHERS = {
    ClockFoundWrong, RecordingBusy, RecordingsLeft, RecoveryFailed, RequestRefused, ServerStarted,
    SessionDeleted, ShutdownStarted, WorkerDied,
}  # fmt: skip


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_it_is_what_its_schema_says(event: Event) -> None:
    told = event_json(event)
    assert told is not None
    kind, session, details = told
    data = {"id": "0-1", "at": time_json(EPOCH), "session": session} | details
    assert session in ("s", None)
    checks = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(EVENT_SCHEMAS[kind], format_checker=checks).validate(data)
    assert "/secret" not in str(data)  # paths of the server are not for watchers


def test_all_kinds_and_all_events_are_considered() -> None:
    assert {told[0] for event in EVENTS if (told := event_json(event))} == KINDS.keys()
    assert {type(event) for event in EVENTS} | NOT_FOR_WATCHERS == set(get_args(ServerEvent))


def test_times_are_utc_in_milliseconds() -> None:
    assert time_json(EPOCH + datetime.timedelta(microseconds=1500)) == "2026-01-02T03:04:05.001Z"
