"""From one session's packets to one recording."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence

from domain.errors import PayloadInvalid, StorageFailed
from domain.ports.clock import Clock
from domain.ports.codec import DecoderFactory
from domain.ports.storage import InterruptedRecording, RecordingStore, RecordingWriter
from domain.recording.completed import CompletedPart, CompletedRecording
from domain.recording.ledger import Container, LedgerEvent, RecordingInfo, timestamp
from domain.recording.naming import recording_name
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
    State,
)
from domain.rtp.order import Lost, ReorderBuffer, Restarted, Slot
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import split_red
from domain.rtp.reports import ReceptionReport, ReceptionStatistics
from domain.rtp.sources import SourceGate
from domain.sound.detection import CodecParameters, detect_format
from domain.sound.formats import AudioFormat


class AudioTrackProcessor:
    """Processes each received packet: order, reconstruct, place on the timeline, store.

    In two steps, so that many streams can take each of them together: what is done for one
    after the other by the same code is done with warm caches, twice as fast.

    With `keep_packets` Opus is not decoded, but stored as it came.

    The format is detected with the first packet. Packets that cannot be used (a payload type
    that was not negotiated or is not that of the stream, an empty or broken payload) are counted
    in `rejected` and cost nothing but themselves: their time is accounted for like that of
    packets that never came.
    """

    def __init__(
        self,
        *,
        session_id: str,
        client_name: str,
        resume_digest: str,
        decoders: DecoderFactory,
        store: RecordingStore,
        clock: Clock,
        reorder_hold_s: float,
        max_gap_s: float,
        keep_packets: bool = False,
    ) -> None:
        self._session_id = session_id
        self._client_name = client_name
        self._resume_digest = resume_digest
        self._codecs: Mapping[int, CodecParameters] = {}
        self._decoders = decoders
        self._store = store
        self._reorder_hold_s = reorder_hold_s
        self._max_gap_s = max_gap_s
        self._keep_packets = keep_packets
        self._container = Container.WAV
        self._recording = Recording(max_gap_s=max_gap_s)
        self._reorder = ReorderBuffer(hold_s=reorder_hold_s)
        self._slots: list[Slot] = []  # in order, not yet decoded
        self._runs: list[Run] = []  # decoded, not yet stored
        self._codec: CodecParameters | None = None
        self._ssrc: int | None = None
        self.attempt = 0
        """Connections that have served the recording so far."""
        self._interrupted: InterruptedRecording | None = None
        self._reconstructor: Reconstructor | None = None
        self._writer: RecordingWriter | None = None
        self._recording_info: RecordingInfo | None = None
        self._statistics: ReceptionStatistics | None = None
        self._left_out: Counter[str] = Counter()
        self._gate = SourceGate()
        # dates are told by one look at each clock, so that they move on as steadily as time does
        self._utc_origin = clock.utc()
        self._origin = clock.monotonic()
        self._started_at = self._utc_origin
        self.format: AudioFormat | None = None
        self.rejected: Counter[str] = Counter()

    @property
    def failure(self) -> StorageFailed | None:
        """What keeps the recording from being written, once there is something."""
        return self._writer.failure if self._writer else None

    def take_up(self, interrupted: InterruptedRecording) -> None:
        """Go on with a recording that an earlier process was killed over, once packets come."""
        self._interrupted = interrupted
        self._recording_info = interrupted.info
        self._writer = interrupted.writer
        self._started_at = interrupted.info.started_at
        self.attempt = interrupted.attempts

    def can_record(self, codecs: Mapping[int, CodecParameters]) -> bool:
        """Whether a connection with these codecs can serve what is recorded already."""
        return self._kept_name is None or self._find_kept(codecs) is not None

    def connect(self, codecs: Mapping[int, CodecParameters], *, now: float) -> None:
        """A connection begins to serve: its first packet is next, and is admitted at once."""
        if self._codecs:
            self._begin_order_anew()  # while payload types and numbers still have their meaning
        if self._codec is not None:
            self._codec = self._find_kept(codecs)
        self._codecs = codecs
        self._gate.reopen()
        self.attempt += 1
        if self.attempt > 1:
            self._apply(self._recording.note("reconnected", now=now, attempt=self.attempt))

    def packets_received(self, packets: Sequence[RtpPacket]) -> None:
        """Take packets in the order in which they arrived, and put them in order.

        What is due by that waits for `settle`, or for `decode` and `store` one after the other.
        """
        if self._recording.state is State.FINISHED:
            return
        gate, codecs = self._gate, self._codecs
        passed: list[RtpPacket] = []
        for packet in packets:
            codec = codecs.get(packet.payload_type)
            if codec is None or codec is not self._codec:
                if codec is not None and codec.name == "red":
                    try:
                        packet = split_red(packet)
                    except PayloadInvalid:
                        self.rejected["redundancy"] += 1
                        continue
                    codec = codecs.get(packet.payload_type)
                if not self._is_wanted(codec):
                    self.rejected["payload type"] += 1
                    continue
            if packet.ssrc == gate.current and self._reorder.passes(packet):
                passed.append(packet)
                continue
            if passed:
                self._pass_on(passed)
                passed = []
            for admitted in gate.admit(packet):
                if self._ssrc != admitted.ssrc:
                    self._change_source(admitted.ssrc, codecs[packet.payload_type])
                self._order(admitted)
        if passed:
            self._pass_on(passed)

    def poll(self, *, now: float) -> bool:
        """Let packets go that have waited long enough for the ones before them; are there any?"""
        due = self._reorder.poll(now=now)
        self._slots += due
        return bool(due)

    def settle(self) -> None:
        """Bring what is due to the store."""
        self.decode()
        self.store()

    def reception_report(self) -> ReceptionReport | None:
        """What to tell the sender; None before the first packet."""
        return self._statistics.report() if self._statistics else None

    async def end(self, reason: EndReason, *, now: float) -> CompletedRecording | None:
        """Write what still waits and complete the recording; None when there was no sound.

        Raises `StorageFailed` when the recording could not be completed.
        """
        self._slots += self._reorder.flush()
        self.settle()
        if self._interrupted is not None:  # nobody came back to it
            found = self._interrupted
            if reason is EndReason.SHUTDOWN:
                reason = EndReason.RECOVERED  # it was another process that it ended with
            location = await found.writer.finish(reason, found.ended_at)
            return _completed(found.info, location, found.length, reason, found.ended_at)
        self._note_counts(now)
        effects = self._recording.end(reason, now=now)
        self._apply(effects)
        # after a fault in making it there is a recording, but nothing that could be finished
        if not effects or self._writer is None or self.format is None:
            return None
        ended_at = self._utc(now)
        location = await self._writer.finish(reason, ended_at)
        assert self._recording_info is not None
        return _completed(self._recording_info, location, self._recording.length, reason, ended_at)

    def _is_wanted(self, codec: CodecParameters | None) -> bool:
        """Whether it can be the stream's, as far as that is known."""
        return codec is not None and codec.name != "red" and self._codec in (None, codec)

    def _begin_order_anew(self) -> None:
        """What follows is no neighbour of what was: sequence numbers say nothing of the time."""
        self._slots += self._reorder.flush()
        self.settle()
        self._count_left_out()
        self._reorder = ReorderBuffer(hold_s=self._reorder_hold_s)
        if self._reconstructor is not None:
            self._reconstructor.restart()
        if self._statistics is not None:
            self._statistics = self._statistics.begin_anew()

    def _change_source(self, ssrc: int, codec: CodecParameters) -> None:
        """A new SSRC has a sequence and a clock of its own (RFC 3550 § 3)."""
        self._begin_order_anew()
        self._recording.change_source(ssrc)
        self._ssrc = ssrc
        self._statistics = ReceptionStatistics(ssrc, clock_rate_hz=codec.clock_rate_hz)

    def _pass_on(self, packets: Sequence[RtpPacket]) -> None:
        """Packets of the source that is recorded, next in order, as nearly all are."""
        assert self._statistics is not None
        self._gate.active_at = packets[-1].arrived
        self._statistics.received(packets)
        self._slots += packets

    def _order(self, packet: RtpPacket) -> None:
        assert self._statistics is not None
        slots = self._reorder.push(packet)
        if any(isinstance(slot, Restarted) for slot in slots):
            # another sequence begins: its statistics do, too (RFC 3550 § A.1)
            self._statistics = self._statistics.begin_anew()
        if self._reorder.suspect is not packet:
            self._statistics.received([packet])
        self._slots += slots

    def decode(self) -> None:
        """The first half of settling: what is due becomes sound."""
        slots, self._slots = self._slots, []
        ready: list[Slot] = []
        codec = self._codec
        for slot in slots:
            if isinstance(slot, RtpPacket):
                if codec is None or self._reconstructor is None:
                    try:
                        codec = self._begin(slot)
                    except PayloadInvalid:
                        self.rejected["payload"] += 1
                        continue
                if slot.payload_type != codec.payload_type:
                    # it came before it was known which codec this is
                    self.rejected["payload type"] += 1
                    slot = Lost(1)
            elif isinstance(slot, Restarted):
                self._rebuild(ready)
                ready = []
                self.store()
                self._recording.restart("sequence")
            if self._reconstructor is not None:  # nothing was lost before the first packet
                ready.append(slot)
        self._rebuild(ready)

    def store(self) -> None:
        """The second half: sound gets its place, and goes to the store."""
        runs, self._runs = self._runs, []
        for run in runs:
            self._apply(self._recording.add(run))

    def _rebuild(self, slots: Sequence[Slot]) -> None:
        if slots:
            assert self._reconstructor is not None
            self._runs += self._reconstructor.process(slots)

    def _begin(self, packet: RtpPacket) -> CodecParameters:
        codec = self._codecs[packet.payload_type]
        if not packet.payload:
            raise PayloadInvalid("an empty packet")
        interrupted = self._interrupted
        if interrupted is not None:
            if codec.name != interrupted.info.codec:
                raise PayloadInvalid("of another codec than the recording")
            self._interrupted = None
            audio_format = interrupted.info.format
            self._container = interrupted.info.container
        else:
            audio_format = detect_format(codec, packet.payload)
            self._started_at = self._utc(packet.arrived)
            if self._keep_packets and codec.name == "opus":
                self._container = Container.OGG
        self._codec = codec
        keeps = self._container is Container.OGG
        self._reconstructor = Reconstructor(
            PassthroughDecoder() if keeps else self._decoders(codec, audio_format),
            clock_rate_hz=codec.clock_rate_hz,
            sample_rate_hz=audio_format.sample_rate_hz,
            max_gap_s=self._max_gap_s,
        )
        self.format = audio_format
        rate = codec.clock_rate_hz
        if interrupted is None:
            self._apply(self._recording.open(audio_format, clock_rate_hz=rate))
            return codec
        assert self._ssrc is not None
        self._reconstructor.restart()  # what is missing before the first packet is no DTX
        progress = Progress(
            interrupted.length, self._monotonic(interrupted.ended_at), interrupted.anchor
        )
        self._recording.go_on(audio_format, clock_rate_hz=rate, progress=progress, ssrc=self._ssrc)
        self._apply(self._recording.note("process restarted", now=packet.arrived))
        self._apply(self._recording.note("reconnected", now=packet.arrived, attempt=self.attempt))
        return codec

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Appended(pieces, kind):
                    assert self._writer is not None
                    self._writer.append(pieces, kind)
                case Opened(audio_format):
                    self._recording_info = self._info(audio_format)
                    self._writer = self._store.create(self._recording_info)
                case GapFilled(length, kind):
                    assert self._writer is not None
                    self._writer.append_silence(length, kind)
                case Noted(event, arrived):
                    assert self._writer is not None
                    details = {**event.details, "at": timestamp(self._utc(arrived))}
                    self._writer.note(LedgerEvent(event.type, event.position, details))
                case Finished():
                    pass  # the writer finishes in its own time; `end` waits for it

    def _note_counts(self, now: float) -> None:
        """What was left out of the recording, where anything was."""
        self._count_left_out()
        rejected = self.rejected + self._gate.rejected
        if self._reconstructor is not None:
            rejected += self._reconstructor.rejected
        counts = +self._left_out + Counter(
            {f"rejected_{reason.replace(' ', '_')}": n for reason, n in rejected.items()}
        )
        if counts and self._writer is not None:
            event = LedgerEvent("packets left out", self._recording.length, dict(counts))
            self._apply([Noted(event, now)])

    def _count_left_out(self) -> None:
        """Before a source's buffer is given up: what it dropped."""
        self._left_out["late"] += self._reorder.late
        self._left_out["duplicates"] += self._reorder.duplicates
        self._left_out["strays"] += self._reorder.strays

    @property
    def _kept_name(self) -> str | None:
        """The codec that the recording is made from, once there is one."""
        if self._interrupted is not None:
            return self._interrupted.info.codec
        return None if self._codec is None else self._codec.name

    def _find_kept(self, codecs: Mapping[int, CodecParameters]) -> CodecParameters | None:
        return next((item for item in codecs.values() if item.name == self._kept_name), None)

    def _monotonic(self, utc: datetime.datetime) -> float:
        return self._origin + (utc - self._utc_origin).total_seconds()

    def _utc(self, monotonic: float) -> datetime.datetime:
        return self._utc_origin + datetime.timedelta(seconds=monotonic - self._origin)

    def _info(self, audio_format: AudioFormat) -> RecordingInfo:
        assert self._codec is not None
        name = recording_name(
            started_at=self._started_at,
            client_name=self._client_name,
            session_id=self._session_id,
        )
        return RecordingInfo(
            self._session_id,
            name,
            audio_format,
            self._codec.name,
            self._started_at,
            self._resume_digest,
            self._container,
        )


def _completed(
    info: RecordingInfo,
    location: str,
    length: int,
    reason: EndReason,
    ended_at: datetime.datetime,
) -> CompletedRecording:
    part = CompletedPart(1, location, 0, length)
    return CompletedRecording(info, (part,), length, reason.value, ended_at)
