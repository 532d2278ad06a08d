"""Reads a complete recording, to rewrite it."""

from __future__ import annotations

import datetime
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.descriptors import RESERVE
from adapters.opening import open_sound
from adapters.storage.folder.files import RecordingFiles
from adapters.storage.folder.journal import read_info
from adapters.storage.folder.ledgers import read_document, read_ledger, read_state
from adapters.storage.folder.listing import files_of
from adapters.storage.folder.media import data_offset_of, read_format
from adapters.storage.folder.reader import OpenedPart, OpenedWav
from adapters.storage.folder.summary import part_start
from domain.ports.catalogue import CatalogueEntry, RecordingState
from domain.recording.completed import CompletedPart
from domain.recording.ledger import (
    LEFT_OUT,
    Container,
    Ledger,
    LedgerEvent,
    RecordingInfo,
    RestoreState,
    SampleKind,
    Span,
)
from domain.recording.ranges import RangeSet
from domain.recording.reading import moment, text
from domain.recording.restoring import (
    PLACED,
    TICK_RATE_HZ,
    Segment,
    placement_of,
    segments_of,
)


@dataclass(frozen=True, slots=True)
class PartLedger:
    """A part, and its ledger as it was read."""

    part: CompletedPart
    files: RecordingFiles
    entry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CompleteRecording:
    """A complete recording with all its parts; positions count from its beginning."""

    info: RecordingInfo
    """With the format of the last part."""
    parts: Sequence[PartLedger]
    ledger: Ledger
    end_reason: str
    ended_at: datetime.datetime
    state: RestoreState
    """How far its ledger says that it is restored."""
    quiet: RangeSet = field(default_factory=RangeSet)
    """Positions of received sound that nobody can hear, as far as it was looked for."""

    @property
    def is_done(self) -> bool:
        """Whether it was restored already."""
        return self.state in (RestoreState.COMPLETE, RestoreState.EXPIRED)

    @property
    def is_placed(self) -> bool:
        """Whether the ledger says where all of its sound is in a spool."""
        types = {event.type for event in self.ledger.events}
        return PLACED in types and LEFT_OUT not in types

    @property
    def is_timed(self) -> bool:
        """Whether the axis of its spool is time, see `SpoolInfo`."""
        placed = (placement_of(event) for event in self.ledger.events)
        return any(item is not None and item.about is not None for item in placed)

    @property
    def sha256(self) -> str:
        """Of the PCM; empty if there are several parts, or packets."""
        if len(self.parts) > 1 or self.info.container is not Container.WAV:
            return ""
        return str(self.parts[0].entry["sha256"])

    @property
    def restored(self) -> int:
        """Samples of the kind `restored`."""
        return sum(s.length for s in self.ledger.spans() if s.kind is SampleKind.RESTORED)

    def segments(self, total: int | None) -> list[Segment]:
        """Return its segments, see `segments_of`."""
        rate_hz = self.info.format.sample_rate_hz
        spans, events = list(self.ledger.spans()), self.ledger.events
        if rate_hz != TICK_RATE_HZ:  # it is as it was captured
            spans = [_in_ticks(span, rate_hz) for span in spans]
            events = [_event_in_ticks(event, rate_hz) for event in events]
        return segments_of(spans, events, total=total, quiet=self.quiet)

    def open(self) -> OpenedWav:
        """Open the sound of all parts, in the format of the last one. Raises `OSError`."""
        entry = CatalogueEntry(
            info=self.info,
            state=RecordingState.COMPLETE,
            parts=tuple(item.part for item in self.parts),
            size=0,
        )
        opened: list[OpenedPart] = []
        try:
            opened.extend(_open(item, self.info) for item in self.parts)
        except BaseException:
            for one in opened:
                RESERVE.close(one.descriptor)
            raise
        return OpenedWav(entry, opened)


def read_complete(
    folder: pathlib.Path, info: RecordingInfo, numbers: Sequence[int]
) -> CompleteRecording:
    """Read the ledgers of a complete recording, which has these parts.

    `info` names it. Raises `OSError`, and `ValueError` if a ledger cannot be read.
    """
    started_at = None
    whole = Ledger()
    parts: list[PartLedger] = []
    for number in numbers:
        files = files_of(folder, info.name, number, info.container)
        entry = read_document(files.ledger)
        try:
            own = read_info(entry)
            started_at = started_at or own.started_at
            ledger = read_ledger(entry)
            end_reason = text(entry["end_reason"])
            ended_at = moment(entry["ended_at"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{files.ledger.name} cannot be read: {error}") from error
        start = part_start(own, started_at)
        whole.add(SampleKind.SILENCE, start - whole.length)  # a part that is missing
        for span in ledger.spans():
            whole.add(span.kind, span.length)
        whole.events += [event.moved(start) for event in ledger.events if event.type != "continues"]
        parts.append(
            PartLedger(
                CompletedPart(number, str(files.recording), start, ledger.length), files, entry
            )
        )
        info = replace(own, id=info.id, name=info.name, started_at=started_at)
    if not parts:
        raise ValueError(f"{info.name} has no parts")
    return CompleteRecording(info, parts, whole, end_reason, ended_at, read_state(parts[-1].entry))


def _open(item: PartLedger, info: RecordingInfo) -> OpenedPart:
    descriptor = open_sound(item.files.recording)
    try:
        return OpenedPart(
            item.part,
            read_format(descriptor, info.container) or info.format,
            descriptor,
            os.fstat(descriptor).st_size,
            data_offset_of(descriptor, info.container),
        )
    except BaseException:
        RESERVE.close(descriptor)
        raise


def _in_ticks(span: Span, rate_hz: int) -> Span:
    start = span.start * TICK_RATE_HZ // rate_hz
    end = (span.start + span.length) * TICK_RATE_HZ // rate_hz
    return Span(start, end - start, span.kind)


def _event_in_ticks(event: LedgerEvent, rate_hz: int) -> LedgerEvent:
    details = dict(event.details)
    if isinstance(gap := details.get("gap"), int):
        details["gap"] = gap * TICK_RATE_HZ // rate_hz
    return LedgerEvent(event.type, event.position * TICK_RATE_HZ // rate_hz, details)
