"""One track with its processor and a scripted clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from adapters.codec.decoders import make_decoder
from domain.ports.storage import InterruptedRecording, RecordingStore
from domain.recording.completed import CompletedRecording
from domain.recording.effects import EndReason
from domain.rtp.packets import RtpPacket
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.policy import SessionPolicy
from domain.sound.detection import Stereo
from tests.fakes.events import SeenByServer
from tests.fakes.media import OPUS, PCMU
from tests.fakes.time import FakeClock

FRAME_S = 0.02


class OpusTrack:
    """A track of Opus packets, which arrive every 20 ms and are really decoded."""

    def __init__(
        self,
        store: RecordingStore,
        stereo: Stereo = Stereo.UNINVITED,
        *,
        fmtp: Mapping[str, str] | None = None,
        keep_packets: bool = False,
        former: OpusTrack | None = None,
        interrupted: InterruptedRecording | None = None,
    ) -> None:
        """`former` is the track of a process that was killed, whose client goes on here."""
        self.seen = SeenByServer()
        self.clock = FakeClock() if former is None else former.clock
        self.processor = AudioTrackProcessor(
            TrackIdentity(session_id="session", resume_digest="digest"),
            SessionPolicy(keep_packets=keep_packets),
            decoders=make_decoder,
            store=store,
            clock=self.clock,
            events=self.seen,
        )
        self._connections = 0
        self._next = 0 if former is None else former._next
        if interrupted is not None:
            self.processor.resume(interrupted)
        self.connect(stereo, fmtp)

    def connect(self, stereo: Stereo, fmtp: Mapping[str, str] | None = None) -> None:
        """Serve the track over another connection, on which this was negotiated."""
        self._connections += 1
        codec = replace(OPUS, stereo=stereo, fmtp=fmtp or {})
        self.processor.connect(
            {OPUS.payload_type: codec, PCMU.payload_type: PCMU},
            number=self._connections,
            now=self.clock.now,
        )

    def receive(self, payloads: Iterable[bytes]) -> None:
        """Receive payloads that follow each other."""
        for payload in payloads:
            packet = RtpPacket(
                OPUS.payload_type, self._next, self._next * 960, self._connections, payload
            )
            self._next += 1
            self.processor.packets_received([replace(packet, arrived=self.clock.now)])
            self.clock.advance(FRAME_S)
            self._process()

    def skip(self, packets: int) -> None:
        """Lose packets."""
        self._next += packets
        self.clock.advance(FRAME_S * packets)

    def wait(self, seconds: float) -> None:
        """Let time pass in which nothing arrives."""
        for _ in range(round(seconds / FRAME_S)):
            self.clock.advance(FRAME_S)
            self._process()

    def _process(self) -> None:
        self.processor.poll(now=self.clock.now)
        self.processor.decode()
        self.processor.store()

    async def end(self) -> CompletedRecording:
        completed = await self.processor.end(EndReason.CLOSED, now=self.clock.now)
        assert completed is not None
        return completed
