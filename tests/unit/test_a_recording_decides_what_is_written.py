"""The recording as a state machine: the effects of each run of sound, and their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from domain.recording.anchors import Anchor, Progress
from domain.recording.effects import Appended, Effect, EndReason, Finished, GapFilled, Noted
from domain.recording.ledger import LedgerEvent, SampleKind
from domain.recording.reconstruction import Run
from domain.recording.recording import Recording, State
from domain.rtp.reports import SenderReport
from domain.sound.formats import AudioFormat
from domain.sound.pieces import EncodedSound, Sound

RATE = 48_000
MONO = AudioFormat(RATE, 1)
SILENCE, DTX = SampleKind.SILENCE, SampleKind.DTX
RECEIVED = SampleKind.RECEIVED


def opened(*, ssrc: int = 7, max_gap_s: float = 60) -> Recording:
    recording = Recording(max_gap_s=max_gap_s)
    recording.change_source(ssrc)
    recording.open(MONO, clock_rate_hz=RATE)
    return recording


def run(
    timestamp: int,
    *,
    now: float | None = None,
    length: int = 960,
    gap_kind: SampleKind = SILENCE,
    arrived: float | None = None,
    pieces: list[Sound] | None = None,
) -> Run:
    """Make a run whose samples count up from its timestamp; it arrives when it has been spoken."""
    if now is None:
        now = (timestamp + length) / RATE
    if pieces is None:
        pieces = [np.arange(timestamp, timestamp + length).astype("<i2").reshape(-1, 1)]
    arrived = now if arrived is None else arrived
    return Run(timestamp % 2**32, pieces, length, RECEIVED, gap_kind, arrived, now)


def shape(effects: list[Effect]) -> list[Any]:
    """Describe effects as text, without the sound."""
    said: list[Any] = []
    for effect in effects:
        match effect:
            case Noted(LedgerEvent(kind, position, details), arrived):
                said.append((kind, position, dict(details), arrived))
            case GapFilled(length, kind):
                said.append((length, kind))
            case Appended(pieces, kind):
                said.append((sum(map(len, pieces)), kind))
            case Finished(reason):
                said.append(reason)
    return said


def events(effects: list[Effect]) -> list[str]:
    return [effect.event.type for effect in effects if isinstance(effect, Noted)]


def anchor(position: int, timestamp: int, arrived: float, *, ssrc: int = 7) -> tuple[Any, ...]:
    return ("anchor", position, {"rtp_timestamp": timestamp, "ssrc": ssrc}, arrived)


# -- states ----------------------------------------------------------------------------------------


def test_a_recording_waits_records_and_finishes() -> None:
    recording = Recording(max_gap_s=60)
    assert (recording.state, recording.length) == (State.WAITING, 0)
    assert recording.note("early", now=0.0) == []
    recording.open(MONO, clock_rate_hz=RATE)
    assert recording.state is State.RECORDING
    recording.add(run(0))
    assert recording.length == 960
    assert recording.note("seen", now=3.0, count=2) == [
        Noted(LedgerEvent("seen", 960, {"count": 2}), 3.0)
    ]
    assert recording.end(EndReason.CLOSED, now=4.0) == [Finished(EndReason.CLOSED)]
    assert recording.state is State.FINISHED
    assert recording.note("late", now=5.0) == []
    assert recording.end(EndReason.DELETED, now=5.0) == []


def test_a_recording_that_ends_before_it_opens_has_no_effects() -> None:
    recording = Recording(max_gap_s=60)
    recording.change_source(5)
    assert recording.end(EndReason.CLOSED, now=0.0) == []
    assert recording.state is State.FINISHED


# -- anchors ---------------------------------------------------------------------------------------


def test_an_anchor_is_noted_every_minute() -> None:
    recording = opened()
    noted = {
        second: events(recording.add(run(second * RATE, length=960, now=float(second))))
        for second in range(150)
    }
    assert [second for second, types in noted.items() if types] == [0, 60, 120]


def test_an_anchor_says_where_the_run_begins_behind_its_gap() -> None:
    recording = opened(ssrc=99)
    assert shape(recording.add(run(5000, now=1.0, arrived=0.9))) == [
        anchor(0, 5000, 0.9, ssrc=99), (960, RECEIVED),
    ]  # fmt: skip
    later = run(5000 + 960 + 61 * RATE, now=62.0, gap_kind=DTX)
    recording = opened(max_gap_s=100)
    recording.add(run(5000, now=1.0))
    assert shape(recording.add(later)) == [
        (61 * RATE, DTX), anchor(960 + 61 * RATE, 5960 + 61 * RATE, 62.0), (960, RECEIVED),
    ]  # fmt: skip


def test_an_anchor_of_a_run_that_overlaps_is_where_the_run_began() -> None:
    recording = opened()
    recording.add(run(0, now=70.0, arrived=0.0))
    effects = recording.add(run(480, now=70.0))
    assert shape(effects) == [
        anchor(480, 480, 70.0), ("overlap", 960, {"length": 480}, 70.0), (480, RECEIVED),
    ]  # fmt: skip


# -- gaps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "is_outage"), [(RATE, True), (RATE - 1, False)])
def test_a_second_without_anything_is_an_outage(length: int, is_outage: bool) -> None:
    recording = opened()
    recording.add(run(0))
    told = [("outage", 960, {"length": length}, 1.04)] if is_outage else []
    assert shape(recording.add(run(960 + length, now=1.04))) == [
        *told, (length, SILENCE), (960, RECEIVED),
    ]  # fmt: skip


def test_an_intended_pause_is_not_an_outage() -> None:
    recording = opened()
    recording.add(run(0))
    assert shape(recording.add(run(5 * RATE, gap_kind=DTX))) == [
        (5 * RATE - 960, DTX), (960, RECEIVED),
    ]  # fmt: skip


# -- overlaps --------------------------------------------------------------------------------------


def test_sound_that_is_recorded_already_is_left_out() -> None:
    recording = opened()
    recording.add(run(0))
    noted, appended = recording.add(run(600))
    assert shape([noted]) == [("overlap", 960, {"length": 360}, pytest.approx(1560 / RATE))]
    assert isinstance(appended, Appended)
    (piece,) = appended.pieces
    assert isinstance(piece, np.ndarray)
    assert piece[:, 0].tolist() == list(range(960, 1560))


def test_a_packet_that_cannot_be_cut_leaves_silence_behind_the_overlap() -> None:
    recording = opened()
    recording.add(run(0))
    packets: list[Sound] = [EncodedSound(b"first", 960), EncodedSound(b"second", 960)]
    effects = recording.add(run(600, length=1920, pieces=packets))
    assert shape(effects)[1:] == [(600, SILENCE), (960, RECEIVED)]
    assert recording.length == 600 + 1920


def test_nothing_is_appended_if_no_sample_is_left() -> None:
    recording = opened()
    recording.add(run(0))
    one: list[Sound] = [EncodedSound(b"only", 960)]
    assert shape(recording.add(run(600, pieces=one)))[1:] == [(600, SILENCE)]
    silent = run(2000, length=0, pieces=[])
    assert shape(recording.add(silent)) == [(440, SILENCE)]


# -- breaks ----------------------------------------------------------------------------------------


def test_a_break_is_noted_first_and_anchored_again() -> None:
    recording = opened()
    recording.add(run(0, now=0.02))
    recording.restart("sequence")
    effects = recording.add(run(77_000, now=2.02, arrived=2.01, gap_kind=DTX))
    assert shape(effects) == [
        ("discontinuity", 960, {"reason": "sequence", "fill_samples": 2 * RATE - 960}, 2.01),
        ("outage", 960, {"length": 2 * RATE - 960}, 2.01),
        (2 * RATE - 960, SILENCE),
        anchor(2 * RATE, 77_000, 2.01),
        (960, RECEIVED),
    ]


def test_the_first_break_is_one_of_the_timestamps_unless_another_was_announced() -> None:
    recording = opened()
    recording.add(run(0, now=0.0))
    (noted, *_) = recording.add(run(2 * 10**9, now=0.04))
    assert isinstance(noted, Noted)
    assert noted.event.details["reason"] == "timestamp"


def test_an_unannounced_break_is_a_break_of_the_timestamps() -> None:
    recording = opened()
    recording.add(run(0, now=0.0))
    recording.restart("sequence")
    recording.add(run(10**6, now=0.02))
    (noted, *_) = recording.add(run(2 * 10**9, now=0.04))
    assert isinstance(noted, Noted)
    assert noted.event.details["reason"] == "timestamp"


def test_another_source_is_named_in_the_anchors_that_follow() -> None:
    recording = opened(ssrc=1)
    recording.add(run(0, now=0.0))
    recording.change_source(2)
    effects = recording.add(run(500, now=0.02))
    assert shape(effects)[:2] == [
        ("discontinuity", 960, {"reason": "source", "fill_samples": 0}, 0.02),
        anchor(960, 500, 0.02, ssrc=2),
    ]


def test_a_source_that_changes_before_the_first_sample_is_no_break() -> None:
    recording = Recording(max_gap_s=60)
    recording.change_source(4)
    recording.open(MONO, clock_rate_hz=RATE)
    assert events(recording.add(run(123, now=0.0))) == ["anchor"]


# -- sender reports ----------------------------------------------------------------------------


def spoken(recording: Recording, first: int, last: int, *, late_s: float = 0.0) -> list[str]:
    """Add packets that each come when they have been spoken, or later; return the events."""
    return [
        name
        for n in range(first, last)
        for name in events(recording.add(run(n * 960, now=(n + 1) * 0.02 + late_s)))
    ]


def reported(number: int, *, late_s: float = 0.0) -> SenderReport:
    """A report of a sender that captured without a pause, right behind its `number`th packet."""
    at = (number + 1) * 0.02 + late_s + 0.001
    return SenderReport(7, round((1000 + at - late_s) * 2**32), number * 960, at)


@pytest.mark.parametrize("is_reported", [True, False])
def test_a_report_from_before_the_first_packet_passed_tells_a_delay_from_a_stall(
    is_reported: bool,
) -> None:
    recording = Recording(max_gap_s=60)
    recording.change_source(7)
    if is_reported:
        assert recording.sender_reported(reported(0)) == []
    recording.open(MONO, clock_rate_hz=RATE)
    assert spoken(recording, 0, 100) == ["anchor"]
    assert spoken(recording, 100, 101, late_s=0.9) == []
    delayed = recording.sender_reported(reported(100, late_s=0.9)) if is_reported else []
    told = events(delayed) + spoken(recording, 101, 200, late_s=0.9)
    assert ("stall" in told) is not is_reported


# -- the sender's clock ----------------------------------------------------------------------------


def speak(recording: Recording, seconds: int, *, ppm: float, timestamp: int, at: float) -> None:
    for second in range(seconds):
        now = at + second / (1 + ppm * 1e-6)
        recording.add(run(timestamp + second * RATE, length=RATE, now=now))


def test_skew_is_noted_at_the_end() -> None:
    recording = opened()
    speak(recording, 100, ppm=80.26, timestamp=0, at=10.0)
    assert shape(recording.end(EndReason.CLOSED, now=200.0)) == [
        ("clock", 100 * RATE, {"skew_ppm": 80.3}, 200.0), EndReason.CLOSED,
    ]  # fmt: skip


def test_skew_is_that_of_the_clock_since_the_last_break() -> None:
    recording = opened()
    speak(recording, 100, ppm=0, timestamp=0, at=0.0)
    recording.restart("source")
    speak(recording, 100, ppm=200, timestamp=10**9, at=130.0)
    (noted, _) = recording.end(EndReason.CLOSED, now=300.0)
    assert isinstance(noted, Noted)
    assert noted.event.details == {"skew_ppm": pytest.approx(200.0, abs=0.1)}


# -- resumed recordings --------------------------------------------------------------------------


def taken_up(anchored: Anchor | None, *, clock_rate_hz: int = RATE, ssrc: int = 7) -> Recording:
    """Resume ten seconds of another process; half a second later the source is `ssrc`."""
    recording = Recording(max_gap_s=60)
    progress = Progress(length=10 * RATE, ended_at=50.0, anchor=anchored)
    recording.resume(MONO, clock_rate_hz=clock_rate_hz, progress=progress, ssrc=ssrc)
    assert (recording.state, recording.length) == (State.RECORDING, 10 * RATE)
    return recording


@pytest.mark.parametrize("timestamp", [0, 1000, 2**31, 2**32 - 9 * RATE])
def test_the_recorded_source_continues_by_its_timestamps(timestamp: int) -> None:
    recording = taken_up(Anchor(position=RATE, rtp_timestamp=timestamp, ssrc=7))
    # nine seconds from the anchor to the end, and three missing seconds
    effects = recording.add(run(timestamp + 12 * RATE, now=53.5))
    assert shape(effects) == [
        ("outage", 10 * RATE, {"length": 3 * RATE}, 53.5),
        (3 * RATE, SILENCE),
        anchor(13 * RATE, (timestamp + 12 * RATE) % 2**32, 53.5),
        (960, RECEIVED),
    ]


def test_a_clock_of_another_rate_than_the_samples_is_counted_in_its_own_ticks() -> None:
    recording = taken_up(Anchor(0, 8000, 7), clock_rate_hz=8000)
    effects = recording.add(run(8000 + 10 * 8000 + 4000, now=50.6))
    assert shape(effects)[0] == (RATE // 2, SILENCE)


@pytest.mark.parametrize("anchored", [None, Anchor(RATE, 1000, ssrc=8)])
def test_another_source_continues_by_the_clock(anchored: Anchor | None) -> None:
    recording = taken_up(anchored)
    effects = recording.add(run(10**6, now=53.02))
    assert shape(effects)[0] == (
        "discontinuity", 10 * RATE, {"reason": "source", "fill_samples": 3 * RATE}, 53.02,
    )  # fmt: skip
    assert anchor(13 * RATE, 10**6, 53.02) in shape(effects)


# -- capture times -------------------------------------------------------------------------------


@pytest.mark.parametrize("breaks_off", [False, True])
def test_capture_times_that_jump_again_and_again_gain_little(breaks_off: bool) -> None:
    recording = opened()
    for n in range(3000):  # a minute; the capture times claim four more
        spoken = run(n * 960)
        if n % 25 == 0:
            spoken.captured_s = n * 0.02 + n // 25 * 1.9
            if breaks_off and n % 50 == 0:
                recording.release()
                recording.restart("timestamp")
        recording.add(spoken)
    assert 60 * RATE <= recording.length <= 62.1 * RATE


def test_capture_times_show_stalls_one_after_another() -> None:
    recording = opened()
    for n in range(500):
        stalled_s = n // 100 * 3.0
        spoken = run(n * 960, now=(n + 1) * 0.02 + stalled_s)
        spoken.captured_s = n * 0.02 + stalled_s
        recording.add(spoken)
    assert recording.length == round(22.0 * RATE)
