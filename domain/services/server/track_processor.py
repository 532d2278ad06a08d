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
from domain.recording.recording import EndReason
from domain.rtp.packets import RtpPacket
from domain.rtp.reports import ReceptionReport
from domain.services.server.track_receiver import TrackReceiver
from domain.services.server.track_recorder import TrackIdentity, TrackRecorder
from domain.session.policy import SessionPolicy
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
    ) -> None:
        self._receiver = TrackReceiver(reorder_hold_s=policy.reorder_hold_s)
        self._recorder = TrackRecorder(
            identity,
            decoders=decoders,
            store=store,
            clock=clock,
            events=events,
            max_gap_s=policy.longest_gap_s,
            keep_packets=policy.keep_packets,
        )
        self._is_ended = False

    @property
    def failure(self) -> StorageFailed | None:
        """The error that keeps the recording from being written, if any."""
        return self._recorder.failure

    @property
    def format(self) -> AudioFormat | None:
        """The format of the recording; None before its first packet."""
        return self._recorder.format

    @property
    def rejected(self) -> Counter[str]:
        """Numbers of packets that could not be used, by reason."""
        return self._receiver.rejected + self._recorder.rejected

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
        self, codecs: Mapping[int, CodecParameters], *, number: int = 1, now: float
    ) -> None:
        """Expect packets of the session's `number`th connection."""
        recorder = self._recorder
        codec = None if recorder.codec is None else recorder.find_codec(codecs)
        self._receiver.connect(codecs, codec=codec, number=number, now=now)

    def packets_received(self, packets: Sequence[RtpPacket]) -> None:
        """Put packets, which come in the order of arrival, into order of sending."""
        if not self._is_ended:
            self._receiver.packets_received(packets)

    def poll(self, *, now: float) -> bool:
        """Release packets whose predecessors are overdue; return whether there are any."""
        return self._receiver.poll(now=now)

    def decode(self) -> None:
        """Decode the packets that are in order."""
        self._recorder.decode(self._receiver.collect())
        if (codec := self._recorder.codec) is not None:
            self._receiver.accept_only(codec)

    def store(self) -> None:
        """Pass the decoded sound to the store."""
        self._recorder.store()

    def reception_report(self) -> ReceptionReport | None:
        """Return what to report to the sender; None before the first packet."""
        return self._receiver.reception_report()

    async def end(self, reason: EndReason, *, now: float) -> CompletedRecording | None:
        """Write all waiting packets and complete the recording; None if there was no sound.

        Raises `StorageFailed` when the recording could not be completed.
        """
        self._is_ended = True
        self._receiver.flush()
        self.decode()
        self.store()
        receiver = self._receiver
        return await self._recorder.end(
            reason, now=now, left_out=receiver.left_out, rejected=receiver.rejected
        )
