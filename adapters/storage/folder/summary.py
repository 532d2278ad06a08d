"""Reads the beginning of a ledger file, without spans and events."""

from __future__ import annotations

import datetime
import logging
import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.descriptors import RESERVE
from adapters.opening import open_found, read_all
from adapters.storage.documents import MAX_LEDGER_BYTES, parse
from adapters.storage.folder.checking import NotAsRecorded, check_file
from adapters.storage.folder.files import RecordingFiles
from adapters.storage.folder.journal import read_info
from domain.recording.completed import CompletedPart
from domain.recording.ledger import RecordingInfo
from domain.recording.naming import part_name
from domain.recording.reading import MAX_SAMPLES, moment, text, whole

_HEAD_BYTES = 4096
_log = logging.getLogger("gapless")


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """What a ledger says about one part."""

    info: RecordingInfo
    """Describes the part: its own name, and the time of its first sample."""
    length: int
    """Samples per channel."""
    end_reason: str
    ended_at: datetime.datetime
    sha256: str = ""
    """Of its sound; empty if the ledger does not say it."""


def read_summary(path: pathlib.Path) -> LedgerSummary | None:
    """Read the beginning of a ledger; None if the file is not a ledger. Raises `OSError`."""
    descriptor = open_found(path)
    try:
        data = os.pread(descriptor, _HEAD_BYTES, 0)
        # spans and events come last and can be megabytes; quotes inside strings are escaped
        head, separator, _ = data.partition(b',"spans":')
        data = head + b"}" if separator else read_all(descriptor, MAX_LEDGER_BYTES, path)
    finally:
        RESERVE.close(descriptor)
    try:
        entry = parse(data)
        return LedgerSummary(
            read_info(entry),
            whole(entry["length_samples"]),
            text(entry["end_reason"]),
            moment(entry["ended_at"]),
            text(entry.get("sha256") or ""),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def part_start(part: RecordingInfo, started_at: datetime.datetime) -> int:
    """Return the position of a part, given the start of its recording; exact below some 100 kHz."""
    seconds = (part.started_at - started_at).total_seconds()
    return min(max(0, round(seconds * part.format.sample_rate_hz)), MAX_SAMPLES)


def earlier_parts(
    folder: pathlib.Path, info: RecordingInfo, number: int
) -> Sequence[CompletedPart]:
    """Return the parts of a recording before this number that are what their ledgers say."""
    found = []
    for earlier in range(1, number):
        files = RecordingFiles(folder, part_name(info.name, earlier), info.container)
        try:
            summary = read_summary(files.ledger)
            if summary is None:
                continue
            check_file(files.recording, info.container, summary.info.format, summary.length)
        except NotAsRecorded as error:
            _log.warning("a part was left out of its recording: %s", error)
            continue
        except OSError:
            continue
        start = part_start(summary.info, info.started_at)
        found.append(CompletedPart(earlier, str(files.recording), start, summary.length))
    return found
