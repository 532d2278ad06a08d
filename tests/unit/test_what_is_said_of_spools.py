"""What clients and servers tell each other of spools is written and read alike, or refused."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.http.restore_json import (
    MAX_POSITION,
    read_captured,
    read_confirmed,
    read_spool,
    read_time,
    read_wanted,
    write_captured,
    write_ranges,
    write_spool,
    write_wanted,
)
from domain.errors import CapturedInvalid
from domain.ports.restoring import Confirmed, Wanted
from domain.recording.ledger import RestoreMode
from domain.recording.ranges import Range
from domain.recording.restoring import Captured, SpoolInfo
from domain.sound.formats import AudioFormat, SampleFormat

times = st.none() | st.datetimes(timezones=st.just(datetime.UTC))
spools = st.builds(
    SpoolInfo,
    st.integers(0, 2**32 - 1),
    st.builds(
        AudioFormat,
        st.integers(8000, 384_000),
        st.integers(1, 8),
        st.sampled_from([SampleFormat.U8, SampleFormat.S16, SampleFormat.S24]),
    ),
    st.sampled_from(RestoreMode),
    times,
) | st.builds(
    SpoolInfo,
    st.none(),
    st.just(AudioFormat(48_000, 1)),
    st.sampled_from(RestoreMode),
    times,
    st.integers(0, 30 * 86_400 * 48_000),
)


@st.composite
def ranges(draw: st.DrawFn) -> list[Range]:
    """Draw ranges in order that do not overlap."""
    cuts = sorted(draw(st.sets(st.integers(0, MAX_POSITION), max_size=20)))
    return [Range(start, end - start) for start, end in zip(cuts[::2], cuts[1::2], strict=False)]


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@given(spools)
def test_a_spool_is_read_as_it_was_written(spool: SpoolInfo) -> None:
    assert read_spool(through_json(write_spool(spool))) == spool


@given(ranges(), st.sampled_from(["live", "waiting"]), times, ranges())
def test_what_is_wanted_is_read_as_it_was_written(
    wanted: list[Range], state: str, until: datetime.datetime | None, held: list[Range]
) -> None:
    value = Wanted(wanted, state, until, tuple(held))
    assert read_wanted(through_json(write_wanted(value))) == value


@given(ranges())
def test_what_was_captured_is_read_as_it_was_written(missing: list[Range]) -> None:
    length = missing[-1].end if missing else 0
    captured = Captured(length, "0f" * 32, tuple(missing))
    assert read_captured(through_json(write_captured(captured))) == captured


GOOD_SPOOL = write_spool(SpoolInfo(5, AudioFormat(48_000, 2)))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rtp_timestamp", [-1, 2**32, 1.5, "1", None, True, float("nan")]),
        ("sample_rate_hz", [7999, 384_001, 48_000.0, "48000", None, True]),
        ("channels", [0, 9, True, None, [2]]),
        ("sample_format", ["s32", "f32", "S16", "", None, 16, ["s16"], {}]),
        ("restore", ["some", "LOST", "", 1, ["lost"], {}]),
        (
            "started_at",
            [
                "", "2026-01-31", "2026-01-31T12:00:00", "2026-02-30T12:00:00Z", 1.5,
                "20260131T120000Z", "2026-01-31T12:00:60Z", "2026-01-31 12:00:00Z", "2026-W05-6",
                "2026-01-31T12:00:00+25:00", "0001-01-01T00:00:00+14:00", "２026-01-31T12:00:00Z",
                "2026-01-31T12:00:00Z" * 1000,
            ],
        ),
    ],
)  # fmt: skip
def test_a_spool_that_cannot_be_is_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match="has to be|no such time"):
            read_spool(GOOD_SPOOL | {name: value})
    if name not in ("restore", "started_at"):
        with pytest.raises(ValueError, match=name):
            read_spool({key: value for key, value in GOOD_SPOOL.items() if key != name})


@pytest.mark.parametrize("position", [-1, 30 * 86_400 * 48_000 + 1, 1.5, "1", None, True])
def test_a_position_that_cannot_be_is_refused(position: Any) -> None:
    spool = {key: value for key, value in GOOD_SPOOL.items() if key != "rtp_timestamp"}
    assert read_spool(spool | {"position": 5}).position == 5
    with pytest.raises(ValueError, match=r"spool\.position has to be"):
        read_spool(spool | {"position": position})


def test_a_spool_has_a_timestamp_or_a_position() -> None:
    with pytest.raises(ValueError, match="not both"):
        read_spool(GOOD_SPOOL | {"position": 5})


@pytest.mark.parametrize("value", [None, [], "x", 5])
def test_a_spool_is_an_object(value: Any) -> None:
    with pytest.raises(ValueError, match="object"):
        read_spool(value)


def test_times_may_have_any_zone() -> None:
    noon = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
    for text in ("2026-01-31T12:00:00Z", "2026-01-31t14:00:00.000+02:00", "2026-01-31T12:00:00z"):
        assert read_time(text) == noon
        assert read_time(text).tzinfo is datetime.UTC


SHA256 = "AB" * 32


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"length": 5},
        {"sha256": SHA256},
        {"length": -1, "sha256": SHA256},
        {"length": 2**53, "sha256": SHA256},
        {"length": True, "sha256": SHA256},
        {"length": 1.0, "sha256": SHA256},
        {"length": 5, "sha256": SHA256[1:]},
        {"length": 5, "sha256": "x" * 64},
        {"length": 5, "sha256": 5},
        {"length": 5, "sha256": SHA256, "missing": {}},
        {"length": 5, "sha256": SHA256, "missing": [1]},
        {"length": 5, "sha256": SHA256, "missing": [{"start": 1}]},
        {"length": 5, "sha256": SHA256, "missing": [{"start": 1, "length": 0}]},
        {"length": 5, "sha256": SHA256, "missing": [{"start": -1, "length": 2}]},
        {"length": 5, "sha256": SHA256, "missing": [{"start": True, "length": 2}]},
        {"length": 5, "sha256": SHA256, "missing": [{"start": 1, "length": 1.0}]},
        {"length": 5, "sha256": SHA256, "missing": [{"start": 2**53, "length": 1}]},
        {"length": 10**6, "sha256": SHA256, "missing": write_ranges([Range(1, 1)]) * 10_001},
        [],
    ],
)
def test_what_was_captured_has_its_shape(body: Any) -> None:
    with pytest.raises(ValueError, match="has to be|more than"):
        read_captured(body)


@pytest.mark.parametrize(
    "missing",
    [
        [Range(4, 2)],
        [Range(0, 2), Range(1, 2)],
        [Range(3, 1), Range(0, 1)],
        [Range(1, 1), Range(1, 1)],
    ],
)
def test_what_was_captured_does_not_contradict_itself(missing: list[Range]) -> None:
    body = {"length": 5, "sha256": SHA256, "missing": write_ranges(missing)}
    with pytest.raises(CapturedInvalid, match="in order"):
        read_captured(body)


def test_a_hash_is_read_in_lower_case() -> None:
    assert read_captured({"length": 5, "sha256": SHA256, "missing": None}).sha256 == "ab" * 32


def test_an_answer_of_another_server_is_not_read() -> None:
    for body in ({}, [], {"state": 5}, {"state": "live", "ranges": 5}, None):
        with pytest.raises(ValueError, match="has to be"):
            read_wanted(body)
    for body in ({}, [], {"state": "x", "sha256": 5}, {"state": "x", "ranges": [{}]}):
        with pytest.raises(ValueError, match="has to be"):
            read_confirmed(body)
    assert read_confirmed({"state": "restoring", "sha256": None}) == Confirmed(
        "restoring", None, []
    )
