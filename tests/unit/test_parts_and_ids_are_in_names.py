"""A file name states when its recording began, its id, its part and its worker."""

from __future__ import annotations

import datetime
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.recording.naming import (
    part_name,
    read_recording_name,
    recording_id,
    recording_name,
    split_part_name,
    split_recording_id,
)
from domain.session.placement import NodeId, id_of

SESSION = "8f3a9c0d12345678"
KEY = b"of a server"
FIRST = datetime.datetime(1970, 1, 1)  # noqa: DTZ001 (hypothesis requires it)
WHEN = datetime.datetime(2026, 11, 22, 10, 15, 0, 123_000, tzinfo=datetime.UTC)


@given(
    when=st.datetimes(min_value=FIRST, timezones=st.just(datetime.UTC)),
    client=st.text(),
    track=st.integers(1, 999),
    number=st.integers(1, 999_999),
)
def test_a_name_can_be_parsed_again(
    when: datetime.datetime, client: str, track: int, number: int
) -> None:
    when = when.replace(microsecond=when.microsecond // 1000 * 1000)
    name = recording_name(started_at=when, client_name=client, session_id=SESSION, track=track)
    assert split_part_name(part_name(name, number)) == (name, number)
    assert split_part_name(name) == (name, 1)
    assert read_recording_name(name) == (when, recording_id(SESSION, track))
    assert split_recording_id(recording_id(SESSION, track)) == (SESSION, track)


@pytest.mark.parametrize("number", [1, 2, 1000])
@pytest.mark.parametrize("track", [1, 2, 12])
def test_all_files_of_a_session_belong_to_its_worker(track: int, number: int) -> None:
    for worker in range(4):
        secret = NodeId(worker, 4, KEY).choose_secret(lambda: secrets.token_hex(32))
        session_id = id_of(secret)
        name = recording_name(
            started_at=WHEN, client_name="a-b 2", session_id=session_id, track=track
        )
        owners = [n for n in range(4) if NodeId(n, 4, KEY).owns(part_name(name, number))]
        assert owners == [worker]


@pytest.mark.parametrize(
    "name", ["talk", "20261122T101500123Z", "20261322T101500123Z-8f3a9c0d", "a_part", "_part2",
             "20261122T101500123Z-8f3a9c0d-rendered", "20261122T101500123Z-8f3a9c0d-2"],
)  # fmt: skip
def test_foreign_names_are_not_parsed(name: str) -> None:
    assert read_recording_name(name) is None
