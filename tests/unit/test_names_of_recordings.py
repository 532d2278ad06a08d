from __future__ import annotations

import datetime
import re

from hypothesis import given
from hypothesis import strategies as st

from domain.recording.naming import MAX_SLUG, recording_name, slug


@given(st.text())
def test_only_a_slug_of_a_clients_text_gets_into_file_names(text: str) -> None:
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", slug(text))
    assert len(slug(text)) <= MAX_SLUG


def test_a_name_has_time_slug_and_id() -> None:
    when = datetime.datetime(2026, 11, 22, 10, 15, 0, 123_999, tzinfo=datetime.UTC)
    name = recording_name(started_at=when, client_name="Küche / 2. Stock", session_id="ab12")
    assert name == "20261122T101500123Z-kuche-2-stock-ab12"


@given(st.lists(st.datetimes(timezones=st.just(datetime.UTC)), min_size=2, max_size=5))
def test_names_sort_by_time(times: list[datetime.datetime]) -> None:
    times = [t.replace(year=2000 + t.year % 100) for t in times if (t.month, t.day) != (2, 29)]
    times.sort()
    names = [recording_name(started_at=t, client_name="", session_id="x") for t in times]
    assert names == sorted(names)
