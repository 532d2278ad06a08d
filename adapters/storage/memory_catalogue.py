"""The catalogue of the recordings in memory."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from adapters.storage.cursors import milliseconds, read_cursor, write_cursor
from adapters.storage.memory import MemoryRecording, MemoryStore
from adapters.storage.wav.header import whole_header
from domain.errors import QueryInvalid, RecordingLive, RecordingUnknown
from domain.ports.catalogue import CatalogueEntry, CataloguePage, CatalogueQuery, RecordingState
from domain.recording.completed import CompletedPart
from domain.recording.ledger import RecordingInfo
from domain.session.rooms import room_key
from domain.session.titles import name_texts, title_key
from domain.sound.conversion import pack
from domain.sound.formats import Samples


class MemoryCatalogue:
    """A `Catalogue` of what a `MemoryStore` keeps."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def announce(self, info: RecordingInfo, *, number: int, start: int) -> None:
        self._store.announce(info)

    def complete(
        self,
        info: RecordingInfo,
        part: CompletedPart,
        *,
        end_reason: str,
        ended_at: datetime.datetime,
    ) -> None:
        """Do nothing: the recording in the store knows that it is complete."""

    def withdraw(self, info: RecordingInfo, *, number: int) -> None:
        self._store.live.pop(info.name, None)

    def page(self, query: CatalogueQuery) -> CataloguePage:
        if query.limit < 1:
            raise QueryInvalid(f"a page cannot have {query.limit} recordings")
        before = None if query.before is None else read_cursor(query.before)
        found = sorted(
            (
                (_place(recording), recording)
                for recording in self._all()
                if _matches(recording, query)
            ),
            key=lambda item: item[0],
            reverse=True,
        )
        if before is not None:
            found = [(place, recording) for place, recording in found if place < before]
        entries = tuple(_entry(recording) for _, recording in found[: query.limit])
        is_last = len(found) <= query.limit
        return CataloguePage(entries, None if is_last else write_cursor(*found[query.limit - 1][0]))

    def entry(self, recording_id: str) -> CatalogueEntry:
        return _entry(self._find(recording_id))

    def ledger(self, recording_id: str) -> dict[str, Any]:
        return self._find(recording_id).ledger

    def open(self, recording_id: str) -> OpenedMemory:
        return OpenedMemory(self._find(recording_id))

    def remove(self, recording_id: str) -> None:
        recording = self._find(recording_id)
        if recording.completed is None:
            raise RecordingLive(f"{recording.info.name} is still being written")
        self._store.remove(recording)

    def close(self) -> None:
        """Nothing to release."""

    def _all(self) -> list[MemoryRecording]:
        # a recording that is being completed is in both for a moment, and never in neither
        found = {recording.info.name: recording for recording in list(self._store.live.values())}
        for recording in list(self._store.recordings.values()):
            found[recording.info.name] = recording
        return list(found.values())

    def _find(self, recording_id: str) -> MemoryRecording:
        for recording in self._all():
            if recording.info.id == recording_id:
                return recording
        raise RecordingUnknown(f"there is no recording {recording_id}")


class OpenedMemory:
    """A recording in memory, with the samples that it had when it was opened."""

    def __init__(self, recording: MemoryRecording) -> None:
        samples = recording.samples
        self.entry = _entry(recording, length=len(samples))
        audio_format = recording.info.format
        data = pack(samples, audio_format.sample_format)
        self._samples = samples
        self._bytes = whole_header(audio_format, len(data)) + data + b"\0" * (len(data) % 2)
        self.size = len(self._bytes)
        self.version = f"{recording.info.id}-{self.entry.state.value}-{len(samples)}"

    def read_bytes(self, start: int, length: int) -> bytes:
        return self._bytes[start : start + length]

    def read_samples(self, start: int, length: int) -> Samples:
        return self._samples[start : start + length]

    def blocks(self, length: int) -> Iterator[Samples]:
        for start in range(0, len(self._samples), length):
            yield self.read_samples(start, length)

    def close(self) -> None:
        """Nothing to release."""


def _place(recording: MemoryRecording) -> tuple[int, str]:
    return milliseconds(recording.info.started_at), recording.info.name


def _state(recording: MemoryRecording) -> RecordingState:
    return RecordingState.LIVE if recording.completed is None else RecordingState.COMPLETE


def _matches(recording: MemoryRecording, query: CatalogueQuery) -> bool:
    started_ms, name = _place(recording)
    texts, key = name_texts(query.name), title_key(query.name)
    return (
        _state(recording) in query.states
        and (not query.room or room_key(recording.info.room) == room_key(query.room))
        and (
            not texts
            or any(text in name.lower() for text in texts)
            or (bool(key) and key in title_key(recording.info.title))
        )
        and (query.since is None or started_ms >= milliseconds(query.since))
        and (query.until is None or started_ms < milliseconds(query.until))
    )


def _entry(recording: MemoryRecording, *, length: int | None = None) -> CatalogueEntry:
    completed = recording.completed
    parts = recording.parts if completed is None else completed.parts
    if length is not None:  # of the samples that were opened
        parts = (*parts[:-1], replace(parts[-1], length=length - parts[-1].start))
    return CatalogueEntry(
        info=recording.info,
        state=_state(recording),
        parts=parts,
        size=recording.held_bytes,
        end_reason=None if completed is None else completed.end_reason,
        ended_at=None if completed is None else completed.ended_at,
    )
