"""One track from its packets to its recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from domain.errors import StorageFailed
from domain.ports.clock import Clock
from domain.ports.codec import DecoderFactory
from domain.ports.events import EventPublisher
from domain.ports.storage import InterruptedRecording, RecordingStore
from domain.recording.completed import CompletedRecording
from domain.recording.effects import EndReason, Noted
from domain.recording.ledger import LedgerEvent
from domain.recording.restoring import SpoolInfo
from domain.rtp.packets import RtpPacket
from domain.rtp.rate import PacketRate
from domain.rtp.reports import ReceptionReport, SenderReport
from domain.services.server.spool_tracker import SpoolTracker
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_receiver import RetransmissionRequest, TrackReceiver
from domain.services.server.track_recorder import TrackRecorder
from domain.session.capture import CaptureEvent, capture_details
from domain.session.policy import SessionPolicy
from domain.session.status import TrackStatus
from domain.sound.detection import CodecParameters
from domain.sound.formats import AudioFormat


class AudioTrackProcessor:
    """Processes each received packet of a track by a receiver and a recorder.

    `packets_received` puts packets in order. `decode` and `store` process the ordered packets in
    two steps, so that many tracks can do each step together.
    """

    def __init__(
        self,
        identity: TrackIdentity,
        policy: SessionPolicy,
        *,
        decoders: DecoderFactory,
        store: RecordingStore,
        clock: Clock,
        events: EventPublisher,
        spool: SpoolTracker | None = None,
    ) -> None:
        """`spool` is told what is recorded, if the client keeps what it captures."""
        self._receiver = TrackReceiver(reorder_hold_s=policy.reorder_hold_s)
        self._recorder = TrackRecorder(
            identity,
            decoders=decoders,
            store=store,
            clock=clock,
            events=events,
            max_gap_s=policy.longest_gap_s,
            max_fill_s=policy.max_fill_s,
            max_burst_s=policy.limits.max_burst_s,
            keep_packets=policy.keep_packets,
            spool=spool,
        )
        self._limits = policy.limits
        self._rate = PacketRate(
            per_s=policy.limits.max_packets_per_s, burst_s=policy.limits.max_burst_s
        )
        self._left_out = 0  # packets that its session left out
        self._is_ended = False
        self._capture: list[tuple[CaptureEvent, float]] = []  # before the recording begins
        self.capture_left_out = 0
        """What has happened to the microphone, but is not in the ledger: the number of events."""

    @property
    def failure(self) -> StorageFailed | None:
        """The error that keeps the recording from being written, if any."""
        return self._recorder.failure

    @property
    def format(self) -> AudioFormat | None:
        """The format of the recording; None before its first packet."""
        return self._recorder.format

    @property
    def codec_name(self) -> str | None:
        """The name of the recording's codec; None before its first packet."""
        return self._recorder.codec_name

    @property
    def rejected(self) -> Counter[str]:
        """Numbers of packets that could not be used, by reason."""
        return self._received_rejected + self._recorder.rejected

    @property
    def _received_rejected(self) -> Counter[str]:
        return +(self._receiver.rejected + Counter({"rate": self._rate.excess + self._left_out}))

    @property
    def has_begun(self) -> bool:
        """Whether there is a recording."""
        return self._recorder.codec_name is not None

    def resume(self, interrupted: InterruptedRecording) -> None:
        """Continue a recording whose process was killed, as soon as packets come."""
        self._recorder.resume(interrupted)

    def can_record(self, codecs: Mapping[int, CodecParameters]) -> bool:
        """Return whether packets of these codecs can continue the recording."""
        recorder = self._recorder
        return recorder.codec_name is None or recorder.find_codec(codecs) is not None

    def connect(
        self,
        codecs: Mapping[int, CodecParameters],
        *,
        number: int = 1,
        now: float,
        spool: SpoolInfo | None = None,
    ) -> None:
        """Expect packets of the session's `number`th connection."""
        recorder = self._recorder
        codec = None if recorder.codec is None else recorder.find_codec(codecs)
        self._receiver.connect(codecs, codec=codec, number=number, now=now, spool=spool)

    def packets_received(self, packets: Sequence[RtpPacket]) -> bool:
        """Put packets, which come in the order of arrival, into order of sending.

        Return whether packets are missing before them.
        """
        if self._is_ended:
            return False
        return self._receiver.packets_received(self._rate.admit(packets) if packets else ())

    def leave_out(self, count: int) -> None:
        """Count packets that were left out, since all tracks together have too many."""
        self._left_out += count

    @property
    def abuse(self) -> str | None:
        """What the sender keeps on doing that no microphone does, if anything."""
        limits = self._limits
        if self._recorder.left_out_s > limits.max_burst_s:
            return "it sent far more sound than time has passed"
        if self._rate.excess > self._rate.burst:
            return f"it sent more than {limits.max_packets_per_s:g} packets a second"
        return None

    @property
    def written(self) -> int:
        """Bytes of the recording and its ledger, approximately."""
        return self._recorder.written

    @property
    def is_incomplete(self) -> bool:
        """Whether packets wait for one that is missing."""
        return not self._is_ended and self._receiver.is_incomplete

    def request_missing(self, *, now: float) -> RetransmissionRequest | None:
        """Return the request to send now for packets that are missing, if any is due."""
        return None if self._is_ended else self._receiver.request_missing(now=now)

    def packet_repeated(self, ssrc: int, sequence: int, *, now: float) -> None:
        """Note that a packet has arrived again: a request for it was needless."""
        self._receiver.packet_repeated(ssrc, sequence, now=now)

    def poll(self, *, now: float) -> bool:
        """Release packets whose predecessors are overdue; return whether there are any.

        Also stores the sound that was held back after a pause, if no packets follow it.
        """
        self._recorder.poll(now=now)
        return self._receiver.poll(now=now)

    def sender_reported(self, report: SenderReport) -> bool:
        """Note a sender report; return whether it is about the source that is recorded."""
        return not self._is_ended and self._receiver.sender_reported(report)

    def decode(self) -> None:
        """Decode the packets that are in order."""
        self._recorder.decode(self._receiver.collect())
        if (codec := self._recorder.codec) is not None:
            self._receiver.accept_only(codec)

    def store(self) -> None:
        """Pass the decoded sound to the store."""
        self._recorder.store()
        if self._capture:
            self._note_capture()

    def capture_reported(self, event: CaptureEvent, *, now: float) -> None:
        """Note what has happened to the microphone where the recording is now, or begins."""
        if not self._is_ended:
            self._capture.append((event, now))
            self._note_capture()

    def _note_capture(self) -> None:
        writer = self._recorder.writer
        if not writer.is_open:
            return
        position, told = writer.meter.position, self._capture
        self._capture = []
        for event, now in told:
            noted = LedgerEvent("capture", position, capture_details(event))
            writer.carry_out([Noted(noted, now)])

    def reception_report(self) -> ReceptionReport | None:
        """Return what to report to the sender; None before the first packet."""
        return self._receiver.reception_report()

    def status(self, number: int, *, since: int | None) -> TrackStatus:
        """Return what the track is like; it has this number in its session.

        Levels are those of the sound recorded since a position, or else of the latest second.
        """
        recorder, writer, meter = self._recorder, self._recorder.writer, self._recorder.writer.meter
        reception, info = self._receiver.reception, writer.info
        audio_format = recorder.format or (None if info is None else info.format)
        return TrackStatus(
            number=number,
            recording=None if info is None else info.id,
            codec=recorder.codec_name,
            sample_rate_hz=0 if audio_format is None else audio_format.sample_rate_hz,
            channels=0 if audio_format is None else audio_format.channels,
            length=meter.position,
            levels=meter.levels(since=since),
            kinds=meter.kinds,
            recent_kinds=meter.recent_kinds,
            lost=reception.lost,
            expected=reception.expected,
            jitter_s=reception.jitter_s,
            clock_ppm=recorder.clock_ppm,
            stalls=meter.stalls,
            fault=None if recorder.failure is None else str(recorder.failure),
        )

    async def end(self, reason: EndReason, *, now: float) -> CompletedRecording | None:
        """Write all waiting packets and complete the recording; None if there was no sound.

        Raises `StorageFailed` when the recording could not be completed.
        """
        self._is_ended = True
        self._receiver.flush()
        self.decode()
        self.store()
        writer = self._recorder.writer
        if self.capture_left_out and writer.is_open:
            details = {"what": "left out", "count": self.capture_left_out}
            noted = LedgerEvent("capture", writer.meter.position, details)
            writer.carry_out([Noted(noted, now)])
        receiver = self._receiver
        return await self._recorder.end(
            reason,
            now=now,
            left_out=receiver.left_out,
            rejected=self._received_rejected,
            retransmitted=receiver.retransmitted,
        )
