"""Restoring as JSON, both ways: what a client writes, and what a server reads of it.

What is read comes from outside. The functions that read raise `ValueError` with what is wrong.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Any

from domain.errors import CapturedInvalid
from domain.ports.restoring import Confirmed, Wanted
from domain.recording.ledger import RestoreMode
from domain.recording.ranges import Range
from domain.recording.restoring import Captured, SpoolInfo
from domain.sound.formats import AudioFormat, SampleFormat

MAX_POSITION = 2**53 - 1
"""JSON numbers are exact up to here (RFC 8259 § 6)."""
MAX_MISSING = 10_000
"""Ranges that a client has not captured: each is a fault of its device."""
RATES_HZ = range(8000, 384_000 + 1)
MAX_CAPTURED_S = 30 * 86_400
"""How long a client can have captured before it connects."""
MAX_CHANNELS = 8
SAMPLE_FORMATS = {
    item.value: item for item in (SampleFormat.U8, SampleFormat.S16, SampleFormat.S24)
}
_SHA256 = re.compile("[0-9a-fA-F]{64}")
_TIMESTAMP = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.IGNORECASE | re.ASCII
)


def write_time(time: datetime.datetime) -> str:
    """Write a time as RFC 3339, in UTC."""
    return time.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")


def read_time(value: Any) -> datetime.datetime:
    """Read a time as in RFC 3339, which has a zone; return it in UTC."""
    if isinstance(value, str) and _TIMESTAMP.fullmatch(value):
        try:
            return datetime.datetime.fromisoformat(value.upper()).astimezone(datetime.UTC)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"there is no such time: {value}") from error
    raise ValueError("a time has to be as in 2026-01-31T12:00:00Z")


# -- the spool of an offer -----------------------------------------------------------------------


def write_spool(spool: SpoolInfo) -> dict[str, Any]:
    where = {"rtp_timestamp": spool.rtp_timestamp, "position": spool.position}
    body: dict[str, Any] = {
        **{name: value for name, value in where.items() if value is not None},
        **spool.format.as_json(),
        "restore": spool.mode.value,
    }
    if spool.started_at is not None:
        body["started_at"] = write_time(spool.started_at)
    return body


def read_spool(value: Any) -> SpoolInfo:
    body = _object(value, "spool")
    sample_format = body.get("sample_format")
    if not isinstance(sample_format, str) or sample_format not in SAMPLE_FORMATS:
        raise ValueError(f"spool.sample_format has to be one of {', '.join(SAMPLE_FORMATS)}")
    mode, started_at = body.get("restore"), body.get("started_at")
    modes = [item.value for item in RestoreMode]
    if mode is not None and (not isinstance(mode, str) or mode not in modes):
        raise ValueError(f"spool.restore has to be one of {', '.join(modes)}")
    rate_hz = _integer(body, "sample_rate_hz", RATES_HZ, of="spool.")
    rtp_timestamp = position = None
    if "position" not in body:
        rtp_timestamp = _integer(body, "rtp_timestamp", range(2**32), of="spool.")
    elif "rtp_timestamp" in body:
        raise ValueError("spool has to have rtp_timestamp or position, not both")
    else:
        position = _integer(body, "position", range(MAX_CAPTURED_S * rate_hz + 1), of="spool.")
    return SpoolInfo(
        rtp_timestamp,
        AudioFormat(
            rate_hz,
            _integer(body, "channels", range(1, MAX_CHANNELS + 1), of="spool."),
            SAMPLE_FORMATS[sample_format],
        ),
        RestoreMode.LOST if mode is None else RestoreMode(mode),
        None if started_at is None else read_time(started_at),
        position,
    )


# -- what a client has captured ------------------------------------------------------------------


def write_captured(captured: Captured) -> dict[str, Any]:
    body: dict[str, Any] = {"length": captured.length, "sha256": captured.sha256}
    if captured.missing:
        body["missing"] = write_ranges(captured.missing)
    return body


def read_captured(value: Any) -> Captured:
    """Read what was captured. Raises `CapturedInvalid` where it contradicts itself, too."""
    body = _object(value, "the body")
    sha256 = body.get("sha256")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError("sha256 has to be 64 hexadecimal digits")
    length = _integer(body, "length", range(MAX_POSITION + 1))
    missing = body.get("missing")
    if missing is None:
        missing = []
    if isinstance(missing, list) and len(missing) > MAX_MISSING:
        raise ValueError(f"missing has more than {MAX_MISSING} ranges")
    ranges = read_ranges(missing, "missing")
    end = 0
    for item in ranges:
        if item.start < end or item.end > length:
            raise CapturedInvalid(
                "the ranges that are missing have to be in order, apart, and within the length"
            )
        end = item.end
    return Captured(length, sha256.lower(), tuple(ranges))


# -- what a server answers -----------------------------------------------------------------------


def write_wanted(wanted: Wanted) -> dict[str, Any]:
    body = {
        "ranges": write_ranges(wanted.ranges),
        "state": wanted.state,
        "until": None if wanted.until is None else write_time(wanted.until),
    }
    return body | ({"held": write_ranges(wanted.held)} if wanted.held else {})


def read_wanted(value: Any) -> Wanted:
    body = _object(value, "the answer")
    until = body.get("until")
    return Wanted(
        read_ranges(body.get("ranges"), "ranges"),
        _text(body, "state"),
        None if until is None else read_time(until),
        tuple(read_ranges(body.get("held", []), "held")),
    )


def read_confirmed(value: Any) -> Confirmed:
    body = _object(value, "the answer")
    sha256 = body.get("sha256")
    if not isinstance(sha256, str | None):
        raise ValueError("sha256 has to be text")
    return Confirmed(_text(body, "state"), sha256, read_ranges(body.get("ranges", []), "ranges"))


def write_ranges(ranges: Sequence[Range]) -> list[dict[str, int]]:
    return [{"start": item.start, "length": item.length} for item in ranges]


def read_ranges(value: Any, name: str) -> list[Range]:
    if not isinstance(value, list):
        raise ValueError(f"{name} has to be a list")
    ranges = []
    for item in value:
        # `type` and not `isinstance`: JSON's true is no number
        if (
            type(item) is not dict
            or type(start := item.get("start")) is not int
            or type(length := item.get("length")) is not int
            or start < 0
            or length < 1
            or start + length > MAX_POSITION
        ):
            raise ValueError(f'{name} has to be a list of {{"start": n, "length": n}}')
        ranges.append(Range(start, length))
    return ranges


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} has to be an object")
    return value


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} has to be text")
    return value


def _integer(body: dict[str, Any], name: str, allowed: range, *, of: str = "") -> int:
    value = body.get(name)
    if type(value) is not int or value not in allowed:
        raise ValueError(
            f"{of}{name} has to be a whole number from {allowed.start} to {allowed.stop - 1}"
        )
    return value
