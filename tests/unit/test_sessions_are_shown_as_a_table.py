"""The table of `gapless sessions list`."""

from __future__ import annotations

from typing import Any

from entrypoints.session_table import session_table


def level(peak: float | None, clipped: int = 0) -> dict[str, Any]:
    return {"peak_dbfs": peak, "rms_dbfs": None, "clipped": clipped}


def track(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "number": number,
        "sample_rate_hz": 48_000,
        "length": 48_000 * 62,
        "levels": [level(-12.34)],
        "lost": 1,
        "expected": 400,
        "fault": None,
    } | changes


def session(name: str, *tracks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "id": "3f9a1c0d",
        "name": name,
        "state": "recording",
        "waits_for": None,
        "round_trip_s": 0.0312,
        "tracks": list(tracks or [track()]),
    } | changes


def test_each_session_has_a_row_and_each_further_track() -> None:
    second = track(2, levels=[level(None), level(None)], lost=0)
    assert session_table([session("kitchen", track(), second)]) == [
        "ID        NAME     STATE          LENGTH        PEAK  LOST  ROUND TRIP",
        "3f9a1c0d  kitchen  recording  00:01:02.0  -12.3 dBFS  0.2%       31 ms",
        "          track 2             00:01:02.0      silent  0.0%",
    ]


def test_what_is_wrong_is_said() -> None:
    begun = track(levels=[level(0.0, clipped=9)], fault="no space left")
    nothing = track(sample_rate_hz=0, length=0, levels=[], lost=0, expected=0)
    waits = {"state": "silent", "waits_for": "its first packet, until 12:00:00 UTC"}
    lines = session_table([session("a", begun), session("b", nothing, **waits, round_trip_s=None)])
    assert lines[1].endswith("no space left; clipping")
    cells = lines[2].split(maxsplit=3)
    assert cells == ["3f9a1c0d", "b", "silent", "waits for its first packet, until 12:00:00 UTC"]


def test_names_cannot_control_the_terminal_nor_shift_the_columns() -> None:
    lines = session_table([session("a\x1b[2J"), session("録音室"), session("x" * 100)])
    assert "\x1b" not in "".join(lines)
    assert lines[2].index("recording") == lines[1].index("recording") - 3  # three wide characters
    assert len(lines[3]) < 120
