"""``/api/recordings/{id}/peaks``: the waveform of a recording, at any zoom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from aiohttp import web

from adapters.http.operations import Content, Operation, Parameter
from adapters.http.routes import Route
from adapters.threads import LimitedThreads
from domain.errors import QueryInvalid
from domain.ports.peaks import DrawnRecording, Peaks
from domain.recording.ledger import SampleKind
from domain.recording.reading import MAX_SAMPLES
from domain.session.roles import Role
from domain.sound.peaks import MAX_POINTS, join_rows

_POINTS = 1000
_AT_ONCE = 2
"""Waveforms that are drawn at the same time; further ones wait."""
_DIGITS = 4
"""Decimals of a share: the interval of a day on a screen has 60 s, a lost packet 20 ms."""


def _rows(text: str, least: int, most: int) -> dict[str, Any]:
    values = {"type": "integer", "minimum": least, "maximum": most}
    rows = {"type": "array", "items": values}
    return {"type": "array", "items": rows, "description": f"{text}; a list for each channel."}


_SHARES = {
    "title": "KindShares",
    "type": "object",
    "additionalProperties": False,
    "required": ["kind", "shares"],
    "properties": {
        "kind": {"type": "string", "enum": [kind.value for kind in SampleKind]},
        "shares": {
            "type": "array",
            "items": {"type": "number", "minimum": 0, "maximum": 1},
            "description": "How much of each interval is of this kind.",
        },
    },
}
PEAKS = {
    "title": "Peaks",
    "type": "object",
    "additionalProperties": False,
    "required": [
        "id", "sample_rate_hz", "channels", "from", "to", "points", "min", "max", "rms", "kinds",
    ],
    "properties": {
        "id": {"type": "string"},
        "sample_rate_hz": {"type": "integer", "minimum": 1},
        "channels": {"type": "integer", "minimum": 1},
        "from": {"type": "integer", "minimum": 0},
        "to": {
            "type": "integer",
            "minimum": 0,
            "description": "The position after the last sample that is drawn; of a live recording, "
            "what there was at the time.",
        },
        "points": {
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_POINTS,
            "description": "Number of intervals. Interval i begins at "
            "from + floor(i × (to − from) / points).",
        },
        "min": _rows("Lowest sample of each interval, in 16-bit units", -32_768, 32_767),
        "max": _rows("Highest sample of each interval, in 16-bit units", -32_768, 32_767),
        "rms": _rows("RMS of each interval, in 16-bit units", 0, 32_767),
        "kinds": {
            "type": "array",
            "items": _SHARES,
            "description": "Of which kinds the samples are. Kinds that do not occur are left out; "
            "empty for a recording without a ledger.",
        },
    },
}  # fmt: skip


class PeaksHandlers:
    """Draws waveforms in threads."""

    def __init__(self, peaks: Peaks) -> None:
        self._peaks = peaks
        self._threads = LimitedThreads(_AT_ONCE, name="gapless-waveform")

    def routes(self) -> Sequence[Route]:
        position = {"type": "integer", "minimum": 0, "maximum": MAX_SAMPLES}
        operation = Operation(
            name="getPeaks",
            tag="recordings",
            summary="The waveform of a recording, or of a part of it",
            answers={200: Content(text="The waveform.", schema=PEAKS)},
            parameters=[
                Parameter(name="from", text="First sample; 0 by default.", schema=position),
                Parameter(
                    name="to", text="Sample behind the last; by default the end.", schema=position
                ),
                Parameter(
                    name="points",
                    text=f"Number of intervals; {_POINTS} by default. There are fewer if there "
                    "are fewer samples.",
                    schema={"type": "integer", "minimum": 1, "maximum": MAX_POINTS},
                ),
            ],
            problems=[400, 404],
        )
        path = "/api/recordings/{id}/peaks"
        return [Route("GET", path, self._get, role=Role.WATCH, operation=operation)]

    async def _get(self, request: web.Request) -> web.StreamResponse:
        start = _number(request, "from", 0, least=0, most=MAX_SAMPLES)
        stop = (
            _number(request, "to", 0, least=0, most=MAX_SAMPLES) if "to" in request.query else None
        )
        points = _number(request, "points", _POINTS, least=1, most=MAX_POINTS)
        recording_id = request.match_info["id"]

        def draw() -> bytes:
            drawn = self._peaks.draw(recording_id, start=start, stop=stop, points=points)
            return _encode(drawn)

        body = await self._threads.run(draw)
        return web.Response(body=body, content_type="application/json")


def _number(request: web.Request, name: str, default: int, *, least: int, most: int) -> int:
    """Read a number of the query. Raises `QueryInvalid`."""
    text = request.query.get(name, str(default))
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(most))
    if not is_number or not least <= int(text) <= most:
        raise QueryInvalid(f"{name} has to be a number from {least} to {most}")
    return int(text)


def _encode(drawn: DrawnRecording) -> bytes:
    waveform, info = drawn.waveform, drawn.info
    found = {
        "id": info.id,
        "sample_rate_hz": info.format.sample_rate_hz,
        "channels": info.format.channels,
        "from": int(waveform.bounds[0]),
        "to": int(waveform.bounds[-1]),
        "points": len(waveform.low),
        "min": join_rows(waveform.low),
        "max": join_rows(waveform.high),
        "rms": join_rows(waveform.rms),
        "kinds": [
            {"kind": kind.value, "shares": np.round(shares, _DIGITS).tolist()}
            for kind, shares in drawn.shares.items()
        ],
    }
    return json.dumps(found, separators=(",", ":")).encode()
