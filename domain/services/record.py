"""From one session's packets to one recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from domain.audio import AudioFormat
from domain.detection import CodecParameters, detect_format
from domain.errors import PayloadInvalid
from domain.naming import recording_name
from domain.ports.clock import Clock
from domain.ports.codec import Decoder, DecoderFactory
from domain.ports.storage import RecordingInfo, RecordingStore, RecordingWriter
from domain.recording import (
    Appended,
    Effect,
    EndReason,
    Finished,
    GapFilled,
    Opened,
    Recording,
    State,
)
from domain.reorder import Lost, Received, ReorderBuffer, Restarted, Slot
from domain.rtp import ReceptionReport, ReceptionStatistics, RtpPacket


@dataclass(frozen=True, slots=True)
class FinishedRecording:
    """A recording that is complete."""

    location: str
    length: int
    """Samples per channel."""
    format: AudioFormat

    @property
    def seconds(self) -> float:
        return self.length / self.format.sample_rate_hz


class AudioTrackProcessor:
    """Processes each received packet: order, decode, place on the timeline, store.

    The format is detected with the first packet. Packets that cannot be used (another payload
    type than the first, an empty or broken payload) are counted in `rejected` and cost nothing
    but themselves: their time becomes silence, like that of packets that never came.
    """

    def __init__(
        self,
        *,
        session_id: str,
        client_name: str,
        codecs: Mapping[int, CodecParameters],
        decoders: DecoderFactory,
        store: RecordingStore,
        clock: Clock,
        reorder_hold_s: float,
        max_gap_s: float,
    ) -> None:
        self._session_id = session_id
        self._client_name = client_name
        self._codecs = codecs
        self._decoders = decoders
        self._store = store
        self._clock = clock
        self._reorder_hold_s = reorder_hold_s
        self._recording = Recording(max_gap_s=max_gap_s)
        self._codec: CodecParameters | None = None
        self._decoder: Decoder | None = None
        self._writer: RecordingWriter | None = None
        self._reorder = ReorderBuffer(hold_s=reorder_hold_s)
        self._statistics: ReceptionStatistics | None = None
        self.format: AudioFormat | None = None
        self.rejected: Counter[str] = Counter()

    def packet_received(self, packet: RtpPacket, *, now: float) -> None:
        """Take a packet that arrived at `now` (monotonic seconds)."""
        if self._recording.state is State.FINISHED:
            return
        codec = self._codecs.get(packet.payload_type)
        if codec is None or (self._codec is not None and codec is not self._codec):
            self.rejected["payload type"] += 1
            return
        if self._statistics is None or self._statistics.ssrc != packet.ssrc:
            self._change_source(packet.ssrc, codec, now=now)
        assert self._statistics is not None
        self._statistics.received(packet, now=now)
        self._consume(self._reorder.push(packet, now=now), now=now)

    def poll(self, *, now: float) -> None:
        """Let packets go that have waited long enough for the ones before them."""
        self._consume(self._reorder.poll(now=now), now=now)

    def reception_report(self) -> ReceptionReport | None:
        """What to tell the sender; None before the first packet."""
        return self._statistics.report() if self._statistics else None

    async def end(self, reason: EndReason, *, now: float) -> FinishedRecording | None:
        """Write what still waits and complete the recording; None when there was no sound.

        Raises `StorageFailed`.
        """
        self._consume(self._reorder.flush(), now=now)
        finished: FinishedRecording | None = None
        for effect in self._recording.end(reason):
            # after a fault in making it there is a recording, but nothing that could be finished
            if isinstance(effect, Finished) and self._writer and self.format:
                location = await self._writer.finish(effect.length, effect.reason)
                finished = FinishedRecording(location, effect.length, self.format)
        return finished

    def _change_source(self, ssrc: int, codec: CodecParameters, *, now: float) -> None:
        """A new SSRC has a sequence and a clock of its own (RFC 3550 § 3)."""
        self._consume(self._reorder.flush(), now=now)
        self._reorder = ReorderBuffer(hold_s=self._reorder_hold_s)
        self._recording.restart()
        self._statistics = ReceptionStatistics(ssrc, clock_rate_hz=codec.clock_rate_hz)

    def _consume(self, slots: list[Slot], *, now: float) -> None:
        for slot in slots:
            match slot:
                case Received(packet):
                    self._decode(packet, now=now)
                case Lost():
                    pass  # the next packet's timestamp says how much time is missing
                case Restarted():
                    self._recording.restart()

    def _decode(self, packet: RtpPacket, *, now: float) -> None:
        codec = self._codecs[packet.payload_type]
        try:
            if self._decoder is None:
                self._begin(codec, packet.payload)
            assert self._decoder is not None
            samples = self._decoder.decode(packet.payload)
        except PayloadInvalid:
            self.rejected["payload"] += 1
            return
        self._apply(self._recording.add(samples, timestamp=packet.timestamp, now=now))

    def _begin(self, codec: CodecParameters, first_payload: bytes) -> None:
        audio_format = detect_format(codec, first_payload)
        self._decoder = self._decoders(codec, audio_format)
        self._codec = codec
        self.format = audio_format
        self._apply(self._recording.open(audio_format, clock_rate_hz=codec.clock_rate_hz))

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Opened(audio_format):
                    self._writer = self._store.create(self._info(audio_format))
                case Appended(samples):
                    assert self._writer is not None
                    self._writer.append(samples)
                case GapFilled(length):
                    assert self._writer is not None
                    self._writer.append_silence(length)

    def _info(self, audio_format: AudioFormat) -> RecordingInfo:
        started_at = self._clock.utc()
        name = recording_name(
            started_at=started_at, client_name=self._client_name, session_id=self._session_id
        )
        return RecordingInfo(self._session_id, name, audio_format, started_at)
