"""Shows the sessions of a server as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from entrypoints.terminal import cut, full_time, printable, table

_MAX_NAME = 24
_HEAD = ("ID", "NAME", "STATE", "LENGTH", "PEAK", "LOST", "ROUND TRIP", "")
_RIGHT = {3, 4, 5, 6}
"""Columns of numbers."""


def session_table(sessions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table with a row for each track, and one for the head.

    What a session waits for, or what is wrong with it, is in the last column.
    """
    rows = [_HEAD, *(_row(session, track) for session in sessions for track in session["tracks"])]
    return list(table(rows, right=_RIGHT))


def _row(session: Mapping[str, Any], track: Mapping[str, Any]) -> tuple[str, ...]:
    is_first, rate = track["number"] == 1, track["sample_rate_hz"]
    name = cut(printable(session["name"]), _MAX_NAME)
    peaks = [level["peak_dbfs"] for level in track["levels"]]
    heard = [peak for peak in peaks if peak is not None]
    peak = f"{max(heard):.1f} dBFS" if heard else "silent" if peaks else ""
    lost = f"{track['lost'] / track['expected']:.1%}" if track["expected"] else ""
    round_trip = session["round_trip_s"]
    return (
        session["id"] if is_first else "",
        name if is_first else f"track {track['number']}",
        session["state"] if is_first else "",
        full_time(track["length"] / rate) if rate else "",
        peak,
        lost,
        "" if round_trip is None or not is_first else f"{1000 * round_trip:.0f} ms",
        _trouble(session if is_first else {}, track),
    )


def _trouble(session: Mapping[str, Any], track: Mapping[str, Any]) -> str:
    """Say what a session waits for, and what is wrong with a track."""
    clipped = sum(level["clipped"] for level in track["levels"])
    found = (
        f"waits for {session['waits_for']}" if session.get("waits_for") else "",
        track["fault"] or "",
        "clipping" if clipped else "",
    )
    return "; ".join(filter(None, found))
