"""A store whose recordings can be listened to while they are written."""

from __future__ import annotations

import datetime
import weakref
from collections.abc import Sequence
from dataclasses import replace

from domain.errors import StorageFailed
from domain.events.server import ServerEvent
from domain.ports.storage import PartCompletedCall, RecordingStore, RecordingWriter, Recovery
from domain.recording.completed import CompletedRecording
from domain.recording.effects import EndReason
from domain.recording.ledger import LedgerEvent, RecordingInfo, SampleKind
from domain.services.server.tapping import SoundRing, Taps
from domain.sound.formats import AudioFormat
from domain.sound.pieces import Sound


class TappedStore:
    """A `RecordingStore` that shows what passes to another one to the listeners, too."""

    def __init__(self, store: RecordingStore, taps: Taps) -> None:
        self._store = store
        self._taps = taps

    def check(self) -> None:
        self._store.check()

    def recover(self, *, resumable_since: datetime.datetime) -> Recovery:
        found = self._store.recover(resumable_since=resumable_since)
        interrupted = [
            replace(item, writer=self._tapped(item.writer, item.info, item.length))
            for item in found.interrupted
        ]
        return replace(found, interrupted=interrupted)

    def check_room(self) -> None:
        self._store.check_room()

    def poll_events(self) -> Sequence[ServerEvent]:
        return self._store.poll_events()

    def create(self, info: RecordingInfo) -> RecordingWriter:
        return self._tapped(self._store.create(info), info, 0)

    def close(self) -> None:
        self._store.close()

    def _tapped(self, writer: RecordingWriter, info: RecordingInfo, length: int) -> TappedWriter:
        ring = self._taps.begin(info, position=length)
        tapped = TappedWriter(writer, ring, self._taps)
        # a session that failed may not finish its recording: its listeners must learn of it
        weakref.finalize(tapped, self._taps.end, ring, EndReason.FAILED).atexit = False
        return tapped


class TappedWriter:
    """A `RecordingWriter` of a `TappedStore`."""

    def __init__(self, writer: RecordingWriter, ring: SoundRing, taps: Taps) -> None:
        self._writer = writer
        self._ring = ring
        self._taps = taps
        self._append = writer.append  # it is called for each packet

    @property
    def part_completed(self) -> PartCompletedCall:
        return self._writer.part_completed

    @part_completed.setter
    def part_completed(self, call: PartCompletedCall) -> None:
        self._writer.part_completed = call

    @property
    def failure(self) -> StorageFailed | None:
        return self._writer.failure

    def append(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        self._append(pieces, kind)
        ring = self._ring
        ring.position += len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
        if ring.is_kept:
            ring.add(pieces, kind)

    def append_silence(self, length: int, kind: SampleKind) -> None:
        self._writer.append_silence(length, kind)
        self._ring.position += length
        if self._ring.is_kept:
            self._ring.add(None, kind)

    def change_format(self, audio_format: AudioFormat) -> None:
        self._writer.change_format(audio_format)
        self._ring.change_format(audio_format)

    def note(self, event: LedgerEvent) -> None:
        self._writer.note(event)

    async def finish(self, reason: EndReason, ended_at: datetime.datetime) -> CompletedRecording:
        try:
            return await self._writer.finish(reason, ended_at)
        except StorageFailed:
            reason = EndReason.STORAGE_FAILED
            raise
        finally:
            self._taps.end(self._ring, reason)
