"""The tables of all commands, with names in any script."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from entrypoints.terminal import cut, table, text_width


def test_columns_are_in_line_behind_wide_characters() -> None:
    lines = list(table([("NAME", "SIZE", "STATE"), ("録音室", "9 B", "live")], right={1}))
    assert lines == ["NAME    SIZE  STATE", "録音室   9 B  live"]


def test_combining_characters_need_no_column() -> None:
    assert text_width("e\u0301") == 1
    assert list(table([("e\u0301", "x"), ("e", "x")])) == ["e\u0301  x", "e  x"]


@given(st.text(), st.integers(1, 30))
def test_what_is_cut_fits(text: str, width: int) -> None:
    shown = cut(text, width)
    assert text_width(shown) <= width
    assert shown == text or (shown.endswith("…") and text.startswith(shown[:-1]))
