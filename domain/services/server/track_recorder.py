"""Records one track: decodes ordered packets, places the samples, and stores them."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.errors import PayloadInvalid, StorageFailed
from domain.events import PartCompleted, TrackStarted
from domain.ports.clock import Clock
from domain.ports.codec import DecoderFactory
from domain.ports.events import EventPublisher
from domain.ports.storage import InterruptedRecording, RecordingStore, RecordingWriter
from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.ledger import Container, LedgerEvent, RecordingInfo, timestamp
from domain.recording.naming import recording_id, recording_name
from domain.recording.passthrough import PassthroughDecoder
from domain.recording.reconstruction import Reconstructor, Run
from domain.recording.recording import (
    Appended,
    Effect,
    EndReason,
    Finished,
    GapFilled,
    Noted,
    Opened,
    Progress,
    Recording,
)
from domain.rtp.order import Lost, Restarted, Slot
from domain.rtp.packets import RtpPacket
from domain.services.server.track_receiver import ConnectionChanged, SourceChanged, TrackItem
from domain.sound.detection import CodecParameters, detect_format
from domain.sound.formats import AudioFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackIdentity:
    """Identifies the track, its session and its client."""

    session_id: str
    track: int = 1
    """Its number in the session, from 1."""
    client_name: str = ""
    resume_digest: str = ""
    """SHA-256 (hex) of the secret with which the client can resume the session."""


class TrackRecorder:
    """Decodes, reconstructs, places on the timeline, and stores.

    Decoding and storing are two steps, so that many tracks can do each step together. The same code
    then runs for one track after another with warm caches, twice as fast.

    The format is detected from the first packet. Packets that cannot be decoded are counted in
    `rejected`, and their time is accounted for like that of lost packets. With `keep_packets`, Opus
    packets are stored undecoded.
    """

    def __init__(
        self,
        identity: TrackIdentity,
        *,
        decoders: DecoderFactory,
        store: RecordingStore,
        clock: Clock,
        events: EventPublisher,
        max_gap_s: float,
        keep_packets: bool,
    ) -> None:
        self._identity = identity
        self._decoders = decoders
        self._store = store
        self._events = events
        self._max_gap_s = max_gap_s
        self._keep_packets = keep_packets
        self._codecs: Mapping[int, CodecParameters] = {}
        self.codec: CodecParameters | None = None
        """The codec of the recording; None until the first packet decides it."""
        self.format: AudioFormat | None = None
        """The format of the recording; None until then."""
        self.rejected: Counter[str] = Counter()
        self._ssrc: int | None = None
        self._connection = 0  # the number of the connection that serves
        self._interrupted: InterruptedRecording | None = None
        self._reconstructor: Reconstructor | None = None
        self._runs: list[Run] = []  # decoded, not yet stored
        self._recording = Recording(max_gap_s=max_gap_s)
        self._info: RecordingInfo | None = None
        self._writer: RecordingWriter | None = None
        # read each clock once, so that dates advance as steadily as monotonic time
        self._utc_origin = clock.utc()
        self._origin = clock.monotonic()

    @property
    def failure(self) -> StorageFailed | None:
        """The error that keeps the recording from being written, if any."""
        return self._writer.failure if self._writer else None

    @property
    def codec_name(self) -> str | None:
        """The name of the recording's codec; None until the first packet decides it."""
        if self._interrupted is not None:
            return self._interrupted.info.codec
        return None if self.codec is None else self.codec.name

    def find_codec(self, codecs: Mapping[int, CodecParameters]) -> CodecParameters | None:
        """Return the recording's codec among those of a connection."""
        return next((item for item in codecs.values() if item.name == self.codec_name), None)

    def resume(self, interrupted: InterruptedRecording) -> None:
        """Continue a recording whose process was killed, as soon as packets come."""
        self._interrupted = interrupted
        self._writer = interrupted.writer
        self._writer.part_completed = self._part_completed
        self._connection = interrupted.connections

    def decode(self, items: Sequence[TrackItem]) -> None:
        """Decode items to runs of sound (the first step)."""
        ready: list[Slot] = []
        codec = self.codec
        for item in items:
            if isinstance(item, RtpPacket):
                if self._reconstructor is None:
                    try:
                        codec = self._begin(item)
                    except PayloadInvalid:
                        self.rejected["payload"] += 1
                        continue
                if codec is None or item.payload_type != codec.payload_type:
                    # the packet was received before the first packet decided the codec
                    self.rejected["payload type"] += 1
                    item = Lost(1)
            elif not isinstance(item, Lost):
                self._reconstruct(ready)
                ready = []
                self.store()
                self._break_off(item)
                codec = self.codec
                if not isinstance(item, Restarted):
                    continue
            if self._reconstructor is not None:  # nothing was lost before the first packet
                ready.append(item)
        self._reconstruct(ready)

    def store(self) -> None:
        """Place runs on the timeline and pass them to the store (the second step)."""
        runs, self._runs = self._runs, []
        for run in runs:
            self._apply(self._recording.add(run))

    async def end(
        self, reason: EndReason, *, now: float, left_out: Counter[str], rejected: Counter[str]
    ) -> CompletedRecording | None:
        """Complete the recording; return None if there was no sound.

        `left_out` and `rejected` count the packets that the receiver did not pass on, by reason,
        for the ledger. Raises `StorageFailed` when the recording could not be completed.
        """
        if self._interrupted is not None:  # the client has not reconnected
            return await self._end_interrupted(self._interrupted, reason)
        self._note_counts(left_out, rejected, now)
        effects = self._recording.end(reason, now=now)
        self._apply(effects)
        # the store may have failed to create the recording: then there is nothing to complete
        if not effects or self._writer is None:
            return None
        return await self._finish(self._writer, reason, self._utc(now))

    async def _end_interrupted(
        self, interrupted: InterruptedRecording, reason: EndReason
    ) -> CompletedRecording:
        if reason is EndReason.SHUTDOWN:
            reason = EndReason.RECOVERED  # it ended earlier, with another process
        return await self._finish(interrupted.writer, reason, interrupted.ended_at)

    async def _finish(
        self, writer: RecordingWriter, reason: EndReason, ended_at: datetime.datetime
    ) -> CompletedRecording:
        return await writer.finish(reason, ended_at)

    def _part_completed(self, part: CompletedPart, is_last: bool) -> None:
        identity = self._identity
        self._events.publish(
            PartCompleted(identity.session_id, identity.track, part, is_last=is_last)
        )

    def _break_off(self, item: Restarted | SourceChanged | ConnectionChanged) -> None:
        """Break off the stream: what follows does not continue the sound before it."""
        match item:
            case Restarted():
                self._recording.restart("sequence")
            case SourceChanged(ssrc):
                self._restart_reconstruction()
                self._ssrc = ssrc
                self._recording.change_source(ssrc)
            case ConnectionChanged(codecs, number, at):
                self._restart_reconstruction()
                self._codecs = codecs
                if self.codec is not None:
                    self.codec = self.find_codec(codecs)
                self._connection = number
                if number > 1:
                    self._apply(self._recording.note("reconnected", now=at, attempt=number))

    def _restart_reconstruction(self) -> None:
        if self._reconstructor is not None:
            self._reconstructor.restart()

    def _reconstruct(self, slots: Sequence[Slot]) -> None:
        if slots:
            assert self._reconstructor is not None
            self._runs += self._reconstructor.process(slots)

    def _begin(self, packet: RtpPacket) -> CodecParameters:
        """Let the first packet decide codec and format. Raises `PayloadInvalid` if it cannot."""
        codec = self._codecs[packet.payload_type]
        if not packet.payload:
            raise PayloadInvalid("an empty packet")
        interrupted = self._interrupted
        if interrupted is not None and codec.name != interrupted.info.codec:
            raise PayloadInvalid("of another codec than the recording")
        info = self._new_info(codec, packet) if interrupted is None else interrupted.info
        self._info, self.codec, self.format = info, codec, info.format
        keeps_packets = info.container is Container.OGG
        self._reconstructor = Reconstructor(
            PassthroughDecoder() if keeps_packets else self._decoders(codec, info.format),
            clock_rate_hz=codec.clock_rate_hz,
            sample_rate_hz=info.format.sample_rate_hz,
            max_gap_s=self._max_gap_s,
        )
        if interrupted is None:
            self._apply(self._recording.open(info.format, clock_rate_hz=codec.clock_rate_hz))
        else:
            self._continue(interrupted, codec, packet.arrived)
        identity = self._identity
        self._events.publish(TrackStarted(identity.session_id, identity.track, info.format))
        return codec

    def _continue(
        self, interrupted: InterruptedRecording, codec: CodecParameters, now: float
    ) -> None:
        assert self._ssrc is not None
        assert self._reconstructor is not None
        self._interrupted = None
        self._reconstructor.restart()  # the time before the first packet is not DTX
        self._recording.resume(
            interrupted.info.format,
            clock_rate_hz=codec.clock_rate_hz,
            progress=Progress(
                interrupted.length, self._monotonic(interrupted.ended_at), interrupted.anchor
            ),
            ssrc=self._ssrc,
        )
        self._apply(self._recording.note("process restarted", now=now))
        self._apply(self._recording.note("reconnected", now=now, attempt=self._connection))

    def _new_info(self, codec: CodecParameters, packet: RtpPacket) -> RecordingInfo:
        identity, started_at = self._identity, self._utc(packet.arrived)
        name = recording_name(
            started_at=started_at,
            client_name=identity.client_name,
            session_id=identity.session_id,
            track=identity.track,
        )
        keeps_packets = self._keep_packets and codec.name == "opus"
        return RecordingInfo(
            id=recording_id(identity.session_id, identity.track),
            name=name,
            format=detect_format(codec, packet.payload),
            codec=codec.name,
            started_at=started_at,
            resume_digest=identity.resume_digest,
            container=Container.OGG if keeps_packets else Container.WAV,
            session_id=identity.session_id,
            track=identity.track,
        )

    def _apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Appended(pieces, kind):
                    assert self._writer is not None
                    self._writer.append(pieces, kind)
                case Opened():
                    assert self._info is not None
                    self._writer = self._store.create(self._info)
                    self._writer.part_completed = self._part_completed
                case GapFilled(length, kind):
                    assert self._writer is not None
                    self._writer.append_silence(length, kind)
                case Noted(event, arrived):
                    assert self._writer is not None
                    details = {**event.details, "at": timestamp(self._utc(arrived))}
                    self._writer.note(LedgerEvent(event.type, event.position, details))
                case Finished():
                    pass  # `end` waits for the writer

    def _note_counts(self, left_out: Counter[str], rejected: Counter[str], now: float) -> None:
        """Tell the ledger how many packets were left out, if any were."""
        rejected = rejected + self.rejected
        if self._reconstructor is not None:
            rejected = rejected + self._reconstructor.rejected
        counts = left_out + Counter(
            {f"rejected_{reason.replace(' ', '_')}": n for reason, n in rejected.items()}
        )
        if counts and self._writer is not None:
            event = LedgerEvent("packets left out", self._recording.length, dict(counts))
            self._apply([Noted(event, now)])

    def _monotonic(self, utc: datetime.datetime) -> float:
        return self._origin + (utc - self._utc_origin).total_seconds()

    def _utc(self, monotonic: float) -> datetime.datetime:
        return self._utc_origin + datetime.timedelta(seconds=monotonic - self._origin)
