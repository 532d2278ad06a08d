"""Ledgers have a bounded size whatever a peer does, and are correct after a truncation."""

from __future__ import annotations

import datetime
import itertools

import pytest

from domain.recording.ledger import (
    Ledger,
    LedgerEvent,
    RecordingInfo,
    SampleKind,
    Span,
    describe,
    document,
    longest_gap,
    timestamp,
)
from domain.sound.formats import AudioFormat

RECEIVED, SILENCE, DTX = SampleKind.RECEIVED, SampleKind.SILENCE, SampleKind.DTX
WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
INFO = RecordingInfo("id", "name", AudioFormat(48_000, 1), "opus", WHEN, session_id="session")


def spans(ledger: Ledger) -> list[tuple[int, int, SampleKind]]:
    return [(span.start, span.length, span.kind) for span in ledger.spans()]


def written(ledger: Ledger) -> dict[str, object]:
    return document(INFO, ledger, ended_at=None, end_reason=None, sha256=None)


# -- spans -----------------------------------------------------------------------------------------


def test_a_span_begins_where_the_kind_changes_and_nowhere_else() -> None:
    ledger = Ledger()
    added = [(RECEIVED, 5), (RECEIVED, 5), (SILENCE, 0), (SILENCE, 1), (RECEIVED, -3), (DTX, 2)]
    assert [ledger.add(kind, length) for kind, length in added] == [
        True, False, False, True, False, True,
    ]  # fmt: skip
    assert spans(ledger) == [(0, 10, RECEIVED), (10, 1, SILENCE), (11, 2, DTX)]


@pytest.mark.parametrize("length", range(14))
def test_samples_added_after_a_truncation_are_at_their_position(length: int) -> None:
    ledger, flat = Ledger(), [RECEIVED] * 5 + [SILENCE] * 4 + [DTX] * 3
    for kind in flat:
        ledger.add(kind, 1)
    ledger.truncate(length)
    ledger.add(SILENCE, 2)
    expected = flat[:length] + [SILENCE] * 2
    assert ledger.length == len(expected)
    assert [kind for _, count, kind in spans(ledger) for _ in range(count)] == expected
    assert all(count > 0 for _, count, _ in spans(ledger))
    assert all(a[2] is not b[2] for a, b in itertools.pairwise(spans(ledger)))


def test_of_equally_long_gaps_the_first_is_reported() -> None:
    found = longest_gap([Span(0, 5, SILENCE), Span(5, 1, RECEIVED), Span(6, 5, SILENCE)])
    assert found == Span(0, 5, SILENCE)


def test_only_received_and_recovered_samples_have_packets() -> None:
    having = [kind for kind in SampleKind if kind.has_packet]
    assert having == [SampleKind.RECEIVED, SampleKind.RECOVERED]


# -- events ----------------------------------------------------------------------------------------


def test_ten_thousand_events_are_kept_and_the_rest_is_counted() -> None:
    ledger = Ledger()
    ledger.add(RECEIVED, 77)
    noted = [LedgerEvent("seen", n) for n in range(10_003)]
    kept = [ledger.note(event) for event in noted]
    assert kept == [*noted[:10_000], None, None, None]
    assert len(ledger.events) == 10_000
    assert ledger.events_left_out == 3
    events = written(ledger)["events"]
    assert isinstance(events, list)
    assert len(events) == 10_001
    assert events[-1] == {"type": "events left out", "position": 77, "count": 3}


def test_the_ledger_mentions_no_events_if_none_was_left_out() -> None:
    ledger = Ledger()
    ledger.note(LedgerEvent("seen", 5, {"count": 2}))
    assert written(ledger)["events"] == [{"type": "seen", "position": 5, "count": 2}]


def test_anchors_of_one_break_after_another_replace_each_other() -> None:
    ledger, written_to_journal = Ledger(), 0
    for n in range(3000):  # a minute
        ledger.add(RECEIVED, 960)
        written_to_journal += ledger.note(LedgerEvent("anchor", n * 960, {"n": n})) is not None
    positions = [event.position for event in ledger.events]
    assert positions[0] == 0
    assert positions[-1] == 2999 * 960
    assert len(positions) < 30
    assert written_to_journal < 100


def test_an_anchor_each_minute_is_kept() -> None:
    ledger = Ledger()
    noted = [LedgerEvent("anchor", n * 60 * 48_000) for n in range(1440)]
    assert [ledger.note(event) for event in noted] == noted == ledger.events


def test_a_merged_event_moves_as_a_whole() -> None:
    event = LedgerEvent("timestamps", 5, {"count": 3, "until": 9, "reason": "numbering"})
    assert event.moved(100) == LedgerEvent(
        "timestamps", 105, {"count": 3, "until": 109, "reason": "numbering"}
    )


# -- what is written -------------------------------------------------------------------------------


def test_a_live_recording_has_no_end_yet() -> None:
    said = written(Ledger())
    assert {key: said[key] for key in ("ended_at", "end_reason", "sha256", "levels")} == {
        "ended_at": None, "end_reason": None, "sha256": None, "levels": None,
    }  # fmt: skip
    assert said.items() >= describe(INFO).items()


def test_dates_are_utc_to_the_microsecond() -> None:
    east = datetime.timezone(datetime.timedelta(hours=2))
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=east)
    assert timestamp(moment) == "2026-01-02T01:04:05.000678+00:00"


def test_a_recording_is_by_default_no_rendering_and_of_the_first_track() -> None:
    assert (INFO.is_rendering, INFO.track) == (False, 1)
