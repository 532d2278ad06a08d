"""Carries out what a recording decides: writes it to the store, and publishes events."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from domain.errors import StorageFailed
from domain.events.server import (
    ClockFoundWrong,
    PartCompleted,
    TrackFormatChanged,
    TrackStarted,
)
from domain.ports.clock import Clock
from domain.ports.events import EventPublisher
from domain.ports.storage import InterruptedRecording, RecordingStore, RecordingWriter
from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.effects import (
    Appended,
    ChannelsChanged,
    Effect,
    EndReason,
    Finished,
    GapFilled,
    Noted,
    Opened,
    Placed,
    SpoolChanged,
)
from domain.recording.ledger import (
    Container,
    LedgerEvent,
    RecordingInfo,
    SampleKind,
    timestamp,
)
from domain.services.server.spool_tracker import SpoolTracker
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_meter import TrackMeter
from domain.sound.formats import AudioFormat
from domain.sound.pieces import EncodedSound, Sound

SPAN_BYTES = 60
"""Bytes of a span in a ledger."""


class TrackWriter:
    """Writes one track's recording, whose times are monotonic seconds."""

    def __init__(
        self,
        identity: TrackIdentity,
        *,
        store: RecordingStore,
        clock: Clock,
        events: EventPublisher,
        spool: SpoolTracker | None,
    ) -> None:
        """`spool` is told what is recorded, if the client keeps what it captures."""
        self._identity = identity
        self._store = store
        self._events = events
        self._spool = spool
        self._writer: RecordingWriter | None = None
        # read each clock once, so that dates advance as steadily as monotonic time
        self._utc_origin = clock.utc()
        self._origin = clock.monotonic()
        self._kind: SampleKind | None = None  # of what was written last
        self._spans = 0
        self._keeps_packets = False
        self._payload_bytes = 0  # of packets that are stored undecoded
        self.meter = TrackMeter()
        self.info: RecordingInfo | None = None
        """The facts about the recording, with the format of its latest part."""
        self.format: AudioFormat | None = None
        """The format of the recording's latest part; None until the recording begins."""

    @property
    def failure(self) -> StorageFailed | None:
        """The error that keeps the recording from being written, if any."""
        return self._writer.failure if self._writer else None

    @property
    def is_open(self) -> bool:
        """Whether there is a recording that can be completed."""
        return self._writer is not None

    def resume(self, interrupted: InterruptedRecording) -> None:
        """Continue a recording whose process was killed."""
        self._use(interrupted.writer, interrupted.info)
        self.info = interrupted.info
        self._begin_meter(interrupted.info.format, position=interrupted.length)
        if self._spool is not None:
            self._spool.resume(interrupted.placed, interrupted.length)

    def begun(self, audio_format: AudioFormat) -> None:
        """Note that sound of this format follows, and tell it."""
        self.format = audio_format
        identity = self._identity
        self._events.publish(
            TrackStarted(identity.session_id, identity.track, audio_format, identity.room)
        )

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Do what a recording has decided."""
        spool, meter = self._spool, self.meter
        for effect in effects:
            match effect:
                case Appended(pieces, kind):
                    assert self._writer is not None
                    self._writer.append(pieces, kind)
                    if kind is not self._kind:
                        self._begin_span(kind)
                    if self._keeps_packets:
                        self._payload_bytes += _payload_bytes(pieces)
                    length = meter.add(pieces)
                    if spool is not None:
                        spool.recorded(length, kind)
                case Opened(audio_format):
                    assert self.info is not None
                    self.info = replace(self.info, format=audio_format)
                    self._use(self._store.create(self.info), self.info)
                    self._begin_meter(audio_format, position=0)
                    self.begun(audio_format)
                case ChannelsChanged(channels):
                    self._change_channels(channels)
                case GapFilled(length, kind):
                    assert self._writer is not None
                    self._writer.append_silence(length, kind)
                    if kind is not self._kind:
                        self._begin_span(kind)
                    meter.add_silence(length)
                    if spool is not None:
                        spool.recorded(length, kind)
                case Placed():
                    if spool is not None and (event := spool.placed(effect)) is not None:
                        self._note(event, effect.arrived)
                case SpoolChanged(info):
                    if spool is not None:
                        spool.connect(info)
                case Noted(event, arrived):
                    self._note(event, arrived)
                    if event.type == "clock skew":
                        self._tell_wrong_clock(event.details["skew_ppm"])
                    elif event.type == "stall":
                        meter.stalls += 1
                case Finished():
                    pass  # `finish` waits for the writer

    async def finish(self, reason: EndReason, *, now: float) -> CompletedRecording:
        """Complete the recording. Raises `StorageFailed`."""
        assert self._writer is not None
        return await self._writer.finish(reason, self.utc(now))

    def utc(self, monotonic: float) -> datetime.datetime:
        """Return the date of a time in monotonic seconds."""
        return self._utc_origin + datetime.timedelta(seconds=monotonic - self._origin)

    def monotonic(self, utc: datetime.datetime) -> float:
        """Return a date in monotonic seconds."""
        return self._origin + (utc - self._utc_origin).total_seconds()

    def written(self, length: int) -> int:
        """Return the bytes of a recording of `length` samples with its ledger, approximately."""
        if self.format is None:
            return 0
        sound = self._payload_bytes if self._keeps_packets else length * self.format.bytes_per_frame
        return sound + self._spans * SPAN_BYTES

    def _begin_span(self, kind: SampleKind) -> None:
        self._kind = kind
        self._spans += 1
        self.meter.change_kind(kind)

    def _begin_meter(self, audio_format: AudioFormat, *, position: int) -> None:
        is_decoded = not self._keeps_packets
        self.meter.begin(audio_format, position=position, is_decoded=is_decoded)

    def _use(self, writer: RecordingWriter, info: RecordingInfo) -> None:
        self._writer = writer
        self._keeps_packets = info.container is Container.OGG
        # not a method: the writer, which this refers to, would refer to this
        writer.part_completed = partial(_publish_part, self._events, self._identity)

    def _note(self, event: LedgerEvent, arrived: float) -> None:
        assert self._writer is not None
        details = {**event.details, "at": timestamp(self.utc(arrived))}
        self._writer.note(LedgerEvent(event.type, event.position, details))

    def _change_channels(self, channels: int) -> None:
        assert self.info is not None and self._writer is not None
        self.format = replace(self.info.format, channels=channels)
        self.info = replace(self.info, format=self.format)
        self._writer.change_format(self.format)
        self.meter.change_channels(0 if self._keeps_packets else channels)
        identity = self._identity
        self._events.publish(TrackFormatChanged(identity.session_id, identity.track, self.format))

    def _tell_wrong_clock(self, skew_ppm: float) -> None:
        identity = self._identity
        self._events.publish(ClockFoundWrong(identity.session_id, identity.track, skew_ppm))


def _publish_part(
    events: EventPublisher, identity: TrackIdentity, part: CompletedPart, is_last: bool
) -> None:
    events.publish(PartCompleted(identity.session_id, identity.track, part, is_last=is_last))


def _payload_bytes(pieces: Sequence[Sound]) -> int:
    return sum(len(piece.payload) for piece in pieces if isinstance(piece, EncodedSound))
