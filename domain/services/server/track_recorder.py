"""Records one track: decodes ordered packets, places the samples, and stores them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from domain.errors import PayloadInvalid, StorageFailed
from domain.ports.clock import Clock
from domain.ports.codec import DecoderFactory
from domain.ports.events import EventPublisher
from domain.ports.storage import InterruptedRecording, RecordingStore
from domain.recording.anchors import Progress
from domain.recording.channels import ChannelJudge, is_judged_by_sound
from domain.recording.completed import CompletedRecording
from domain.recording.effects import Effect, EndReason, Noted, SpoolChanged
from domain.recording.ledger import Container, LedgerEvent, RestoreMode
from domain.recording.reconstruction import Run
from domain.recording.recording import Recording
from domain.recording.restoring import SpoolInfo
from domain.rtp.order import Lost, Restarted, Slot
from domain.rtp.packets import RtpPacket
from domain.rtp.reports import SenderReport
from domain.services.server.spool_tracker import SpoolTracker
from domain.services.server.track_decoder import TrackDecoder
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_receiver import (
    ConnectionChanged,
    PacketWaits,
    SourceChanged,
    TrackItem,
)
from domain.services.server.track_writer import TrackWriter
from domain.sound import opus
from domain.sound.detection import CodecParameters, claimed_s
from domain.sound.formats import AudioFormat

_MOST_S = 0.5
"""More sound than one packet can lead to, with what is concealed and rebuilt before it."""


@dataclass(slots=True)
class _LeftOut:
    """Packets that came too fast and are not decoded."""

    length_s: float
    """The sound that they claim to hold."""
    arrived: float


class TrackRecorder:
    """Decodes, reconstructs, places on the timeline, and stores.

    Decoding and storing are two steps, so that many tracks can do each step together. The same code
    then runs for one track after another with warm caches, twice as fast.

    The format is detected from the first packet. If a mono recording receives a packet with two
    channels, a new part with two channels begins. Where only the sound can tell how many channels
    there are, a `ChannelJudge` decides. Packets that cannot be decoded are counted in `rejected`,
    and their time is accounted for like that of lost packets. With `keep_packets`, Opus packets are
    stored undecoded.
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
        max_fill_s: float,
        max_burst_s: float,
        keep_packets: bool,
        spool: SpoolTracker | None = None,
    ) -> None:
        """`spool` is told what is recorded, if the client keeps what it captures."""
        self._identity = identity
        self._decoders = decoders
        self._max_gap_s = max_gap_s
        self._keep_packets = keep_packets
        self._codecs: Mapping[int, CodecParameters] = {}
        self.codec: CodecParameters | None = None
        """The codec of the recording; None until the first packet decides it."""
        self.rejected: Counter[str] = Counter()
        self._ssrc: int | None = None
        self._connection = 0  # the number of the connection that serves
        self._is_new_connection = False  # and no source of it has been received yet
        self._interrupted: InterruptedRecording | None = None
        self._decoder: TrackDecoder | None = None
        self._judge: ChannelJudge | None = None
        self._runs: list[Run] = []  # decoded, not yet stored
        self._recording = Recording(
            max_gap_s=max_gap_s, max_fill_s=max_fill_s, max_burst_s=max_burst_s
        )
        self._spool = spool
        self._spool_info: SpoolInfo | None = None  # of the connection that serves
        self._writer = TrackWriter(identity, store=store, clock=clock, events=events, spool=spool)

    @property
    def writer(self) -> TrackWriter:
        """Writes the recording, and meters it."""
        return self._writer

    @property
    def clock_ppm(self) -> float | None:
        """By how much the sender's clock is fast; None if that is not known yet."""
        return self._recording.skew.ppm

    @property
    def failure(self) -> StorageFailed | None:
        """The error that keeps the recording from being written, if any."""
        return self._writer.failure

    @property
    def format(self) -> AudioFormat | None:
        """The format of the recording's latest part; None until the recording begins."""
        return self._writer.format

    @property
    def codec_name(self) -> str | None:
        """The name of the recording's codec; None until the first packet decides it."""
        if self._interrupted is not None:
            return self._interrupted.info.codec
        return None if self.codec is None else self.codec.name

    @property
    def left_out_s(self) -> float:
        """Sound that came too fast and was left out, in seconds."""
        return self._recording.left_out_s

    @property
    def written(self) -> int:
        """Bytes of the recording and its ledger, approximately."""
        return self._writer.written(self._recording.length)

    def find_codec(self, codecs: Mapping[int, CodecParameters]) -> CodecParameters | None:
        """Return the recording's codec among those of a connection."""
        return next((item for item in codecs.values() if item.name == self.codec_name), None)

    def resume(self, interrupted: InterruptedRecording) -> None:
        """Continue a recording whose process was killed, as soon as packets come."""
        self._interrupted = interrupted
        self._writer.resume(interrupted)
        self._connection = interrupted.connections

    def decode(self, items: Sequence[TrackItem]) -> None:
        """Decode items to runs of sound (the first step)."""
        ready: list[Slot] = []
        codec, decoder = self.codec, self._decoder
        mono_payloads = None if decoder is None else decoder.mono_payloads
        has_room = self._recording.has_room(len(items) * _MOST_S)  # the usual case
        for item in items if has_room else self._within_pace(items):
            if isinstance(item, RtpPacket):
                if decoder is None:
                    try:
                        codec, decoder = self._begin(item)
                    except PayloadInvalid:
                        self.rejected["payload"] += 1
                        continue
                    mono_payloads = decoder.mono_payloads
                if codec is None or item.payload_type != codec.payload_type:
                    # the packet was received before the first packet decided the codec
                    self.rejected["payload type"] += 1
                    item = Lost(1)
                elif mono_payloads is not None and (payload := item.payload):
                    if payload[0] & opus.STEREO:
                        self._reconstruct(ready)
                        ready = []
                        self._begin_stereo(decoder, codec, payload)
                        mono_payloads = decoder.mono_payloads
                    else:
                        mono_payloads.append(payload)
            elif isinstance(item, PacketWaits):
                if self._recording.is_holding:
                    self._reconstruct(ready)
                    ready = []
                    self.store()
                if decoder is not None:
                    timestamp = decoder.corrected(item.packet.timestamp)
                    self._apply(
                        self._recording.packet_waits(timestamp, arrived=item.packet.arrived)
                    )
                continue
            elif not isinstance(item, Lost):
                self._reconstruct(ready)
                ready = []
                self.store()
                if isinstance(item, SenderReport):
                    self._apply(self._recording.sender_reported(item))
                    continue
                if isinstance(item, _LeftOut):
                    self._apply(self._recording.leave_out(item.length_s, now=item.arrived))
                    self._restart_reconstruction()
                    continue
                self._break_off(item)
                codec = self.codec
                if not isinstance(item, Restarted):
                    continue
            if decoder is not None:  # nothing was lost before the first packet
                ready.append(item)
        self._reconstruct(ready)

    def _within_pace(self, items: Sequence[TrackItem]) -> Sequence[TrackItem | _LeftOut]:
        """Take out the packets for whose sound there is no room, before they are decoded."""
        kept: list[TrackItem | _LeftOut] = []
        left_out: _LeftOut | None = None
        claimed, codecs = 0.0, self._codecs
        for item in items:
            if isinstance(item, ConnectionChanged):
                codecs = item.codecs
            if not isinstance(item, RtpPacket):
                kept.append(item)
                continue
            length_s = claimed_s(codecs[item.payload_type], item.payload)
            if left_out is None:
                if self._recording.has_room(claimed + length_s, now=item.arrived):
                    claimed += length_s
                    kept.append(item)
                    continue
                left_out = _LeftOut(0.0, item.arrived)
                kept.append(left_out)
            left_out.length_s += length_s
        return kept

    def store(self) -> None:
        """Place runs on the timeline and pass them to the store (the second step)."""
        runs, self._runs = self._runs, []
        for run in runs:
            self._apply(self._recording.add(run))

    def poll(self, *, now: float) -> None:
        """Store what was held back for packets that do not arrive."""
        self._apply(self._recording.poll(now=now))
        if self._judge is not None:
            self._writer.carry_out(self._judge.poll(now=now))

    async def end(
        self,
        reason: EndReason,
        *,
        now: float,
        left_out: Counter[str],
        rejected: Counter[str],
        retransmitted: int = 0,
    ) -> CompletedRecording | None:
        """Complete the recording; return None if there was no sound.

        `left_out` and `rejected` count the packets that the receiver did not pass on, by reason,
        for the ledger, and `retransmitted` those that were lost and arrived when asked for. Raises
        `StorageFailed` when the recording could not be completed.
        """
        if self._interrupted is not None:  # the client has not reconnected
            return await self._end_interrupted(self._interrupted, reason)
        self._apply(self._recording.anchor())
        if self._judge is not None:
            self._writer.carry_out(self._judge.release())
        self._note_counts(left_out, rejected, now)
        effects = self._recording.end(reason, now=now)
        self._apply(effects)
        if retransmitted and self._writer.is_open:
            event = LedgerEvent("retransmitted", self._recording.length, {"count": retransmitted})
            self._apply([Noted(event, now)])
        # the store may have failed to create the recording: then there is nothing to complete
        if not effects or not self._writer.is_open:
            return None
        return await self._writer.finish(reason, now=now)

    async def _end_interrupted(
        self, interrupted: InterruptedRecording, reason: EndReason
    ) -> CompletedRecording:
        if reason is EndReason.SHUTDOWN:
            reason = EndReason.RECOVERED  # it ended earlier, with another process
        return await interrupted.writer.finish(reason, interrupted.ended_at)

    def _break_off(self, item: Restarted | SourceChanged | ConnectionChanged) -> None:
        """Break off the stream: what follows does not continue the sound before it."""
        match item:
            case Restarted():
                self._apply(self._recording.release())
                self._recording.restart("sequence")
            case SourceChanged(ssrc):
                self._apply(self._recording.release())
                # sound of the source before it may still be held back
                self._apply([SpoolChanged(self._spool_info)])
                self._restart_reconstruction()
                self._ssrc = ssrc
                self._recording.change_source(ssrc, may_overlap=self._is_new_connection)
                self._is_new_connection = False
            case ConnectionChanged(codecs, number, at, spool):
                self._spool_info = spool
                self._is_new_connection = number > 1
                self._restart_reconstruction()
                self._codecs = codecs
                if self.codec is not None:
                    self.codec = self.find_codec(codecs)
                self._connection = number
                if number > 1:
                    self._apply(self._recording.note("reconnected", now=at, attempt=number))

    def _restart_reconstruction(self) -> None:
        if self._decoder is not None:
            self._decoder.restart()

    def _reconstruct(self, slots: Sequence[Slot]) -> None:
        if slots:
            assert self._decoder is not None  # it exists from the first packet on
            self._runs += self._decoder.process(slots)

    def _begin(self, packet: RtpPacket) -> tuple[CodecParameters, TrackDecoder]:
        """Let the first packet decide codec and format. Raises `PayloadInvalid` if it cannot."""
        codec = self._codecs[packet.payload_type]
        if not packet.payload:
            raise PayloadInvalid("an empty packet")
        interrupted = self._interrupted
        if interrupted is not None and codec.name != interrupted.info.codec:
            raise PayloadInvalid("of another codec than the recording")
        info = (
            self._identity.new_recording(
                codec,
                packet.payload,
                started_at=self._writer.utc(packet.arrived),
                keep_packets=self._keep_packets,
                restore=RestoreMode.OFF if self._spool is None else self._spool.mode,
            )
            if interrupted is None
            else interrupted.info
        )
        self._writer.info, self.codec = info, codec
        is_judged = is_judged_by_sound(codec, info.container)
        self._decoder = decoder = TrackDecoder(
            codec,
            replace(info.format, channels=2) if is_judged else info.format,
            decoders=self._decoders,
            max_gap_s=self._max_gap_s,
            keeps_packets=info.container is Container.OGG,
        )
        if interrupted is None:
            if is_judged:
                self._judge = ChannelJudge(sample_rate_hz=info.format.sample_rate_hz)
            self._apply(self._recording.open(info.format, clock_rate_hz=codec.clock_rate_hz))
        else:
            if is_judged and info.format.channels == 1:
                self._judge_from(interrupted.length)
            self._continue(interrupted, codec, packet.arrived)
        return codec, decoder

    def _begin_stereo(self, decoder: TrackDecoder, codec: CodecParameters, payload: bytes) -> None:
        """Decode to two channels from this payload on, which is the first that has two."""
        assert self._writer.info is not None
        is_judged = is_judged_by_sound(codec, self._writer.info.container)
        if decoder.begin_stereo(payload, is_judged=is_judged) and is_judged:
            self._judge_from(self._recording.length)

    def _judge_from(self, position: int) -> None:
        """Let a judge decide whether a mono recording gets two channels after this position."""
        assert self._writer.info is not None
        rate_hz = self._writer.info.format.sample_rate_hz
        self._judge = ChannelJudge(sample_rate_hz=rate_hz, position=position, is_open=True)

    def _continue(
        self, interrupted: InterruptedRecording, codec: CodecParameters, now: float
    ) -> None:
        assert self._ssrc is not None
        assert self._decoder is not None
        self._interrupted = None
        self._writer.begun(interrupted.info.format)
        self._decoder.restart()  # the time before the first packet is not DTX
        self._recording.resume(
            interrupted.info.format,
            clock_rate_hz=codec.clock_rate_hz,
            progress=Progress(
                interrupted.length,
                self._writer.monotonic(interrupted.ended_at),
                interrupted.anchor,
                (interrupted.ended_at - interrupted.info.started_at).total_seconds(),
            ),
            ssrc=self._ssrc,
            now=now,
        )
        self._apply(self._recording.note("process restarted", now=now))
        self._apply(self._recording.note("reconnected", now=now, attempt=self._connection))

    def _apply(self, effects: Sequence[Effect]) -> None:
        self._writer.carry_out(effects if self._judge is None else self._judge.judge(effects))

    def _note_counts(self, left_out: Counter[str], rejected: Counter[str], now: float) -> None:
        """Tell the ledger how many packets were left out, if any were."""
        rejected = rejected + self.rejected
        if self._decoder is not None:
            rejected = rejected + self._decoder.rejected
        counts = left_out + Counter(
            {f"rejected_{reason.replace(' ', '_')}": n for reason, n in rejected.items()}
        )
        if counts and self._writer.is_open:
            event = LedgerEvent("packets left out", self._recording.length, dict(counts))
            self._apply([Noted(event, now)])
