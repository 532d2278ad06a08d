"""Spans, and the verification of a recording against them."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.recording.clock import SkewEstimator
from domain.recording.ledger import (
    Ledger,
    LedgerEvent,
    RecordingInfo,
    RestoreMode,
    RestoreState,
    SampleKind,
    Span,
    document,
    longest_gap,
    totals,
)
from domain.recording.verification import FileFacts, Limits, verify
from domain.sound.formats import AudioFormat
from domain.sound.levels import Loudness

MONO = AudioFormat(48_000, 1)
WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
PIECES = st.lists(st.tuples(st.sampled_from(SampleKind), st.integers(0, 5000)), max_size=60)


def filled(pieces: list[tuple[SampleKind, int]]) -> Ledger:
    ledger = Ledger()
    for kind, length in pieces:
        ledger.add(kind, length)
    return ledger


@given(PIECES)
def test_spans_cover_exactly_what_was_added_and_neighbours_are_merged(
    pieces: list[tuple[SampleKind, int]],
) -> None:
    ledger = filled(pieces)
    spans = list(ledger.spans())
    flat = [kind for kind, length in pieces for _ in range(length)]
    assert [span.kind for span in spans for _ in range(span.length)] == flat
    assert sum(span.length for span in spans) == ledger.length == len(flat)
    assert all(a.start + a.length == b.start for a, b in itertools.pairwise(spans))
    assert all(a.kind is not b.kind for a, b in itertools.pairwise(spans))
    assert all(totals(spans)[kind] == flat.count(kind) for kind in SampleKind)


@given(PIECES, st.integers(0, 100_000))
def test_truncation_forgets_the_end_and_nothing_else(
    pieces: list[tuple[SampleKind, int]], length: int
) -> None:
    ledger = filled(pieces)
    before = [span.kind for span in ledger.spans() for _ in range(span.length)]
    ledger.truncate(length)
    after = [span.kind for span in ledger.spans() for _ in range(span.length)]
    assert after == before[:length]


def test_the_longest_gap_goes_through_kinds_that_are_both_missing() -> None:
    spans = list(
        filled(
            [
                (SampleKind.RECEIVED, 10),
                (SampleKind.CONCEALED, 5),
                (SampleKind.SILENCE, 7),
                (SampleKind.RECOVERED, 1),
                (SampleKind.SILENCE, 9),
                (SampleKind.DTX, 100),
            ]
        ).spans()
    )
    gap = longest_gap(spans)
    assert gap is not None
    assert (gap.start, gap.length) == (10, 12)
    assert longest_gap([Span(0, 5, SampleKind.RECEIVED)]) is None


def written(**changes: Any) -> dict[str, Any]:
    ledger = filled([(SampleKind.RECEIVED, 4000), (SampleKind.CONCEALED, 1000)])
    ledger.events.append(LedgerEvent("anchor", 0, {"rtp_timestamp": 5}))
    info = RecordingInfo("id", "name", MONO, "opus", WHEN, session_id="id")
    return (
        document(
            info,
            ledger,
            ended_at=WHEN,
            end_reason="closed",
            sha256="ab",
            loudness=Loudness(-3.001, -20.5, 0),
        )
        | changes
    )


def facts(ledger: object, **changes: Any) -> FileFacts:
    given_ = {"path": "a.wav", "format": MONO, "length": 5000, "sha256": "ab", "problems": []}
    return FileFacts(**(given_ | changes), ledger=ledger)


def test_the_ledger_has_the_stable_fields() -> None:
    assert written() == {
        "version": 1,
        "id": "id",
        "track": 1,
        "name": "name",
        "room": None,
        "title": None,
        "sample_rate_hz": 48_000,
        "channels": 1,
        "sample_format": "s16",
        "codec": "opus",
        "container": "wav",
        "started_at": "2026-01-02T03:04:05.000000+00:00",
        "ended_at": "2026-01-02T03:04:05.000000+00:00",
        "end_reason": "closed",
        "length_samples": 5000,
        "sha256": "ab",
        "levels": {"peak_dbfs": -3.0, "rms_dbfs": -20.5, "clipped_samples": 0},
        "restore": None,
        "spans": [
            {"start": 0, "length": 4000, "kind": "received"},
            {"start": 4000, "length": 1000, "kind": "concealed"},
        ],
        "events": [{"type": "anchor", "position": 0, "rtp_timestamp": 5}],
    }


def test_the_verdict_on_a_valid_recording_has_the_stable_fields() -> None:
    verdict = verify(facts(written()), Limits())
    assert verdict.as_json() == {
        "file": "a.wav",
        "ok": True,
        "problems": [],
        "length_samples": 5000,
        "sample_rate_hz": 48_000,
        "channels": 1,
        "samples": {
            "received": 4000, "recovered": 0, "restored": 0, "concealed": 1000, "silence": 0,
            "dtx": 0,
        },
        "longest_gap_samples": 1000,
        "end_reason": "closed",
        "wall_clock": None,
        "restore": None,
        "source": None,
    }  # fmt: skip


def restored(mode: RestoreMode, state: RestoreState) -> dict[str, Any]:
    """A ledger of which 4000 samples are received and 1000 restored."""
    ledger = filled([(SampleKind.RECEIVED, 4000), (SampleKind.RESTORED, 1000)])
    info = RecordingInfo("id", "name", MONO, "opus", WHEN, session_id="id", restore=mode)
    return document(
        info, ledger, ended_at=WHEN, end_reason="closed", sha256="ab", restore_state=state
    )


def test_restored_samples_are_sound_and_no_gap() -> None:
    ledger = restored(RestoreMode.LOST, RestoreState.COMPLETE)
    strict = Limits(recovered=0, concealed=0, silence=0, gap_s=0)
    verdict = verify(facts(ledger), strict)
    assert verdict.ok
    assert verdict.longest_gap is None
    assert verdict.as_json()["samples"]["restored"] == 1000
    assert verdict.as_json()["restore"] == {
        "state": "complete", "mode": "lost", "wanted": 0, "restored": 1000,
    }  # fmt: skip


def test_what_is_still_wanted_is_told() -> None:
    verdict = verify(facts(restored(RestoreMode.ALL, RestoreState.WAITING)), Limits())
    assert verdict.ok
    assert verdict.restoring is not None
    assert (verdict.restoring.state, verdict.restoring.wanted) == (RestoreState.WAITING, 4000)


SPAN = {"start": 0, "length": 5000, "kind": "received"}


@pytest.mark.parametrize(
    ("ledger", "found", "problem"),
    [
        (written(), {"length": 4999}, "length_samples: the ledger says 5000, the file 4999"),
        (written(), {"sha256": "cd"}, "sha256"),
        (written(), {"format": AudioFormat(48_000, 2)}, "channels"),
        (written(version=2), {}, "version 2"),
        (written(spans=[]), {}, "the spans cover 0 samples"),
        (written(spans=[SPAN, SPAN]), {}, "span 1 begins at 0, the one before ends at 5000"),
        (written(spans=[SPAN | {"length": 4999}]), {}, "cover 4999 samples, the file has 5000"),
        (written(spans=[SPAN | {"kind": "lies"}]), {}, "span 0 cannot be read"),
        (written(spans="none"), {}, "no spans"),
        (
            written(spans=[SPAN | {"length": 1}, SPAN | {"start": 1, "length": 4999}]),
            {},
            "span 1 is of the same kind",
        ),
        (
            written(spans=[SPAN | {"length": float("inf")}]),
            {},
            "span 0 cannot be read",
        ),
        (written(restore={"state": "done"}), {}, "restoring cannot be read"),
        (written(spans=[SPAN | {"kind": "restored"}]), {}, "restored, from no spool"),
        (
            written(restore={"state": "complete", "mode": "all", "wanted": 0, "restored": 7}),
            {},
            "the ledger says that 7 samples are restored, its spans say 0",
        ),
        ([], {}, "not a JSON object"),
        (written(), {"problems": ["broken"]}, "broken"),
    ],
)
def test_contradictions_are_named(ledger: object, found: dict[str, Any], problem: str) -> None:
    verdict = verify(facts(ledger, **found), Limits())
    assert not verdict.ok
    assert any(problem in said for said in verdict.problems), verdict.problems


@pytest.mark.parametrize(
    ("limits", "ok"),
    [
        (Limits(concealed=0.2), True),
        (Limits(concealed=0.19), False),
        (Limits(gap_s=1000 / 48_000), True),
        (Limits(gap_s=0.02), False),
        (Limits(silence=0, recovered=0), True),
    ],
)
def test_limits_are_kept(limits: Limits, ok: bool) -> None:
    assert verify(facts(written()), limits).ok is ok


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner)
                    | st.dictionaries(st.sampled_from(list(written())), inner)))  # fmt: skip
def test_any_json_beside_a_recording_gets_a_verdict(ledger: object) -> None:
    verify(facts(ledger), Limits())


@pytest.mark.parametrize("ppm", [-200, -20, 0, 20, 200])
def test_skew_is_found_under_jitter(ppm: float) -> None:
    estimator = SkewEstimator()
    rng = __import__("random").Random(1)
    for n in range(50 * 600):
        media = n * 0.02
        estimator.observe(media_s=media, arrived_s=media / (1 + ppm / 1e6) + rng.uniform(0, 0.05))
    assert estimator.ppm == pytest.approx(ppm, abs=5)


def test_skew_is_not_guessed_from_a_few_seconds() -> None:
    estimator = SkewEstimator()
    for n in range(50 * 10):
        estimator.observe(media_s=n * 0.02, arrived_s=n * 0.02)
    assert estimator.ppm is None
